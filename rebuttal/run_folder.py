"""What a run leaves in its folder. Files appear whole: written aside, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import traceback
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

import rebuttal
from rebuttal.errors import as_one_line
from rebuttal.files import write_bytes, write_json, write_text
from rebuttal.progress import console, wide_console
from rebuttal.session import Session
from rebuttal.stages.stage import Outcome, Stage
from rebuttal.store import Artifact, fingerprint

# Top-level keys that do not tell configurations apart.
NOT_COMPARED = {
    "seed",
    "shape",  # the datasets that have the choice say it again
    "store",
    "device",
    "force",
    "objective",
    "checkpoint",
    "batch_size",
    "threads",
    "jobs_per_gpu",
    "on_failure",
    "packages",
    "tracker",
}
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # both write the same, one of them fast
PACKAGES = ("torch", "numpy", "scipy", "pandas", "hydra-core", "omegaconf", "safetensors")


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config without the keys in which runs of one configuration may differ."""
    return {key: _without_seeds(value) for key, value in config.items() if key not in NOT_COMPARED}


def _without_seeds(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_seeds(value) for key, value in node.items() if key != "seed"}
    return [_without_seeds(item) for item in node] if isinstance(node, list) else node


def configuration(config: dict[str, Any]) -> str:
    """A fingerprint that is equal for runs which differ in their seed only."""
    return fingerprint(comparable(config))


class RunFolder:
    """`metrics.json` (flat, `<stage>/<measure>`; null: undefined or censored), `history.csv` (a row an epoch
    and stage), `<stage>.csv` (measure by function) and `<stage>.npz` (values by probe) of stages that measure,
    `figures/<stage>_<figure>.png`, `config.yaml` (resolved), `provenance.json`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def finished(self, config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any] | None:
        """The metrics, where the folder holds a finished run of this config on this data; else null."""
        try:
            provenance = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
            metrics = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = _meant(config, stages, session)
        if (self.folder / "error.txt").exists() or any(provenance.get(key) != value for key, value in same.items()):
            return None
        console.print(f"nothing to do: {self.folder} holds this run", soft_wrap=True)
        return metrics

    def found_again(self, config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any] | None:
        """The metrics of this run where an earlier one, in whatever folder, was kept in the store; its files are
        then written here too. Else null."""
        kept = session.store.get("run", _run_identity(stages, session))
        if kept is None:
            return None
        self._make_way(stages)
        for name, content in kept.tensors.items():
            write_bytes(self.folder / name, content.numpy().tobytes())
        self._write_what_it_was(config, stages, session)
        metrics = kept.record["metrics"]
        write_json(self.folder / "metrics.json", metrics)
        return metrics

    def write(
        self, config: dict[str, Any], stages: dict[str, Stage], outcomes: dict[str, Outcome], session: Session
    ) -> None:
        self._make_way(stages)
        self._write_figures(stages, session)
        for name, outcome in outcomes.items():
            if outcome.table:
                frame = pd.DataFrame.from_dict(outcome.table, orient="index").rename_axis("measure")
                write_text(self.folder / f"{name}.csv", frame.to_csv())
            if outcome.arrays:
                arrays = {key: values.cpu().numpy() for key, values in outcome.arrays.items()}
                np.savez_compressed(self.folder / f"{name}.npz", **arrays)
        rows = [{"stage": name, **row} for name, outcome in outcomes.items() for row in outcome.history]
        if rows:
            write_text(self.folder / "history.csv", pd.DataFrame(rows).to_csv(index=False))
        self._write_what_it_was(config, stages, session)
        # Last, because whoever finds metrics takes the run for whole.
        metrics = {
            f"{name}/{key}": value for name, outcome in outcomes.items() for key, value in outcome.metrics.items()
        }
        write_json(self.folder / "metrics.json", metrics)
        self._keep(metrics, outcomes, stages, session)

    def _make_way(self, stages: dict[str, Stage]) -> None:
        """Nothing that an earlier run left here may pass for this one's. The metrics go first, because whoever finds
        them takes the run for whole."""
        figures = self.folder / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        names = ["metrics.json", "history.csv", *(f"{stage}.{kind}" for stage in stages for kind in ("csv", "npz"))]
        for path in [*(self.folder / name for name in names), *figures.glob("*.png")]:
            path.unlink(missing_ok=True)

    def _write_what_it_was(self, config: dict[str, Any], stages: dict[str, Stage], session: Session) -> None:
        write_text(self.folder / "config.yaml", yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
        write_json(self.folder / "provenance.json", _provenance(config, stages, session))
        (self.folder / "error.txt").unlink(missing_ok=True)  # of an earlier attempt

    def _keep(
        self, metrics: dict[str, Any], outcomes: dict[str, Outcome], stages: dict[str, Stage], session: Session
    ) -> None:
        """Put the run into the store, so that the same run elsewhere finds it whole."""
        names = ["history.csv", *(f"{stage}.{kind}" for stage in outcomes for kind in ("csv", "npz"))]
        paths = [path for name in names if (path := self.folder / name).exists()]
        paths += sorted((self.folder / "figures").glob("*.png"))
        files = {
            path.relative_to(self.folder).as_posix(): torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for path in paths
        }
        session.store.keep("run", _run_identity(stages, session), Artifact({"metrics": metrics}, files))

    def _write_figures(self, stages: dict[str, Stage], session: Session) -> None:
        for name, stage in stages.items():
            for title, figure in stage.figures(session).items():
                figure.savefig(self.folder / "figures" / f"{name}_{title}.png")

    def tell(self, outcomes: dict[str, Outcome], session: Session) -> None:
        """Say on the terminal what was found."""
        table = Table(title="What was found", show_lines=True)
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


def write_error(folder: str | Path, error: BaseException) -> None:
    """Leave `error.txt`: the one line where there is one, and the traceback."""
    lines = [as_one_line(error) or repr(error), "", *traceback.format_exception(error)]
    write_text(Path(folder) / "error.txt", "\n".join(lines))


def _provenance(config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    return {
        **_meant(config, stages, session),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
        "device": torch.cuda.get_device_name() if session.device.type == "cuda" else platform.processor() or "cpu",
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": torch.get_num_threads(),
        "configuration": configuration(config),
        "computed": session.store.made,
    }


def _meant(config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    """What makes a run this run and no other."""
    return {
        "rebuttal": rebuttal.__version__,
        "stages": {name: fingerprint(stage.identity(session)) for name, stage in stages.items()},
        "config": config,
    }


def in_store(stages: dict[str, Stage], session: Session) -> bool:
    """Whether the store holds this run whole."""
    return session.store.get("run", _run_identity(stages, session)) is not None


def _run_identity(stages: dict[str, Stage], session: Session) -> Any:
    """What decides the files of a run. The code as it stands is part of it: the figures, and numbers worked out
    from several artifacts, have no version of their own."""
    return {"code": _code(), "stages": {name: stage.identity(session) for name, stage in stages.items()}}


@cache
def _code() -> str:
    """A digest of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _git_revision() -> str | None:
    """The revision of the checkout that this code lies in, with `+changes` where files differ from it."""
    here = Path(__file__).parent
    try:
        revision = _git("rev-parse", "HEAD", cwd=here)
        return revision + ("+changes" if _git("status", "--porcelain", "-uno", cwd=here) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str, cwd: Path) -> str:
    found = subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return found.stdout.strip()
