"""Networks that runs need at the same time, trained as one or side by side; each then comes from the store."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Protocol, cast

import torch

from rebuttal.device import machine
from rebuttal.errors import TrainingError, out_of_memory
from rebuttal.stages.networks import empty_network, parameter_count
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage, Work, trainings
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.store.entries import SECONDS_BETWEEN_TRIES, Artifact, Busy
from rebuttal.store.identity import describe, name_of
from rebuttal.store.trials import kept_trial
from rebuttal.training.member import Member
from rebuttal.training.side_by_side import Task, side_by_side, without_the_longest
from rebuttal.training.stack import alike, stackable
from rebuttal.training.trial import is_worth_it, trial

log = logging.getLogger(__name__)

MOST = 64  # networks at a time: each holds a lock of the store, and a few frames of Python's stack
BYTES = 2**30  # of the inputs and weights of all of them
AT_A_TIME = 4  # trainings side by side: each holds Python's lock for a quarter of a step
ENOUGH = 8  # networks for each thread; other processes wait for no more
WIN = 0.9  # of the time one by one, below which a stack wins
VERSION = 2  # raised when the same stack and machine are to be tried again


class Trains(Protocol):
    """A stage that trains a network, in parts."""

    def member(self, session: Session) -> Member:
        """Return the training, prepared."""
        ...

    def trained(self, member: Member, session: Session) -> Artifact:
        """Return the network and its record, once `member` was carried out."""
        ...


def train_together(stages: Iterable[Stage], session: Session) -> None:
    """Train what the stages need, and the store does not hold, as one or side by side where that is possible: first
    what needs no other network, then what needs those. What is left, or fails, trains alone when it is asked for.

    Processes that are given the same stages at the same time share the work: each takes what no other is at."""
    if session.settings.stack == "never":
        return
    queue = _Queue(stages, session)
    whole = True  # groups without those that need what has failed, once nothing else is left
    while queue.groups:
        before = len(queue.groups)
        try:
            busy = queue.pass_through(whole)
        except OSError:  # a store that can only be read: each stage says so when it is its turn
            return
        if len(queue.groups) == before and busy:
            time.sleep(SECONDS_BETWEEN_TRIES)
        elif len(queue.groups) == before and not whole:
            return
        else:
            whole = len(queue.groups) < before


class _Queue:
    """What stages need and the store lacks, in groups of networks that can be trained as one, or of one network."""

    def __init__(self, stages: Iterable[Stage], session: Session):
        self.session = session
        self.every = {name: stage for name, (stage, _) in trainings(stages, session).items()}
        self.kinds = {name: kind for name, stage in self.every.items() if (kind := _kind(stage, session)) is not None}
        self.needs = {name: set(trainings(stage.needs(session), session)) for name, stage in self.every.items()}
        self.missing = set(self.every)
        self.groups = _groups(self.every, self.kinds, self.needs, session)
        self.enough = ENOUGH * _threads(session) if _threads(session) > 1 else 1  # networks to be trained at a time

    def pass_through(self, whole: bool) -> bool:
        """Train the groups that are ready, if `whole` those of which all are; return whether another process is at one.

        Raises `OSError` if the store can only be read."""
        busy = False
        self._look()
        for names in list(self.groups):
            ready = self._ready(names, whole)
            if names not in self.groups or (not ready and not self.missing.isdisjoint(names)):
                continue
            waited_for = self._waited_for()
            if not ready or (not self._may_be_together(ready) and waited_for.isdisjoint(ready)):
                self.groups.remove(names)
                continue
            with ExitStack() as claims:
                try:
                    self._claim(names, claims)
                except Busy:
                    busy = True
                    continue
                self._train(ready | self._beside(ready, whole, claims), waited_for)
            self._look()
        return busy

    def _look(self) -> None:
        """See what is stored by now."""
        self.missing -= {name for name in self.missing if _is_there(name, name in self.kinds, self.session)}

    def _ready(self, names: Sequence[str], whole: bool) -> dict[str, Stage]:
        """Those of a group that are missing and need nothing that is; if `whole`, none unless all are ready."""
        left = self.missing.intersection(names)
        ready = {name: self.every[name] for name in names if name in left and self.missing.isdisjoint(self.needs[name])}
        return ready if len(ready) == len(left) or not whole else {}

    def _may_be_together(self, group: dict[str, Stage]) -> bool:
        """Whether networks of a group may be trained as one, or beside others."""
        return len(group) > 1 or (self.enough > 1 and self.kinds.keys() >= group.keys())

    def _waited_for(self) -> set[str]:
        """The networks without which those that may be trained together cannot begin."""
        left = [{name: self.every[name] for name in names if name in self.missing} for names in self.groups]
        together = [name for group in left if group and self._may_be_together(group) for name in group]
        return {need for name in together for need in self.needs[name]}

    def _claim(self, names: list[str], claims: ExitStack) -> None:
        claims.enter_context(self.session.store.claimed("trial", {"stack": names}))
        self.groups.remove(names)

    def _beside(self, ready: dict[str, Stage], whole: bool, claims: ExitStack) -> dict[str, Stage]:
        """Claim further groups until the threads have enough to do; return what is ready of them."""
        further: dict[str, Stage] = {}
        if not self._may_be_together(ready):
            return further
        for names in list(self.groups):
            if len(ready) + len(further) >= self.enough:
                break
            more = self._ready(names, whole)
            together = ready | further | more
            if not more or not self.kinds.keys() >= more.keys():
                continue
            if len(together) <= MOST and self._bytes(together) <= BYTES:
                with suppress(Busy):
                    self._claim(names, claims)
                    further |= more
        return further

    def _bytes(self, stages: dict[str, Stage]) -> int:
        return sum(_bytes(cast(Work, stage.work(self.session))) for stage in stages.values())

    def _train(self, stages: dict[str, Stage], waited_for: set[str]) -> None:
        """Train stages together, and those that were not, and that others wait for, alone."""
        if len(stages) > 1:
            _Stacks(self.session).train(list(stages.values()))
        for name, stage in stages.items():
            if name in waited_for and name not in self.session.store.made:
                with suppress(TrainingError):  # the stage raises it when it is its turn
                    stage.run(self.session)


def _is_there(name: str, may_be_stacked: bool, session: Session) -> bool:
    """Whether a network is stored. One that may be stacked is read for that: if it is damaged, it is trained again with
    those that it was trained with."""
    if name in session.store.used:
        return True
    return session.store.is_whole(name) if may_be_stacked else session.store.holds(name)


def _groups(
    every: dict[str, Stage], kinds: dict[str, str], needs: dict[str, set[str]], session: Session
) -> list[list[str]]:
    """Return the names of stages that can be trained as one, or alone; what others need comes before all that nobody
    needs. They do not depend on what is stored, so that every process has the same."""

    @cache
    def height(name: str) -> int:
        return max((1 + height(other) for other in needed_by[name]), default=0)

    def key(name: str) -> tuple[int, str]:
        return -height(name), kinds.get(name, name)

    needed_by: dict[str, list[str]] = {name: [] for name in every}
    for name, own in needs.items():
        for need in own:
            needed_by[need].append(name)
    groups: list[list[str]] = []
    for _, group in groupby(sorted(every, key=lambda name: (*key(name), name)), key=key):
        names = list(group)
        most = min(MOST, BYTES // _bytes(cast(Work, every[names[0]].work(session)))) if names[0] in kinds else 1
        parts = -(-len(names) // most) if most >= 2 else len(names)
        groups += [names[i::parts] for i in range(parts)]
    return groups


def _threads(session: Session) -> int:
    """How many trainings may go on side by side."""
    return min(torch.get_num_threads(), AT_A_TIME) if session.device.type == "cpu" else 1


def _bytes(work: Work) -> int:
    """What a member adds to the memory of a stack: its inputs, its weights with their copies, gradients and what an
    optimiser keeps of them, and a step's inputs, outputs of layers and their gradients."""
    network = empty_network(work.model, work.preprocess, work.source)
    inputs, batch = math.prod(work.source.shape), min(work.recipe.batch_size, work.examples)
    outputs = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim == 1)  # a bias each
    return 4 * (work.examples * inputs + 8 * parameter_count(network) + batch * (2 * inputs + 3 * outputs))


