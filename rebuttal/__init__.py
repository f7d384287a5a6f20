"""rebuttal: do networks that fit random labels still learn smooth, learnable functions?

`rebuttal.run("two_stage", ["model=resnet18", "seed=0"])` runs one experiment and returns its metrics as a pandas
frame; `rebuttal.load("outputs/runs/…")` gives the networks and numbers of a finished run;
`rebuttal.run_baseline_replication()` repeats the main comparison of Zhang et al. (2017).
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rebuttal.api import load, run, run_baseline_replication

try:
    __version__ = version("rebuttal")
except PackageNotFoundError:  # an uninstalled checkout
    __version__ = "unknown"

__all__ = ["__version__", "load", "run", "run_baseline_replication"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `python -m rebuttal.train --help` must not wait for torch and pandas.
    if name in ("load", "run", "run_baseline_replication"):
        import_module("rebuttal.errors").check_working_directory()
        return getattr(import_module("rebuttal.api"), name)
    raise AttributeError(f"module 'rebuttal' has no attribute '{name}'")
