"""The entry point that computes: compose the config, check it, run its stages in order, leave the numbers.

    python -m rebuttal.train experiment=two_stage model=resnet18

`run(cfg)` is the same thing for Python callers. Nothing heavy is imported before there is work to do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError, as_one_line

_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"  # the user asks for tracebacks


def run(cfg: DictConfig, folder: str | Path | None = None) -> dict[str, Any]:
    """Run the stages of a composed config; returns `{"<stage>/<measure>": value}`.

    With `folder`, leaves there what a run leaves: metrics, history, figures, resolved config, provenance; a
    folder that already holds this very run is left as it is.
    Raises `ConfigError` before any training for a setting that cannot be used.
    """
    from rebuttal.plan import check, plan
    from rebuttal.run_folder import RunFolder
    from rebuttal.session import Session

    settings, stages = plan(cfg)
    session = Session(settings)
    check(stages, session)
    run_folder = None if folder is None else RunFolder(folder)
    if run_folder and not settings.force and (metrics := run_folder.finished(cfg, stages, session)):
        return metrics
    outcomes = {name: stage.run(session) for name, stage in stages.items()}
    if run_folder:
        run_folder.write(cfg, stages, outcomes, session)
    return {f"{stage}/{key}": value for stage, outcome in outcomes.items() for key, value in outcome.metrics.items()}


@hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")
def _job(cfg: DictConfig) -> Any:
    folder = HydraConfig.get().runtime.output_dir
    try:
        metrics = run(cfg, folder)
        return metrics if cfg.objective is None else _objective(metrics, cfg.objective)
    except Exception as error:
        from rebuttal.run_folder import write_error

        write_error(folder, error)
        if HydraConfig.get().mode == RunMode.RUN:
            _tell(error)
        raise  # a sweep goes on with its other jobs, and fails at its end


def _objective(metrics: dict[str, Any], name: str) -> Any:
    if name not in metrics:
        raise ConfigError(
            f"objective={name}: no such metric; allowed: a name in metrics.json, such as {next(iter(metrics))}"
        )
    return metrics[name]


def _tell(error: Exception) -> None:
    """For what the user can mend: print one line and exit with status 2."""
    line = as_one_line(error)
    if line is not None and not _FULL_ERROR:
        print(f"rebuttal: {line}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Run from the command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises to here, instead of printing and exiting
    try:
        _job()
    except Exception as error:
        _tell(error)
        raise
    finally:
        if not _FULL_ERROR:
            del os.environ["HYDRA_FULL_ERROR"]


if __name__ == "__main__":
    main()
