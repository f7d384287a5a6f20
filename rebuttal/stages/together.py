"""Networks that runs need at the same time, trained as one or side by side; each then comes from the store."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Protocol, cast

import numpy as np
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
from rebuttal.training.side_by_side import (
    Task,
    in_parts,
    one_thread_each,
    side_by_side,
    without_the_longest,
)
from rebuttal.training.stack import alike, stackable
from rebuttal.training.trial import is_worth_it, trial

log = logging.getLogger(__name__)

MOST = 64  # networks in a stack: each holds a lock of the store, and a few frames of Python's stack
BYTES = 2**30  # of the inputs and weights of all members
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
    """Train what the stages need, and the store does not hold, in stacks where that is possible: first what needs no
    other network, then what needs those. What is left, or fails, trains alone when it is asked for.

    Processes that are given the same stages at the same time share the work: each takes what no other is at."""
    if session.settings.stack == "never":
        return
    every = {name: stage for name, (stage, _) in trainings(stages, session).items()}
    kinds = {name: kind for name, stage in every.items() if (kind := _kind(stage, session)) is not None}
    needs = {name: set(trainings(stage.needs(session), session)) for name, stage in every.items()}
    missing = set(every)
    todo = _groups(every, kinds, needs, session)
    whole = True  # groups without those that need what has failed, once nothing else is left
    while todo:
        busy, before = False, len(todo)
        missing -= {name for name in missing if _is_there(name, name in kinds, session)}
        for names in list(todo):
            ready = {name: every[name] for name in names if name in missing and missing.isdisjoint(needs[name])}
            if missing.intersection(names) - ready.keys() and (whole or not ready):
                continue
            waited_for = _waited_for(todo, missing, needs)
            if len(ready) < 2 and waited_for.isdisjoint(ready):
                todo.remove(names)
                continue
            with ExitStack() as stack:
                try:
                    stack.enter_context(session.store.claimed("trial", {"stack": names}))
                except Busy:
                    busy = True
                    continue
                except OSError:  # a store that can only be read: each stage says so when it is its turn
                    return
                _train_group(ready, waited_for, session)
            todo.remove(names)
            missing -= {name for name in missing if _is_there(name, name in kinds, session)}
        if len(todo) == before and busy:
            time.sleep(SECONDS_BETWEEN_TRIES)
        elif len(todo) == before and not whole:
            return
        else:
            whole = len(todo) < before


def _train_group(stages: dict[str, Stage], waited_for: set[str], session: Session) -> None:
    """Train stages as one, and those that were not, and that others wait for, alone."""
    if len(stages) > 1:
        _Stacks(session).train(list(stages.values()))
    for name, stage in stages.items():
        if name in waited_for and name not in session.store.made:
            with suppress(TrainingError):  # the stage raises it when it is its turn
                stage.run(session)


def _waited_for(groups: Iterable[list[str]], missing: set[str], needs: dict[str, set[str]]) -> set[str]:
    """The networks without which those that may be trained as one cannot begin."""
    left = [[name for name in names if name in missing] for names in groups]
    return {need for names in left if len(names) > 1 for name in names for need in needs[name]}


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
        kind = kinds.get(name)
        return -height(name), name if kind is None else "" if several else kind

    needed_by: dict[str, list[str]] = {name: [] for name in every}
    for name, own in needs.items():
        for need in own:
            needed_by[need].append(name)
    several = _threads(session) > 1
    groups: list[list[str]] = []
    for _, group in groupby(sorted(every, key=lambda name: (*key(name), kinds.get(name, ""), name)), key=key):
        names = list(group)
        size = sum(_bytes(cast(Work, every[name].work(session))) for name in names if name in kinds)
        parts = max(-(-len(names) // MOST), -(-size // BYTES))
        groups += [list(part) for part in np.array_split(names, parts)]
    return groups


def _threads(session: Session) -> int:
    """How many trainings may go on side by side."""
    return torch.get_num_threads() if session.device.type == "cpu" else 1


def _bytes(work: Work) -> int:
    """What a member adds to the memory of a stack: its inputs, and its weights with their copies, gradients and what an
    optimiser keeps of them."""
    weights = parameter_count(empty_network(work.model, work.preprocess, work.source))
    return 4 * (work.examples * math.prod(work.source.shape) + 8 * weights)


def _kind(stage: Stage, session: Session) -> str | None:
    """What stages have in common that can be trained as one; None for one that cannot, or that is not worth it."""
    work = stage.work(session)
    if work is None or not (hasattr(stage, "member") and hasattr(stage, "trained")):
        return None
    if session.settings.stack == "auto" and not is_worth_it(work.recipe, work.examples):
        return None
    if not stackable(empty_network(work.model, work.preprocess, work.source), work.recipe):
        return None
    if 2 * _bytes(work) > BYTES:
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
        threads = _threads(self.session)
        tasks: list[Task] = []
        for of in self._alike():
            parts = [self._task(part) for part in in_parts(of, threads)]
            if any(part.checkpoint.is_there() for part in parts) or _are_faster(parts, self.session):
                tasks += [part for part in parts if part.members]
            elif threads > 1:
                tasks += [Task([member]) for _, member in of]
        if threads == 1:
            for task in tasks:
                task.carry_out()
        elif len(tasks := without_the_longest(tasks, threads)) > 1:
            side_by_side(tasks, threads)

    def _alike(self) -> Iterable[list[tuple[str, Member]]]:
        found: dict[Any, list[tuple[str, Member]]] = {}
        for name, member in self.claimed.items():
            found.setdefault(alike(member), []).append((name, member))
        return found.values()

    def _task(self, of: list[tuple[str, Member]]) -> Task:
        """One member; or several, those that were interrupted as one, or else those that were not interrupted alone."""
        kind, names = of[0][0].partition("/")[0], [name for name, _ in of]
        interval = self.session.settings.checkpoint
        kept = Checkpoint() if interval is None else self.session.store.checkpoint(kind, {"as one": names}, interval)
        self.checkpoints.append(kept)
        every = len(of) == 1 or kept.is_there()
        return Task([member for _, member in of if every or not member.support.checkpoint.is_there()], kept)


def _are_faster(parts: Sequence[Task], session: Session) -> bool:
    """Whether the members of parts that are equal in size, but for one, train faster as one, by a trial that the
    machine makes once."""
    members = parts[0].members
    if len(members) < 2 or session.settings.stack == "always":
        return len(members) > 1
    where: dict[str, Any] = {key: machine()[key] for key in ("cpu", "gpu", "threads")}
    where |= {"device": session.device.type, "parts": len(parts)}
    asked = {"trial": "stack", "version": VERSION, **where, "members": len(members), "of": _facts(members[0])}
    try:
        with one_thread_each() if len(parts) > 1 else nullcontext():
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
