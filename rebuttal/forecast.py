"""`plan=true`: what a command would do and what that would take, told before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rebuttal.asked import asked_for
from rebuttal.config import describe
from rebuttal.errors import ConfigError
from rebuttal.progress import track, wide_console

if TYPE_CHECKING:
    from rich.table import Table

    from rebuttal.cost import Cost
    from rebuttal.session import Session
    from rebuttal.stages.stage import Stage, Work

WORD = "plan="
COLUMNS = ("network", "inputs", "epochs", "count", "in store", "shared")  # then what each of them costs
COSTS = ("parameters", "FLOP", "memory", "disk", "time")


def is_wanted(arguments: Sequence[str]) -> bool:
    """Raises `ConfigError`."""
    said = [argument.removeprefix(WORD) for argument in arguments if argument.startswith(WORD)]
    for value in said:
        if value not in ("true", "false"):
            raise ConfigError(f"{WORD}{value}: allowed: true, false")
    return said[-1:] == ["true"]


@dataclass
class Network:
    """One network that there is to be, and how many jobs take it."""

    kind: str
    work: Work
    session: Session
    in_store: bool
    jobs: int = 0


@dataclass
class Forecast:
    """`finished`: jobs that the store holds whole. `networks`: by their names in the store. `others`: names of the
    stages that do more than train."""

    jobs: int = 0
    finished: int = 0
    networks: dict[str, Network] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def add(self, stages: dict[str, Stage], session: Session) -> None:
        """One job more."""
        from rebuttal.run_folder import in_store

        self.jobs += 1
        self.finished += in_store(stages, session)
        self.others |= {name for name, stage in stages.items() if not hasattr(stage, "work")}
        for name, stage in trainings(stages.values(), session).items():
            if name not in self.networks:
                kind = name.partition("/")[0]
                there = session.store.get(kind, stage.identity(session)) is not None
                self.networks[name] = Network(kind, stage.work(session), session, there)
            self.networks[name].jobs += 1


def trainings(stages: Iterable[Stage], session: Session) -> dict[str, Any]:
    """Every stage that trains a network for these stages, themselves or what they build on, by the name under which
    the store keeps it."""
    from rebuttal.store import name_of

    found: dict[str, Any] = {}
    for stage in stages:
        found |= trainings(stage.needs(session), session)
        if hasattr(stage, "work"):
            identity = stage.identity(session)
            found[name_of(identity["stage"], identity)] = stage
    return found


def forecast(arguments: Sequence[str]) -> Forecast:
    """Of the jobs that these arguments ask for. Raises `ConfigError`, and Hydra's errors, for what is wrong."""
    from rebuttal.plan import check, plain, plan
    from rebuttal.session import Session

    asked = asked_for([argument for argument in arguments if not argument.startswith(WORD)])
    found = Forecast()
    sessions: dict[Any, Session] = {}  # one for many jobs, so that a dataset is opened once
    for cfg in track(list(asked.configs()), "plan"):
        settings, stages = plan(plain(cfg), asked.packages())
        place = (settings.store, settings.force, settings.device, settings.threads)
        if place not in sessions:
            sessions[place] = Session(settings)
        check(stages, sessions[place])
        found.add(stages, sessions[place])
    return found


@dataclass(frozen=True)
class Row:
    """Networks that take the same work, whatever their seeds and labels, and what each of them costs."""

    networks: list[Network]
    cost: Cost

    @property
    def missing(self) -> int:
        return sum(not network.in_store for network in self.networks)

    def cells(self) -> list[str]:
        first = self.networks[0]
        settings = describe(first.work.model)
        model = " ".join(f"{key}={value}" for key, value in settings.items() if key != "kind")
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


def rows(networks: Iterable[Network]) -> list[Row]:
    """Takes some steps of each kind of training, to time them."""
    from rebuttal.cost import cost

    alike: dict[str, list[Network]] = {}
    for network in networks:
        work = network.work
        what = [describe(part) for part in (work.model, work.recipe)]
        where = [network.kind, work.source.shape, work.source.classes, work.examples, work.evaluated]
        alike.setdefault(str([*where, *what]), []).append(network)
    timed = track(list(alike.values()), "timing some steps of each")
    return [Row(same, cost(same[0].work, same[0].session.device)) for same in timed]


def show(arguments: Sequence[str]) -> None:
    """Tell it on the terminal."""
    found = forecast(arguments)
    told = rows(found.networks.values())
    wide_console.print(_table(told))
    for line in _in_words(found, told):
        wide_console.print(line, highlight=False, soft_wrap=True)


def _table(told: Iterable[Row]) -> Table:
    from rich.table import Table

    table = Table(title="The networks, and what each of them takes", show_edge=False)
    for column in (*COLUMNS, *COSTS):
        table.add_column(column, justify="left" if column == "network" else "right", overflow="fold")
    for row in told:
        table.add_row(*row.cells())
    return table


def _in_words(found: Forecast, told: Sequence[Row]) -> list[str]:
    networks = found.networks.values()
    to_train = [row for row in told if row.missing]
    shared = sum(network.jobs > 1 for network in networks)
    there = sum(network.in_store for network in networks)
    flops, disk, seconds = (
        sum(row.missing * getattr(row.cost, what) for row in to_train) for what in ("flops", "disk", "seconds")
    )
    at_most = "at most " if any(_may_stop(row.networks[0].work) for row in to_train) else ""
    said = [
        f"jobs: {found.jobs}, of which the store holds {found.finished} whole",
        f"networks: {len(networks)}, of which {there} are in the store; {shared} serve several jobs",
    ]
    if to_train:
        memory = max(row.cost.memory for row in to_train)
        said.append(
            f"networks to train: {len(networks) - there}, {at_most}{flops:.1e} FLOP, {_size(memory)} of memory for the "
            f"largest, {_size(disk)} of disk, {at_most}{_time(seconds)} on {_device(networks)}, one after the other"
        )
    if found.others:
        said.append(f"not estimated: what the stages {', '.join(sorted(found.others))} measure and draw")
    return [*said, "nothing was run; without plan=true the same command runs it"]


def _may_stop(work: Work) -> bool:
    return work.recipe.stop_accuracy is not None or work.recipe.stop_loss is not None


def _device(networks: Iterable[Network]) -> str:
    import torch

    device = next(iter(networks)).session.device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            return f"{count:.3g} {unit}"
        count /= 1024


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
