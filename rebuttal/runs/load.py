"""A finished run, read back: its numbers from its folder, its networks from the store. Nothing is trained."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from csv import DictReader
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from inspect import signature
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from torch import Tensor, nn

from rebuttal.config import build, construct
from rebuttal.data.examples import Split
from rebuttal.device import configured
from rebuttal.errors import ConfigError, UserError, check_working_directory
from rebuttal.progress.trackers import NoTracker
from rebuttal.runs.folder import as_path
from rebuttal.runs.places import OF_DATA, datasets, from_here, is_here, is_ours, paths, started_in
from rebuttal.runs.project import find_project
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session, Settings
from rebuttal.stages.stage import Stage
from rebuttal.store.beside import LOGITS, SNAPSHOT, log_spaced, logits_identity, snapshot_identity
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import artifacts_in, name_of
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    import pandas as pd

HISTORY, METRICS, PROVENANCE = "history.csv", "metrics.json", "provenance.json"


def load(
    folder: str | Path,
    store: str | Path | None = None,
    device: str = "cpu",
    packages: Sequence[str] = (),
    root: str | Path | None = None,
) -> Run:
    """Return the finished run in `folder`: that of one run, or of one job of a sweep.

    `store`: where its networks are now, None for the store that it used. `root`: where its data are now, for the
    `root` or `path` of each dataset; None for where they were. `device`: `cpu`, `cuda` or `auto`, where its networks
    and inputs are put. `packages`: those that its config may name, as on the command line, besides those of the user's
    project; the folder itself makes nothing importable. Raises `ConfigError` for a folder without a finished run, and
    for a config that names what it may not.
    """
    check_working_directory()
    folder = as_path(folder, "folder")
    listed = _names(packages)
    provenance, metrics = _finished(folder, PROVENANCE), _finished(folder, METRICS)
    try:
        config = provenance["config"]
        nodes, used, seed, name = dict(config["stages"]), str(config["store"]), config["seed"], config["name"]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder}/{PROVENANCE}: lacks {error}; allowed: what a run of rebuttal wrote") from None
    began_in = started_in(folder)
    project = find_project()
    own = tuple(dict.fromkeys([*listed, *project.packages]))
    nodes = _placed(nodes, config, began_in, None if root is None else str(as_path(root, "root")))
    with project.importable(own):
        stages = {stage: build(node, f"stages.{stage}", own) for stage, node in nodes.items()}
    place = from_here(used, began_in) if store is None else str(as_path(store, "store"))
    settings = _settings(name=name, seed=seed, device=device, store=place)
    return Run(folder, config, metrics, stages, settings, _remedy(folder, store, listed))


@dataclass(frozen=True)
class Run:
    """A finished run. `folder`; `config`, resolved; `metrics`, `{"<stage>/<measure>": value}`; `stages`, the config
    objects by name.

    Parts of its stages are named by dotted paths: `teacher`, `hash_teacher.teacher`, `smoothness.functions.linear`.
    """

    folder: Path
    config: dict[str, Any] = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    stages: dict[str, Stage] = field(repr=False)
    settings: Settings = field(repr=False)
    remedy: str = field(repr=False)
    _sessions: dict[str, Session] = field(default_factory=dict, repr=False)

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch and stage that trained, as in `history.csv`; empty if none did."""
        import pandas as pd  # here, because it takes a third of a second that most commands need not wait

        path = self.folder / HISTORY
        if not path.exists():
            return pd.DataFrame()
        with path.open(newline="", encoding="utf-8") as file:  # pandas before version 3 rounds what it reads
            rows = list(DictReader(file))
        return pd.DataFrame([{k: v if k == "stage" else _number(v) for k, v in row.items()} for row in rows])

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that the stages wrote, `{"<stage>/<name>": array}`."""
        found: dict[str, np.ndarray] = {}
        for stage in self.stages:
            if (path := self.folder / f"{stage}.npz").exists():
                with np.load(path, allow_pickle=False) as arrays:
                    found |= {f"{stage}/{name}": arrays[name] for name in arrays.files}
        return found

    def network(self, path: str, device: str | None = None, step: int | None = None) -> nn.Module:
        """Return the trained network of a stage or function, in evaluation mode, on `device` (None: that of `load`).

        `step`: with the weights that a stage's network had after so many steps of its training: the last, or one that
        the run kept (`snapshots=log`). Raises `ConfigError` for a path to what has none and for a step that is not
        kept, `UserError` if the store does not hold it.
        """
        found = self.function(path, device)
        if not isinstance(found, nn.Module):
            raise ConfigError(f"{path}: is a function without a network; use function({path!r})")
        if step is not None:
            with self._naming(path):
                found.load_state_dict(self._weights(self._part(path), step, self._session(device)))
        return found

    def logits(self, path: str, device: str | None = None, step: int | None = None, keep: bool = False) -> Tensor:
        """Return the logits (n, K) of a network or function on its held-out inputs, on the CPU: those that were kept in
        the store, else computed on `device`.

        `keep` keeps them beside the network. Raises as `network` does, and `ConfigError` for `keep` of a function that
        is made of no network.
        """
        function = self.function(path, device) if step is None else self.network(path, device, step)
        session = self._session(device)
        identity = self._logits_identity(path, step, session)
        if keep and artifacts_in(identity) == {name_of(LOGITS, identity)}:
            raise ConfigError(
                f"{path}: keep=True: is made of no network; allowed: keep=False, or the path of a network"
            )
        kept = session.store.get(LOGITS, identity)
        if kept is not None:
            return kept.tensors["logits"]
        with configured(session.settings.device, None):
            logits = predict(function, self.inputs("test", path, device)[0]).cpu()
        if keep:
            session.store.keep(LOGITS, identity, Artifact({}, {"logits": logits}))
        return logits

    def function(self, path: str, device: str | None = None) -> Logits:
        """Return the function of a teacher, null function or stage that trains: from inputs to logits, both on
        `device` (None: that of `load`). Raises as `network` does."""
        part = self._part(path)
        method = _maker(part)
        if method is None:
            allowed = [name for name, other in self._parts() if _maker(other) is not None]
            raise ConfigError(f"{path}: is no network or function; allowed: {', '.join(allowed)}")
        with self._naming(path):
            session = self._session(device)
            with configured(session.settings.device, None):
                found: Logits = getattr(part, method)(session)
        return found

    def inputs(self, split: Split = "test", of: str | None = None, device: str | None = None) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of a split: `train` with the labels that were trained on (corrupted, if the run
        corrupts them), `student` or `test`.

        `of`: the path of the stage or function whose data it is, None for the first stage that trains a network.
        """
        if split not in get_args(Split):
            raise ConfigError(f"split={split}: allowed: {', '.join(get_args(Split))}")
        part = self._trained() if of is None else self._part(of)
        fit = _fit_of(part, of)
        session = self._session(device)
        if split == "train":
            examples = fit.training_examples(session)
        else:
            own = getattr(part, "dataset", None) if split == "student" else None
            examples = session.examples(own or fit.dataset, split, fit.data_seed)
        return examples.inputs, examples.labels

    def _weights(self, part: Any, step: int, session: Session) -> dict[str, Tensor]:
        """The weights of a stage's network after a step of its training."""
        if isinstance(step, bool) or not isinstance(step, Integral):
            raise ConfigError(f"step={step!r}: allowed: a whole number")
        if not callable(getattr(part, "work", None)) or part.work(session) is None:
            raise ConfigError(f"step={step}: allowed: for a stage that trains a network")
        identity = part.identity(session)
        trained = session.store.get(identity["stage"], identity)
        history = trained.record.get("history") if trained is not None else None
        last = history[-1]["step"] if history else 0
        if trained is not None and step == last:
            return trained.tensors
        names = {s: name_of(SNAPSHOT, snapshot_identity(identity, s)) for s in log_spaced(last)}
        found = session.store.get(SNAPSHOT, snapshot_identity(identity, step)) if step in names else None
        if found is None:
            steps = [*(s for s, name in names.items() if s != step and session.store.holds(name)), last]
            others = "" if len(steps) > 1 else f"; for others {self.remedy}, with snapshots=log force=true"
            raise ConfigError(f"step={step}: is not kept; allowed: {', '.join(map(str, steps))}{others}")
        return found.tensors

    def _logits_identity(self, path: str, step: int | None, session: Session) -> Any:
        part = self._part(path)
        fit = _fit_of(part, path)
        inputs = {"split": session.open(fit.dataset).identity("test"), "seed": fit.data_seed}
        return logits_identity(part.identity(session), step, inputs)

    def _session(self, device: str | None = None) -> Session:
        """Return what the run's stages share, on a device; its store computes nothing."""
        if not Path(self.settings.store).is_dir():  # datasets would make it, to keep decoded images
            raise UserError(f"there is no store {self.settings.store}; {self.remedy}")
        device = self.settings.device if device is None else str(device)
        if device not in self._sessions:
            given = {key.name: getattr(self.settings, key.name) for key in fields(self.settings)}
            self._sessions[device] = Session(construct(Settings, given | {"device": device}), remedy=self.remedy)
        return self._sessions[device]

    def _part(self, path: str) -> Any:
        found: Any = self.stages
        if not isinstance(path, str):
            raise ConfigError(f"{path!r}: allowed: the path of a stage or function, such as {next(iter(found), '')!r}")
        for name in path.split("."):
            inside = dict(_inside(found))
            if name not in inside:
                raise ConfigError(f"{path}: the run has no {name} there; allowed: {', '.join(inside) or 'nothing'}")
            found = inside[name]
        return found

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield every part of the stages with its path, stages first."""
        pending = list(_inside(self.stages))
        while pending:
            path, part = pending.pop(0)
            yield path, part
            pending += [(f"{path}.{name}", inner) for name, inner in _inside(part)]

    def _trained(self) -> Any:
        found = next((part for _, part in self._parts() if hasattr(part, "training_examples")), None)
        if found is None:
            raise ConfigError("of=None: no stage of this run trains a network; allowed: the path of one with data")
        return found

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise type(error)(f"{path}: {error}") from None


def _inside(part: Any) -> list[tuple[str, Any]]:
    """The config objects directly within one, by the names that a path calls them."""
    if isinstance(part, dict):
        named = [(str(name), value) for name, value in part.items()]
    elif isinstance(part, tuple):
        named = [(str(i), value) for i, value in enumerate(part)]
    else:
        named = [(f.name, getattr(part, f.name)) for f in fields(part)] if is_dataclass(part) else []
    return [(name, value) for name, value in named if isinstance(value, (dict, tuple)) or is_dataclass(value)]


def _maker(part: Any) -> str | None:
    """The method that gives a part's function from a session; a model's `network` takes other arguments."""
    for method in ("function", "network"):
        with suppress(TypeError, ValueError):  # no such method, or of other arguments
            signature(getattr(part, method, None)).bind(None)  # type: ignore[arg-type]
            return method
    return None


def _fit_of(part: Any, path: str | None) -> Any:
    """The stage that decides the data of the part at `path`."""
    if hasattr(part, "training_examples"):
        return part
    if hasattr(part, "fit"):
        return part.fit
    if not hasattr(part, "teacher"):
        raise ConfigError(f"{path}: has no data of its own; allowed: a stage that trains a network, or a function")
    return _fit_of(part.teacher, path)


def _names(packages: Any) -> tuple[str, ...]:
    names = (packages,) if isinstance(packages, str) else packages
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"packages={packages!r}: allowed: a list of names of packages")
    return tuple(names)


def _finished(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of a finished run."""
    allowed = "allowed: the folder of a finished run, or of a finished job of a sweep"
    if (folder / "sweep.json").exists():
        raise ConfigError(f"{folder}: is a sweep; allowed: the folder of one of its jobs, such as {folder / '0'}")
    if (folder / "error.txt").exists():
        raise ConfigError(f"{folder}: its run failed, see error.txt; {allowed}")
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder}: there is no {name}; {allowed}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{folder}/{name}: cannot be read ({error}); {allowed}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{folder}/{name}: is not what a run writes; {allowed}")
    return content


