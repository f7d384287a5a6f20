"""Networks that a run needs at the same time, trained as one stack; each then comes from the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Protocol, cast

from rebuttal.errors import TrainingError
from rebuttal.stages.networks import empty_network
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage, Work, trainings
from rebuttal.store.entries import Artifact
from rebuttal.training.member import Member
from rebuttal.training.stack import alike, stackable, train_stacked

log = logging.getLogger(__name__)


class Trains(Protocol):
    """A stage that trains a network, in two halves."""

    def member(self, session: Session) -> Member:
        """Return the training, prepared."""

    def trained(self, member: Member, session: Session) -> Artifact:
        """Return the network and its record, once `member` was carried out."""


def train_together(stages: Iterable[Stage], session: Session) -> None:
    """Train what the stages need, and the store does not hold, in stacks where that is possible: first what needs no
    other network, then what needs those. What is left trains alone when it is asked for."""
    needed = trainings(stages, session)
    while True:
        ready = {n: stage for n, (stage, _) in needed.items() if not session.store.holds(n)}
        ready = {n: stage for n, stage in ready.items() if _has_what_it_needs(stage, session)}
        tried = [group for group in _groups(ready, session) if len(group) > 1]
        before = set(session.store.made)
        for group in tried:
            log.info("%d networks are trained as one", len(group))
            _train(group, [], session)
        if set(session.store.made) == before:
            return


def _has_what_it_needs(stage: Stage, session: Session) -> bool:
    return all(session.store.holds(name) for name in trainings(stage.needs(session), session))


def _groups(ready: dict[str, Stage], session: Session) -> Iterable[list[Stage]]:
    """The stages that can be trained as one, in an order that every process has."""
    possible = [(name, stage) for name, stage in sorted(ready.items()) if _can(stage, session)]
    by_kind = sorted(possible, key=lambda pair: _kind(pair[1], session))  # stable
    return [[stage for _, stage in of] for _, of in groupby(by_kind, key=lambda pair: _kind(pair[1], session))]


def _can(stage: Stage, session: Session) -> bool:
    work = stage.work(session)
    if work is None or not (hasattr(stage, "member") and hasattr(stage, "trained")):
        return False
    return stackable(empty_network(work.model, work.preprocess, work.source), work.recipe)


def _kind(stage: Stage, session: Session) -> str:
    work = cast(Work, stage.work(session))
    return str(
        (work.model, work.preprocess, work.source.shape, work.source.classes, work.examples, work.recipe.batch_size)
    )


def _train(rest: Sequence[Stage], claimed: list[tuple[Trains, Member]], session: Session) -> None:
    """Claim each stage's place in the store, one within the other; then train those that nobody else has trained."""
    if not rest:
        _train_claimed(claimed)
        return
    stage, called = cast(Any, rest[0]), []

    def make() -> Artifact:
        member = stage.member(session)
        called.append(member)
        claimed.append((stage, member))
        _train(rest[1:], claimed, session)
        if member.failed is not None:
            raise member.failed
        if not member.history:
            member.train_alone()
        return cast(Artifact, stage.trained(member, session))

    with suppress(TrainingError):  # the stage raises it when it is its turn, and the others go on
        session.store.get_or_make(stage.identity(session)["stage"], stage.identity(session), make)
    if not called:
        _train(rest[1:], claimed, session)


def _train_claimed(claimed: Sequence[tuple[Trains, Member]]) -> None:
    for of_kind in _alike([member for _, member in claimed]):
        if len(of_kind) > 1:
            train_stacked(of_kind)


def _alike(members: Sequence[Member]) -> list[list[Member]]:
    found: dict[Any, list[Member]] = {}
    for member in members:
        found.setdefault(alike(member), []).append(member)
    return list(found.values())