def _kind(stage: Stage, session: Session) -> str | None:
    """What stages have in common that can be trained as one; None for one that cannot, or that is not worth it."""
    work = stage.work(session)
    if work is None or not (hasattr(stage, "member") and hasattr(stage, "trained")):
        return None
    if session.settings.stack == "auto" and not is_worth_it(work.recipe, work.examples):
        return None
    if not stackable(empty_network(work.model, work.preprocess, work.source), work.recipe):
        return None
    return str(
        (work.model, work.preprocess, work.source.shape, work.source.classes, work.examples, work.recipe.batch_size)
    )


class _NotAsOne(Exception):
    """A network is left to be trained alone, when it is asked for."""


@dataclass
class _Stacks:
    """Trainings whose places in the store are claimed, by these, and the checkpoints of their stacks."""

    session: Session
    claimed: dict[str, Member] = field(default_factory=dict)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def train(self, stages: Sequence[Stage]) -> None:
        """Train the stages together, and store what they train."""
        self._claim(stages)
        for checkpoint in self.checkpoints:
            checkpoint.remove()

    def _claim(self, rest: Sequence[Stage]) -> None:
        """Claim each stage's place in the store, one within the other, but for those that other processes are at; then
        train those that nobody else has trained."""
        if not rest:
            self._train_claimed()
            return
        stage = cast(Trains, rest[0])
        identity = rest[0].identity(self.session)
        name = name_of(identity["stage"], identity)

        def make() -> Artifact:
            self.claimed[name] = member = stage.member(self.session)
            self._claim(rest[1:])
            if member.failed is not None:
                raise member.failed
            if not member.history:
                raise _NotAsOne
            return stage.trained(member, self.session)

        with suppress(TrainingError, _NotAsOne, Busy):  # the stage trains, raises it, or waits, when it is its turn
            self.session.store.get_or_make(identity["stage"], identity, make, wait=False)
        if name not in self.claimed:
            self._claim(rest[1:])

    def _train_claimed(self) -> None:
        """Train all, decided by all, so that what was interrupted goes on in the same way; some are left for later."""
        tasks: list[Task] = []
        for of in self._alike():
            as_one = _are_faster(list(of.values()), self.session)
            for names in [list(of)] if as_one else [[name] for name in of]:
                tasks.append(Task([of[name] for name in names], self._checkpoint(names)))
        beside = without_the_longest(tasks, _threads(self.session))
        if len(beside) > 1:
            side_by_side(beside, _threads(self.session))
        for task in tasks:
            if task not in beside and len(task.members) > 1:
                task.carry_out()

    def _alike(self) -> Iterable[dict[str, Member]]:
        found: dict[Any, dict[str, Member]] = {}
        for name, member in self.claimed.items():
            found.setdefault(alike(member), {})[name] = member
        return found.values()

    def _checkpoint(self, names: list[str]) -> Checkpoint:
        """Where the state of the stack of these networks is kept; one that trains alone has its own."""
        interval = self.session.settings.checkpoint
        if interval is None or len(names) == 1:
            return Checkpoint()
        self.checkpoints.append(self.session.store.checkpoint(names[0].partition("/")[0], {"as one": names}, interval))
        return self.checkpoints[-1]


def _are_faster(members: Sequence[Member], session: Session) -> bool:
    """Whether these members train faster as one, by a trial that the machine makes once."""
    if len(members) < 2 or session.settings.stack == "always":
        return len(members) > 1
    where = {key: machine()[key] for key in ("cpu", "gpu", "threads")}
    where["device"] = session.device.type
    asked = {"trial": "stack", "version": VERSION, **where, "members": len(members), "of": _facts(members[0])}
    try:
        seconds = kept_trial(session.settings.store, asked, lambda: trial(members))
    except Exception as error:  # one that diverges in a few steps, or too many for the memory
        if isinstance(error, TrainingError) or out_of_memory(error):
            return False
        raise
    log.info("%d networks: %.3g s as one, %.3g s one by one", len(members), seconds["stacked"], seconds["alone"])
    return bool(seconds["stacked"] < WIN * seconds["alone"])


def _facts(member: Member) -> dict[str, Any]:
    """What decides the cost of a step."""
    shapes = [list(parameter.shape) for parameter in member.network.parameters()]
    recipe = member.recipe
    return {"shapes": shapes, "batch": min(recipe.batch_size, len(member.inputs)), "by": describe(recipe.optimizer)}
