"""rebuttal: do networks that fit random labels still learn smooth, learnable functions?

From Python: `rebuttal.run("two_stage", ["model=resnet18", "seed=0"])` runs one experiment and returns its
metrics as a pandas frame; `rebuttal.run_baseline_replication()` repeats Zhang et al.'s main comparison.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rebuttal")
except PackageNotFoundError:  # an uninstalled checkout
    __version__ = "unknown"

__all__ = ["__version__", "run", "run_baseline_replication"]


def __getattr__(name: str):
    # Imported on first use: `python -m rebuttal.train --help` must not wait for torch and pandas.
    if name in ("run", "run_baseline_replication"):
        from rebuttal import api

        return getattr(api, name)
    raise AttributeError(f"module 'rebuttal' has no attribute '{name}'")
