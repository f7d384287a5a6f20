"""What a run leaves in its folder. Files are written atomically."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rebuttal.errors import as_one_line
from rebuttal.progress.console import console, wide_console
from rebuttal.runs.provenance import essence, needs, networks_used, provenance, run_identity
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Outcome, Stage
from rebuttal.store.entries import Artifact
from rebuttal.store.files import write_bytes, write_json, write_text
from rebuttal.store.needs import NEEDS

log = logging.getLogger(__name__)

_WRITTEN = re.compile(r"history\.csv|[\w-]+\.(csv|npz)|figures/[^/\0]+\.png")  # the files that the store keeps of a run
FIGURES_DONE = ".figures_done"  # a file that is there once all figures are drawn
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # both write the same; the C one is fast


class RunFolder:
    """`metrics.json` (flat, `<stage>/<measure>`; null: undefined or censored), `history.csv` (a row an epoch
    and stage), `<stage>.csv` (measure by function) and `<stage>.npz` (values by probe) of stages that measure,
    `figures/<stage>_<figure>.png`, `config.yaml` (resolved), `provenance.json`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

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
        if (self.folder / "error.txt").exists() or any(recorded.get(key) != value for key, value in same.items()):
            return None
        console.print(f"nothing to do: {self.folder} holds this run", soft_wrap=True)
        return metrics

    def restore(self, config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any] | None:
        """Write the files of a run that the store holds, from whatever folder it came, and return its metrics; None
        if the store does not hold it."""
        stored = _stored(stages, session)
        if stored is None:
            return None
        self._remove_previous_run(stages)
        for name, content in stored.tensors.items():
            write_bytes(self.folder / name, content.numpy().tobytes())
        handed = stored.record.get("entries", ())
        self._write_config_and_provenance(config, stages, session, stored.record["networks"], handed)
        metrics: dict[str, Any] = stored.record["metrics"]
        write_json(self.folder / "metrics.json", metrics)
        write_json(self.folder / FIGURES_DONE, True)
        (self.folder / NEEDS).unlink(missing_ok=True)
        return metrics

    def begin(self, stages: dict[str, Stage], session: Session) -> None:
        """Write what the run needs of the store, so that nothing of it is pruned should the run be cut short."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / NEEDS, needs(stages, session).content())

    def write(
        self, config: dict[str, Any], stages: dict[str, Stage], outcomes: dict[str, Outcome], session: Session
    ) -> None:
        """Write everything that the run found, numbers first, and put the run into the store.

        A figure that fails is logged and named in `status.json`, and costs nothing else."""
        self._remove_previous_run(stages)
        for name, outcome in outcomes.items():
            if outcome.table:
                frame = pd.DataFrame.from_dict(outcome.table, orient="index").rename_axis("measure")
                write_text(self.folder / f"{name}.csv", frame.to_csv())
            if outcome.arrays:
                arrays = {key: values.cpu().numpy() for key, values in outcome.arrays.items()}
                np.savez_compressed(self.folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # takes any names
        rows = [{"stage": name, **row} for name, outcome in outcomes.items() for row in outcome.history]
        if rows:
            write_text(self.folder / "history.csv", pd.DataFrame(rows).to_csv(index=False))
        self._write_config_and_provenance(config, stages, session, networks_used(session))
        metrics = flat_metrics(outcomes)
        write_json(self.folder / "metrics.json", metrics)
        if self._write_figures(stages, session):
            # Only now does the folder hold the run, and may the store: a rerun draws what is missing.
            write_json(self.folder / FIGURES_DONE, True)
            self._keep(metrics, outcomes, stages, session)
        (self.folder / NEEDS).unlink(missing_ok=True)

    def _remove_previous_run(self, stages: dict[str, Stage]) -> None:
        """Nothing that an earlier run left here may pass for this one's. The metrics go first, because a folder with
        metrics counts as a finished run."""
        figures = self.folder / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        names = [
            "metrics.json",
            "history.csv",
            FIGURES_DONE,
            *(f"{stage}.{kind}" for stage in stages for kind in ("csv", "npz")),
        ]
        for path in [*(self.folder / name for name in names), *figures.glob("*.png")]:
            path.unlink(missing_ok=True)

    def _write_config_and_provenance(
        self,
        config: dict[str, Any],
        stages: dict[str, Stage],
        session: Session,
        networks: dict[str, Any],
        entries: Iterable[str] = (),
    ) -> None:
        write_text(self.folder / "config.yaml", yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
        write_json(self.folder / "provenance.json", provenance(config, stages, session, networks, entries))
        (self.folder / "error.txt").unlink(missing_ok=True)  # of an earlier attempt

    def _keep(
        self, metrics: dict[str, Any], outcomes: dict[str, Outcome], stages: dict[str, Stage], session: Session
    ) -> None:
        """Put the run into the store, so that the same run in another folder finds it complete."""
        names = ["history.csv", *(f"{stage}.{kind}" for stage in outcomes for kind in ("csv", "npz"))]
        paths = [path for name in names if (path := self.folder / name).exists()]
        paths += sorted((self.folder / "figures").glob("*.png"))
        files = {
            path.relative_to(self.folder).as_posix(): torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for path in paths
        }
        record = {"metrics": metrics, "networks": networks_used(session), "entries": sorted(session.store.used)}
        session.store.keep("run", run_identity(stages, session), Artifact(record, files))

    def _write_figures(self, stages: dict[str, Stage], session: Session) -> bool:
        """Draw every stage's figures; return True if all succeeded."""
        failed = []
        for name, stage in stages.items():
            try:
                for title, figure in stage.figures(session).items():
                    figure.savefig(self.folder / "figures" / f"{name}_{title}.png")
            except Exception as error:  # a drawing library's own errors can be of any kind
                log.error("the figures of stage %s failed (%s: %s)", name, type(error).__name__, error)
                failed.append(name)
        session.status.figures_failed(failed)
        return not failed

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
    if stored is None or all(_WRITTEN.fullmatch(name) for name in stored.tensors):
        return stored
    log.warning("the stored files of this run have names that no run writes: running it again")
    return None


def write_error(folder: str | Path, error: BaseException) -> None:
    """Write `error.txt`: the error in one line if it has one, and the traceback."""
    lines = [as_one_line(error) or repr(error), "", *traceback.format_exception(error)]
    write_text(Path(folder) / "error.txt", "\n".join(lines))


def _measure_table(stage: str, outcome: Outcome) -> Table:
    """The rows of a stage's table that are shown: measure by function."""
    functions = list(dict.fromkeys(f for key in outcome.shown for f in outcome.table[key]))
    table = Table(title=f"{stage}: all numbers are in {stage}.csv", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("measure", no_wrap=True)
    for function in functions:
        table.add_column(function.replace("_", "\n"), justify="right", no_wrap=True)
    for key in outcome.shown:
        values = (outcome.table[key].get(function) for function in functions)
        table.add_row(key, *("–" if value is None else f"{value:.3g}" for value in values))
    return table