def _placed(nodes: dict[str, Any], config: Any, began_in: Path, root: str | None) -> dict[str, Any]:
    """The stages' nodes, whose datasets find their data: in `root`, or where they were. Raises `ConfigError` for a
    `root` that none of them has a key for."""
    placed = deepcopy(nodes)
    found = [(node, name) for node, name, _ in paths(placed, datasets(config))]
    if root is not None and not any(name in OF_DATA for _, name in found):
        raise ConfigError(f"root={root}: no dataset of this run has a key {' or '.join(OF_DATA)}; allowed: None")
    for node, name in found:
        if root is not None and name in OF_DATA:
            node[name] = root
        elif is_ours(node) or not is_here(began_in):  # the path of another may be part of its identity
            node[name] = from_here(node[name], began_in)
    return placed


def _settings(**given: Any) -> Settings:
    """Settings of a session that only reads; those of the run that decide no result have no part in it."""
    neutral = {"force": False, "objective": None, "checkpoint": None, "batch_size": "whole", "threads": None}
    launch = {"jobs_per_gpu": 1, "on_failure": "go_on", "tracker": NoTracker(), "packages": ()}
    settings: Settings = construct(Settings, neutral | launch | given)
    return settings


def _remedy(folder: Path, store: str | Path | None, packages: Sequence[str]) -> str:
    """In words, how to train what the store lacks."""
    if not (folder / ".hydra" / "overrides.yaml").exists():
        return "run again what made this folder (rebuttal.run with the same overrides)"
    words = [f"from_run={folder}"] + ([] if store is None else [f"store={store}"])
    words += [f"packages=[{','.join(packages)}]"] if packages else []
    return f"to train it: {shlex.join(['python', '-m', 'rebuttal.train', *words])}"


def _number(text: str) -> float | str:
    """The number that it is, else the text: a stage of the user's may write any."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text or "nan")
    return text
