"""Trackers (TensorBoard, MLflow, Weights & Biases, Trackio): a run's curves and metrics, besides its own folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from rebuttal.config import Offers, checked
from rebuttal.errors import ConfigError
from rebuttal.signals import signals_deferred

log = logging.getLogger(__name__)

T = TypeVar("T")

Numbers = dict[str, float]
End = Literal["finished", "failed", "killed"]


class TrackerLog(Protocol):
    """One run in a tracker."""

    def at(self, training: str, step: int, values: Numbers) -> None:
        """Log the values of a training after `step` optimiser steps."""

    def end(self, metrics: Numbers, how: End = "finished") -> None:
        """Log the run's metrics, by `<stage>/<measure>`, and close the log. `how` the run ended; `killed`: a signal
        stopped it, and the log may be opened again when it resumes."""


class Tracker(Protocol):
    """A config object of the group `tracker`."""

    follows: ClassVar[bool]  # False: there is nothing to notify

    def check(self) -> None:
        """Raise `ConfigError` if the tracker cannot be used here."""

    def open(self, folder: Path, config: dict[str, Any]) -> TrackerLog | None:
        """Start the log of the run in `folder`, or continue it. `config`: the resolved config."""


@checked
class NoTracker:
    """No tracker: the run's folder has everything."""

    follows: ClassVar[bool] = False

    def check(self) -> None:
        return None

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        return None


@checked
class TensorBoard:
    """Event files in the run's folder."""

    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("tensorboard")

    def open(self, folder: Path, config: dict[str, Any]) -> TrackerLog:
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

    def end(self, metrics: Numbers, how: End = "finished") -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"metrics/{name}", value)
        self._writer.add_text("end", how)
        self._writer.close()


@checked
class MLflow:
    """A run of `experiment` at `uri`: a database, or a server's address. A run that is
    resumed in the same folder is the same run."""

    uri: str
    experiment: str
    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("mlflow")

    def open(self, folder: Path, config: dict[str, Any]) -> TrackerLog:
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
        try:
            self._client.update_run(self._run, status="RUNNING")
            self._client.set_tag(self._run, "folder", _name_of(folder))
            for key, value in _flat(config).items() if not begun else ():
                self._client.log_param(self._run, key, str(value)[:500])
        except BaseException:
            self.end({}, "failed")
            raise

    def at(self, training: str, step: int, values: Numbers) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, f"{training}/{name}", value, step=step)

    def end(self, metrics: Numbers, how: End = "finished") -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value)
        self._client.set_terminated(self._run, how.upper())


@checked
class WandB:
    """A run of `project`. `offline`: kept in the run's folder, for `wandb sync`."""

    project: str
    mode: Literal["offline", "online"]
    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("wandb")

    def open(self, folder: Path, config: dict[str, Any]) -> TrackerLog:
        return _WandBLog(self, folder, config)


class _WandBLog:
    def __init__(self, tracker: WandB, folder: Path, config: dict[str, Any]):
        import wandb

        self._run = wandb.init(
            project=tracker.project,
            mode=tracker.mode,
            name=folder.name,
            id=_name_of(folder),
            dir=str(folder),
            config=config,
            reinit="create_new",  # never the run of an earlier job in this process
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._known: set[str] = set()

    def at(self, training: str, step: int, values: Numbers) -> None:
        if training not in self._known:  # each training counts its own steps
            self._known.add(training)
            self._run.define_metric(f"{training}/*", step_metric=f"{training}/step")
        self._run.log({f"{training}/step": step, **{f"{training}/{name}": value for name, value in values.items()}})

    def end(self, metrics: Numbers, how: End = "finished") -> None:
        self._run.summary.update(metrics)
        self._run.finish(exit_code={"finished": 0, "failed": 1, "killed": 130}[how])


@checked
class Trackio:
    """A run of `project` in Trackio's local database, or at `server`. A run that is resumed in the same folder is the
    same run. Trackio keeps no state of runs: how it ended is its last value `end`."""

    project: str
    server: str | None
    follows: ClassVar[bool] = True

    def check(self) -> None:
        _require("trackio")

    def open(self, folder: Path, config: dict[str, Any]) -> TrackerLog:
        return _TrackioLog(self, folder, config)


class _TrackioLog:
    def __init__(self, tracker: Trackio, folder: Path, config: dict[str, Any]):
        import trackio

        self._run = trackio.init(
            project=tracker.project,
            name=f"{folder.name}-{_name_of(folder)}",  # by which Trackio knows the run again
            resume="allow",
            config=_flat(config),
            server_url=tracker.server,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def at(self, training: str, step: int, values: Numbers) -> None:
        self._run.log({f"{training}/{name}": value for name, value in values.items()}, step=step)

    def end(self, metrics: Numbers, how: End = "finished") -> None:
        self._run.log({**metrics, "end": how})
        self._run.finish()


class Forwarder:
    """Forward a run's curves and final metrics to a tracker. Tracker errors are logged and never stop the run.

    `stages`: the stage's name by what it trains, `<kind>/<fingerprint>`; other trainings are named by the latter.
    """

    def __init__(self, open_log: Callable[[], TrackerLog | None] = lambda: None, stages: dict[str, str] | None = None):
        self._stages = stages or {}
        self._forwarded: set[str] = set()
        self._broken = False
        self._log: TrackerLog | None = None
        self._log = self._safely(open_log)

    def watcher(self, made: str) -> Callable[[Numbers], None]:
        """A function to call with each epoch's row of the training that makes `made`."""
        return lambda row: self._forward(self._stages.get(made, made), row)

    def stage_ended(self, name: str, history: list[dict[str, Any]]) -> None:
        """Forward the history of a stage that was found in the store."""
        for row in history if name not in self._forwarded else ():
            self._forward(name, row)

    @contextmanager
    def closed_at_end(self) -> Iterator[None]:
        """However the block ends, its log is closed: without metrics, unless `end` was called in it."""
        try:
            yield
        except BaseException as stop:
            self._close({}, "failed" if isinstance(stop, Exception) else "killed")
            raise

    def end(self, metrics: dict[str, Any]) -> None:
        """Forward the run's metrics and close its log."""
        self._close({key: value for key, value in metrics.items() if value is not None})

    def _close(self, metrics: Numbers, *how: End) -> None:
        if (log_ := self._log) is not None:  # also a tracker that has failed is to know how the run ended
            self._log = None
            self._safely(lambda: log_.end(metrics, *how))

    def _forward(self, training: str, row: Numbers) -> None:
        self._forwarded.add(training)
        if (log_ := self._log) is not None and not self._broken:
            values = {key: value for key, value in row.items() if key != "step"}
            self._safely(lambda: log_.at(training, int(row["step"]), values))

    def _safely(self, work: Callable[[], T]) -> T | None:
        try:
            with signals_deferred():  # what is interrupted may stay locked, and a destructor swallows what is raised
                return work()
        except Exception as error:  # a tracker's own errors can be of any kind
            if not self._broken:
                log.error("the tracker failed (%s: %s); the run continues without it", type(error).__name__, error)
            self._broken = True
            return None


TrackerOption = Annotated[Tracker, Offers("open", 2, "an option of the group tracker")]


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
