"""Trackers: where a run's curves and numbers go besides its folder, for those who watch many runs in one place."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from rebuttal.config import checked
from rebuttal.errors import ConfigError

log = logging.getLogger(__name__)

Numbers = dict[str, float]


class Log(Protocol):
    """One run in a tracker."""

    def at(self, training: str, step: int, values: Numbers) -> None:
        """What a training has come to after `step` optimiser steps."""

    def end(self, metrics: Numbers) -> None:
        """The run's numbers, by `<stage>/<measure>`. Nothing comes after them."""


@checked
class NoTracker:
    """Nobody is told; the run's folder has everything."""

    follows: ClassVar[bool] = False

    def check(self) -> None:
        """Raise `ConfigError` where the tracker cannot be used here."""

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        return None


@checked
class TensorBoard:
    """Event files in the run's folder."""

    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("tensorboard")

    def open(self, folder: Path, config: dict[str, Any]) -> Log:
        return _TensorBoardLog(folder, config)


class _TensorBoardLog:
    def __init__(self, folder: Path, config: dict[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in _flat(config).items()))

    def at(self, training: str, step: int, values: Numbers) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{training}/{name}", value, step)
        self._writer.flush()

    def end(self, metrics: Numbers) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"metrics/{name}", value)
        self._writer.close()


@checked
class MLflow:
    """A run of `experiment` at `uri`: a database, or a server's address. What goes on in the same folder goes on as
    the same run."""

    uri: str
    experiment: str
    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("mlflow")

    def open(self, folder: Path, config: dict[str, Any]) -> Log:
        return _MLflowLog(self, folder, config)


class _MLflowLog:
    def __init__(self, tracker: MLflow, folder: Path, config: dict[str, Any]):
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=tracker.uri)
        known = self._client.get_experiment_by_name(tracker.experiment)
        number = self._client.create_experiment(tracker.experiment) if known is None else known.experiment_id
        begun = self._client.search_runs([number], f"tags.folder = '{_name_of(folder)}'", max_results=1)
        run = begun[0] if begun else self._client.create_run(number, run_name=folder.name)
        self._run = run.info.run_id
        self._client.set_tag(self._run, "folder", _name_of(folder))
        for key, value in _flat(config).items() if not begun else ():
            self._client.log_param(self._run, key, str(value)[:500])

    def at(self, training: str, step: int, values: Numbers) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, f"{training}/{name}", value, step=step)

    def end(self, metrics: Numbers) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value)
        self._client.set_terminated(self._run)


@checked
class WandB:
    """A run of `project`. `offline`: in the run's folder, from which `wandb sync` sends it later."""

    project: str
    mode: Literal["offline", "online"]
    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("wandb")

    def open(self, folder: Path, config: dict[str, Any]) -> Log:
        return _WandBLog(self, folder, config)


class _WandBLog:
    def __init__(self, tracker: WandB, folder: Path, config: dict[str, Any]):
        import wandb

        silent = wandb.Settings(silent=True, console="off")
        about = {"project": tracker.project, "mode": tracker.mode, "name": folder.name, "id": _name_of(folder)}
        self._run = wandb.init(**about, dir=str(folder), config=config, settings=silent)
        self._known: set[str] = set()

    def at(self, training: str, step: int, values: Numbers) -> None:
        if training not in self._known:  # each training counts its own steps
            self._known.add(training)
            self._run.define_metric(f"{training}/*", step_metric=f"{training}/step")
        self._run.log({f"{training}/step": step, **{f"{training}/{name}": value for name, value in values.items()}})

    def end(self, metrics: Numbers) -> None:
        self._run.summary.update(metrics)
        self._run.finish()


class Follower:
    """Tells a tracker of one run: of each training while it goes on, at the end of every number. What goes wrong with
    the tracker is only said, and no run ends for it.

    `stages`: the stage's name by what it trains, `<kind>/<fingerprint>`; other trainings go by the latter.
    """

    def __init__(self, open_log: Callable[[], Log | None] = lambda: None, stages: dict[str, str] | None = None):
        self._log: Log | None = None
        self._stages = stages or {}
        self._seen: set[str] = set()
        self._log = self._carefully(open_log)

    def rows_of(self, made: str) -> Callable[[Numbers], None]:
        """Who is to be told each epoch's row of the training that makes this."""
        return lambda row: self._tell(self._stages.get(made, made), row)

    def stage_ended(self, name: str, history: list[dict[str, Any]]) -> None:
        """The history of a stage that was found in the store is told too."""
        for row in history if name not in self._seen else ():
            self._tell(name, row)

    def end(self, metrics: dict[str, Any]) -> None:
        if self._log is not None:
            self._carefully(lambda: self._log.end({key: v for key, v in metrics.items() if v is not None}))

    def _tell(self, training: str, row: Numbers) -> None:
        self._seen.add(training)
        if self._log is not None:
            values = {key: value for key, value in row.items() if key != "step"}
            self._carefully(lambda: self._log.at(training, row["step"], values))

    def _carefully(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            log.error("the tracker failed (%s: %s); the run goes on without it", type(error).__name__, error)
            self._log = None


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"tracker={package}: is not installed here; pip install 'rebuttal[{package}]'")


def _flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """`{"training.lr": 0.1, …}`"""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def _name_of(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
