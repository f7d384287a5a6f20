"""What a run leaves in its folder. Files are written atomically, and none that is not the run's is touched."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from csv import DictWriter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rebuttal.errors import ConfigError, UserError, as_one_line
from rebuttal.progress.console import console, wide_console
from rebuttal.progress.status_file import LOCK, STATUS, is_lock, is_running, read_status
from rebuttal.rounding import significant
from rebuttal.runs.provenance import essence, needs, networks_used, provenance, run_identity
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Outcome, Stage
from rebuttal.store.entries import Artifact
from rebuttal.store.files import as_json, write_text
from rebuttal.store.needs import NEEDS
from rebuttal.store.written import Written, read_json

log = logging.getLogger(__name__)

LIST = ".files.json"
_STORED = re.compile(r"history\.csv|[\w-]+\.(csv|npz)|figures/[^/\0]+\.png")  # the files that the store keeps of a run
FIGURES_DONE = ".figures_done"  # a file that is there once all figures are drawn
LOG = "train.log"
ERROR = "error.txt"
# The overrides and the composed config, which from_run=… reads, in the folder and the format that Hydra has for them.
REQUEST = (".hydra/overrides.yaml", ".hydra/config.yaml", ".hydra/hydra.yaml")
LIVE = (LOG, ERROR)  # written while the run is going on, also by one that fails
FILES = ("metrics.json", "history.csv", "config.yaml", "provenance.json", FIGURES_DONE)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # both write the same; the C one is fast


@dataclass(frozen=True)
class Asked:
    """How a run was asked for: its overrides, the config that Hydra composed of them, Hydra's own node if a command was
    given (else None), and the config folders besides the package's own, as an override."""

    overrides: list[str]
    cfg: DictConfig
    hydra: Any = None
    searchpath: tuple[str, ...] = ()

    def files(self) -> dict[str, bytes]:
        found = {".hydra/overrides.yaml": OmegaConf.create(self.overrides), ".hydra/config.yaml": self.cfg}
        if self.hydra is not None:
            found[".hydra/hydra.yaml"] = OmegaConf.create({"hydra": self.hydra})
        return {name: OmegaConf.to_yaml(content).encode() for name, content in found.items()}


def as_path(given: Any, name: str) -> Path:
    """Return a path that a caller gave as the argument `name`, with `~` as the user's home. Raises `ConfigError` for
    what is none."""
    try:
        return Path(given).expanduser()
    except (TypeError, RuntimeError) as error:  # of a type that is no path's; of a user without a home
        why = f"{error}; " if isinstance(error, RuntimeError) else ""
        raise ConfigError(f"{name}={given!r}: {why}allowed: a path") from None


