"""`plan=true`: what a command would train, and what that would cost, without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rebuttal.errors import ConfigError
from rebuttal.launch.expand import read_command
from rebuttal.launch.settings import jobs_per_task
from rebuttal.progress.console import track, wide_console
from rebuttal.store.identity import describe
from rebuttal.store.words import size_in_words as _size

if TYPE_CHECKING:
    from rich.table import Table

    from rebuttal.command.cost import Cost
    from rebuttal.stages.session import Session
    from rebuttal.stages.stage import Stage, Work

WORD = "plan="
COLUMNS = ("network", "inputs", "epochs", "count", "in store", "shared")  # followed by the cost of each
COSTS = ("parameters", "FLOP", "memory", "disk", "time")


def is_wanted(arguments: Sequence[str]) -> bool:
    """True if the command line contains `plan=true`. Raises `ConfigError` for another value than true or false."""
    values = [argument.removeprefix(WORD) for argument in arguments if argument.startswith(WORD)]
    for value in values:
        if value not in ("true", "false"):
            raise ConfigError(f"{WORD}{value}: allowed: true, false")
    return values[-1:] == ["true"]


@dataclass
class Network:
    """One network of the sweep, and how many jobs use it."""

    kind: str
    work: Work
    session: Session
    in_store: bool
    jobs: int = 0


@dataclass
class Forecast:
    """`finished`: jobs whose results are all stored. `networks`: by their names in the store. `others`: names of the
    stages that do not train. `per_task`: how many jobs share a task on SLURM. `undecided`: whether jobs choose their
    precision by a trial that cannot be made here."""

    jobs: int = 0
    finished: int = 0
    networks: dict[str, Network] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    per_task: int = 1
    undecided: bool = False

    def add(self, stages: dict[str, Stage], session: Session) -> None:
        """Add one job."""
        from rebuttal.runs.folder import in_store
        from rebuttal.stages.stage import trainings

        self.jobs += 1
        self.finished += in_store(stages, session)
        self.others |= {name for name, stage in stages.items() if stage.work(session) is None}
        for name, (stage, work) in trainings(stages.values(), session).items():
            if name not in self.networks:
                kind = name.partition("/")[0]
                there = session.store.get(kind, stage.identity(session)) is not None
                self.networks[name] = Network(kind, work, session, there)
            self.networks[name].jobs += 1


def forecast(arguments: Sequence[str]) -> Forecast:
    """The networks of the jobs that these arguments ask for. Raises `ConfigError`, and Hydra's errors, for what is
    wrong."""
    from rebuttal.runs.build import build_run, check, resolve
    from rebuttal.runs.precision import is_undecided
    from rebuttal.stages.session import Session

    request = read_command([argument for argument in arguments if not argument.startswith(WORD)])
    if request is None:
        raise ConfigError(f"{WORD}true: allowed beside it: overrides, -m, --config-dir")
    found = Forecast(per_task=jobs_per_task(request.composed.hydra.launcher) if request.folder else 1)
    sessions: dict[Any, Session] = {}  # shared by many jobs, so that a dataset is opened once
    for cfg in track(list(request.configs()), "plan"):
        config = resolve(cfg)
        undecided = is_undecided(config)
        settings, stages = build_run(config, request.packages(), request.may_try)
        found.undecided = found.undecided or (undecided and not request.may_try(settings.device))
        place = (settings.store, settings.force, settings.device, settings.threads)
        if place not in sessions:
            sessions[place] = Session(settings)
        check(stages, sessions[place])
        found.add(stages, sessions[place])
    return found


@dataclass(frozen=True)
class Row:
    """Networks that need the same work, whatever their seeds and labels, and the cost of each."""

    networks: list[Network]
    cost: Cost

    @property
    def missing(self) -> int:
        return sum(not network.in_store for network in self.networks)

    def cells(self) -> list[str]:
        first = self.networks[0]
        settings = {key: value for key, value in describe(first.work.model).items() if key != "kind"}
        model = " ".join(f"{key}={_in_short(value)}" for key, value in settings.items() if value != {})
        shared = sum(network.jobs > 1 for network in self.networks)
        return [
            f"{first.kind}: {type(first.work.model).__name__} {model}",
            f"{first.work.examples:,}",
            f"{'≤ ' if _may_stop(first.work) else ''}{first.work.recipe.epochs}",
            str(len(self.networks)),
            str(len(self.networks) - self.missing),
            str(shared),
            f"{self.cost.parameters:,}",
            f"{self.cost.flops:.1e}",
            _size(self.cost.memory),
            _size(self.cost.disk),
            _time(self.cost.seconds),
        ]


def _in_short(value: Any) -> Any:
    """A setting of a model; of one that is a class itself its name."""
    return value.get("kind", value) if isinstance(value, dict) else value


def rows(networks: Iterable[Network]) -> list[Row]:
    """Group networks by their work, and time a few steps of each kind of training."""
    alike: dict[str, list[Network]] = {}
    for network in networks:
        work = network.work
        what = [describe(work.model), work.recipe.identity(work.preprocess)]
        where = [network.kind, work.source.shape, work.source.classes, work.examples, work.evaluated, work.evaluations]
        alike.setdefault(str([*where, *what]), []).append(network)
    timed = track(list(alike.values()), "timing a few steps of each")
    return [Row(same, _cost(same[0])) for same in timed]


def _cost(network: Network) -> Cost:
    from rebuttal.command.cost import cost

    return cost(network.work, network.session.device, network.session.settings.threads)


def show(arguments: Sequence[str]) -> None:
    """Print the forecast."""
    found = forecast(arguments)
    table = rows(found.networks.values())
    wide_console.print(_table(table))
    for line in _in_words(found, table):
        wide_console.print(line, highlight=False, soft_wrap=True)


def _table(rows: Iterable[Row]) -> Table:
    from rich.table import Table

    table = Table(title="Networks, and the cost of each", show_edge=False)
    for column in (*COLUMNS, *COSTS):
        table.add_column(column, justify="left" if column == "network" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.cells())
    return table


def _in_words(found: Forecast, rows: Sequence[Row]) -> list[str]:
    networks = found.networks.values()
    to_train = [row for row in rows if row.missing]
    shared = sum(network.jobs > 1 for network in networks)
    stored = sum(network.in_store for network in networks)
    flops, disk, seconds = (
        sum(row.missing * getattr(row.cost, what) for row in to_train) for what in ("flops", "disk", "seconds")
    )
    at_most = "at most " if any(_may_stop(row.networks[0].work) for row in to_train) else ""
    lines = [
        f"jobs: {found.jobs}, of which {found.finished} are completely stored",
        f"networks: {len(networks)}, of which {stored} are stored; {shared} are shared by several jobs",
    ]
    if found.per_task > 1:
        lines.append(f"tasks on SLURM: {-(-found.jobs // found.per_task)}, of up to {found.per_task} jobs each")
    if to_train:
        memory = max(row.cost.memory for row in to_train)
        lines.append(
            f"networks to train: {len(networks) - stored}, {at_most}{flops:.1e} FLOP, {_size(memory)} of memory for "
            f"the largest, {_size(disk)} of disk, {at_most}{_time(seconds)} on {_device(networks)}, one after the other"
        )
    if found.undecided:
        lines.append(
            "training.precision=auto: each job decides where it runs; counted here as float32, so that networks may be "
            "stored, and times shorter, that are not so here"
        )
    if found.others:
        lines.append(f"not estimated: the measuring and drawing of the stages {', '.join(sorted(found.others))}")
    return [*lines, "nothing was run; remove plan=true to run it"]


def _may_stop(work: Work) -> bool:
    return work.recipe.stop_accuracy is not None or work.recipe.stop_loss is not None


def _device(networks: Iterable[Network]) -> str:
    import torch

    session = next(iter(networks)).session
    if session.device.type == "cuda":
        return torch.cuda.get_device_name(session.device)
    threads = session.settings.threads or torch.get_num_threads()
    return f"{threads} CPU thread{'s' if threads > 1 else ''}"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