class RunFolder:
    """`metrics.json` (flat, `<stage>/<measure>`; null: undefined or censored), `history.csv` (a row an epoch
    and stage), `<stage>.csv` (measure by function) and `<stage>.npz` (values by probe) of stages that measure,
    `figures/<stage>_<figure>.png`, `config.yaml` (resolved), `provenance.json`, `.hydra/`, and `.files.json`, the list
    of all these. `setting`: the key that chose the folder, for messages."""

    def __init__(self, folder: str | Path, setting: str = "folder"):
        self.folder = as_path(folder, setting)
        self._files = Written(self.folder, LIST, f"{setting}={folder}", self._of_earlier_version)

    def check(self, stages: Iterable[str] = ()) -> None:
        """Raise `ConfigError` if a run of these stages would overwrite a file that no run of this tool wrote.

        If another is writing there now, it has to end before that can be known; then nothing is raised."""
        self._check_status()
        names = _names(stages)
        try:
            self._files.check(names)
        except ConfigError:
            if not is_running(self.folder):
                self._files.check(names)  # it may just have ended

    def claim(self, stages: Iterable[str] = ()) -> None:
        """List what a run writes while it is going on. Raises `ConfigError` as `check` does.

        A command calls it while it holds the folder's lock, so that no other reads or writes the list."""
        self._check_status()
        self._files.check(_names(stages))
        self._files.claim(LIVE)

    def _check_status(self) -> None:
        """Raise `ConfigError` if the lock or the status, which are not listed because they come first, are not a
        run's."""
        lock, status = self.folder / LOCK, self.folder / STATUS
        if os.path.lexists(lock) and not is_lock(lock):
            raise self._files.refused(lock)
        if os.path.lexists(status) and (status.is_symlink() or not _has_status(self.folder)):
            raise self._files.refused(status)

    @contextmanager
    def log(self, before: Iterable[logging.LogRecord] = ()) -> Iterator[None]:
        """While the block runs, append what is logged to `train.log`, after the records `before`."""
        handler = logging.FileHandler(self.folder / LOG, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
        for record in before:
            handler.handle(record)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def _of_earlier_version(self, content: Any) -> list[str] | None:
        """The files of a run of a version that kept no list, known by the keys of its `provenance.json`, `status.json`
        or `.hydra/hydra.yaml`; None for another `content` of the list."""
        if content is not None:
            return None
        provenance, begun = read_json(self.folder / "provenance.json"), _has_status(self.folder)
        finished = isinstance(provenance, dict) and {"rebuttal", "command", "config", "stages"} <= set(provenance)
        found = [*LIVE, *REQUEST] if finished or begun or _of_this_command(self.folder / REQUEST[-1]) else []
        if finished:
            paths = (path for pattern in _of_stages(provenance["stages"]) for path in self.folder.glob(pattern))
            found += [*FILES, *(path.relative_to(self.folder).as_posix() for path in paths)]
        return found

    def finished_metrics(
        self, config: dict[str, Any], stages: dict[str, Stage], session: Session
    ) -> dict[str, Any] | None:
        """Return the metrics if the folder holds a finished run of this config on this data, else None."""
        try:
            recorded = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
            metrics: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = essence(config, stages, session)
        if not (self.folder / FIGURES_DONE).exists():
            return None
        if (self.folder / ERROR).exists() or any(recorded.get(key) != value for key, value in same.items()):
            return None
        console.print(f"nothing to do: {self.folder} holds this run", soft_wrap=True)
        return metrics

    def restore(
        self, config: dict[str, Any], stages: dict[str, Stage], session: Session, asked: Asked | None = None
    ) -> dict[str, Any] | None:
        """Write the files of a run that the store holds, from whatever folder it came, and return its metrics; None
        if the store does not hold it."""
        stored = _stored(stages, session)
        if stored is None:
            return None
        metrics: dict[str, Any] = stored.record["metrics"]
        found = {name: content.numpy().tobytes() for name, content in stored.tensors.items()}
        handed = stored.record.get("entries", ())
        about = _about(config, stages, session, stored.record["networks"], asked, handed)
        self._replace(found | about | {"metrics.json": as_json(metrics), FIGURES_DONE: as_json(True)}, asked)
        self._files.discard([NEEDS])
        return metrics

    def begin(self, stages: dict[str, Stage], session: Session) -> None:
        """Write what the run needs of the store, so that nothing of it is pruned should the run be cut short."""
        self._files.write({NEEDS: as_json(needs(stages, session).content())})

    def write(
        self,
        config: dict[str, Any],
        stages: dict[str, Stage],
        outcomes: dict[str, Outcome],
        session: Session,
        asked: Asked | None = None,
    ) -> None:
        """Write everything that the run found, numbers first, and put the run into the store.

        A figure that fails is logged and named in `status.json`, and costs nothing else."""
        found = _numbers(outcomes)
        metrics = flat_metrics(outcomes)
        about = _about(config, stages, session, networks_used(session), asked)
        self._replace(found | about | {"metrics.json": as_json(metrics)}, asked)
        drawn = _drawn(metrics, found, stages, session)
        figures, failed = _figures(stages, session) if drawn is None else (drawn, [])
        session.status.figures_failed(failed)
        self._files.write(figures)
        if not failed:
            # Only now does the folder hold the run, and may the store: a rerun draws what is missing.
            self._files.write({FIGURES_DONE: as_json(True)})
            self._keep(metrics, found | figures, stages, session, anew=drawn is None)
        self._files.discard([NEEDS])

    def write_error(self, error: BaseException) -> None:
        """Write `error.txt`: the error in one line if it has one, and the traceback. Raises `ConfigError` if there is
        one that is not a run's."""
        self._files.check([ERROR])
        lines = [as_one_line(error) or repr(error), "", *traceback.format_exception(error)]
        write_text(self.folder / ERROR, "\n".join(lines))

    def write_request(self, asked: Asked) -> None:
        """Write how the run was asked for, so that it can be repeated even if it fails."""
        self._files.write(asked.files())

    def _replace(self, contents: dict[str, bytes], asked: Asked | None) -> None:
        """Nothing that an earlier run left here may pass for this one's. The metrics go first, because a folder with
        metrics counts as a finished run."""
        written_before = () if asked is None or asked.hydra is None else REQUEST
        self._files.remove(kept=[LOG, NEEDS, *written_before], first=["metrics.json"])
        self._files.write(contents)
        (self.folder / "figures").mkdir(exist_ok=True)

    def _keep(
        self, metrics: dict[str, Any], files: dict[str, bytes], stages: dict[str, Stage], session: Session, anew: bool
    ) -> None:
        """Put the run into the store, so that the same run in another folder finds it complete."""
        tensors = {name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in files.items()}
        record = {"metrics": metrics, "networks": networks_used(session), "entries": sorted(session.store.used)}
        record["drawn_by"] = _drawing_code()
        session.store.keep("run", run_identity(stages, session), Artifact(record, tensors), anew)

    def print_summary(self, outcomes: dict[str, Outcome], session: Session) -> None:
        """Print what the run found."""
        table = Table(title="Results", show_lines=True)
        table.add_column("stage", no_wrap=True)
        table.add_column("in words")
        for name, outcome in outcomes.items():
            if outcome.words:
                table.add_row(name, outcome.words)
        console.print(table)
        for name, outcome in outcomes.items():
            if outcome.shown:
                wide_console.print(_measure_table(name, outcome))
        made = len(session.store.made)
        console.print(f"{made} results computed in this run, all others came from the store ({session.store.root})")
        console.print(f"numbers: {self.folder / 'metrics.json'}", soft_wrap=True)
        if any((self.folder / "figures").glob("*.png")):
            console.print(f"pictures: {self.folder / 'figures'}", soft_wrap=True)


def flat_metrics(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """`{"<stage>/<measure>": value}`"""
    return {f"{stage}/{key}": value for stage, outcome in outcomes.items() for key, value in outcome.metrics.items()}


def in_store(stages: dict[str, Stage], session: Session) -> bool:
    """True if the store holds the complete run."""
    return _stored(stages, session) is not None


def _stored(stages: dict[str, Stage], session: Session) -> Artifact | None:
    """The files of the run in the store. It may have come from somebody else: names that lead elsewhere are refused."""
    stored = session.store.get("run", run_identity(stages, session))
    if stored is None or all(_STORED.fullmatch(name) for name in stored.tensors):
        return stored
    log.warning("the stored files of this run have names that no run writes: running it again")
    return None


def _names(stages: Iterable[str]) -> list[str]:
    """The listed files of a run, with patterns for those that are named after stages."""
    return [*LIVE, NEEDS, *REQUEST, *FILES, *_of_stages(stages)]


def _has_status(folder: Path) -> bool:
    """True if the `status.json` there is a run's."""
    try:
        return read_status(folder) is not None
    except UserError:
        return False


def _of_stages(stages: Iterable[str]) -> list[str]:
    """Patterns of the files that are named after stages."""
    return [pattern for stage in stages for pattern in (f"{stage}.csv", f"{stage}.npz", f"figures/{stage}_*.png")]


def _of_this_command(hydra: Path) -> bool:
    """True if Hydra wrote this file for this tool."""
    try:
        return "app_name: rebuttal\n" in hydra.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _about(
    config: dict[str, Any],
    stages: dict[str, Stage],
    session: Session,
    networks: dict[str, Any],
    asked: Asked | None,
    handed: Iterable[str] = (),
) -> dict[str, bytes]:
    """The files that say what the run is, where its numbers come from, and how to repeat it."""
    overrides = None if asked is None else [*asked.searchpath, *asked.overrides]
    origin = provenance(config, stages, session, networks, overrides, handed)
    resolved = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    # A command has written how it was asked for when it began.
    request = asked.files() if asked is not None and asked.hydra is None else {}
    return {"config.yaml": resolved, "provenance.json": as_json(origin), **request}


def _numbers(outcomes: dict[str, Outcome]) -> dict[str, bytes]:
    """The files of what the stages measured, and the history of their trainings."""
    found = {}
    for name, outcome in outcomes.items():
        if outcome.table:
            found[f"{name}.csv"] = _as_csv([{"measure": key, **row} for key, row in outcome.table.items()])
        if outcome.arrays:
            content = io.BytesIO()
            arrays = {key: values.cpu().numpy() for key, values in outcome.arrays.items()}
            np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # takes any names
            found[f"{name}.npz"] = content.getvalue()
    rows = [{"stage": name, **row} for name, outcome in outcomes.items() for row in outcome.history]
    return found | ({"history.csv": _as_csv(rows)} if rows else {})


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows by column; a value that is missing or None is left empty."""
    content = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = DictWriter(content, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue().encode()


def _figures(stages: dict[str, Stage], session: Session) -> tuple[dict[str, bytes], list[str]]:
    """Every stage's figures, and the stages whose figures failed."""
    found: dict[str, bytes] = {}
    failed = []
    for name, stage in stages.items():
        try:
            for title, figure in stage.figures(session).items():
                content = io.BytesIO()
                figure.savefig(content, format="png")
                found[f"figures/{name}_{title}.png"] = content.getvalue()
        except Exception as error:  # a drawing library's own errors can be of any kind
            log.error("the figures of stage %s failed (%s: %s)", name, type(error).__name__, error)
            failed.append(name)
    return found, failed


def _drawn(
    metrics: dict[str, Any], found: dict[str, bytes], stages: dict[str, Stage], session: Session
) -> dict[str, bytes] | None:
    """The figures of the run in the store, if the same code drew them of the same numbers."""
    stored = _stored(stages, session)
    if stored is None or stored.record.get("drawn_by") != _drawing_code() or stored.record["metrics"] != metrics:
        return None
    files = {name: tensor.numpy().tobytes() for name, tensor in stored.tensors.items()}
    figures = {name: files.pop(name) for name in list(files) if name.startswith("figures/")}
    return figures if files == found else None


def _drawing_code() -> dict[str, str]:
    """What decides a figure besides the numbers."""
    folders = (Path(__file__).parents[1] / name for name in ("figures", "stages"))
    code = b"".join(path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py")))
    return {"matplotlib": version("matplotlib"), "figures": hashlib.sha256(code).hexdigest()}


def _measure_table(stage: str, outcome: Outcome) -> Table:
    """The rows of a stage's table that are shown: measure by function."""
    functions = list(dict.fromkeys(f for key in outcome.shown for f in outcome.table[key]))
    table = Table(title=f"{stage}: all numbers are in {stage}.csv", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("measure", no_wrap=True)
    for function in functions:
        table.add_column(function.replace("_", "\n"), justify="right", no_wrap=True)
    for key in outcome.shown:
        values = (outcome.table[key].get(function) for function in functions)
        table.add_row(key, *("–" if value is None else significant(value, 3) for value in values))
    return table
