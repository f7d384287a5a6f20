"""Trainings side by side, each in a thread of its own that computes with one of torch's threads.

Threads that share the small products of one training wait for each other at every step; side by side they do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from rebuttal.errors import TrainingError, out_of_memory
from rebuttal.progress.console import bar
from rebuttal.signals import DeferredSignals, heeding, signals_deferred
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.training.member import Member
from rebuttal.training.stack import train_stacked

T = TypeVar("T")
log = logging.getLogger(__name__)

GAIN = 1.3  # of all threads in one small training, over one
OVERHEAD = 2.5e6  # of a step, in products of a weight and an input
SECONDS_BETWEEN_LOOKS = 0.1  # for signals


@dataclass(frozen=True)
class Task:
    """Members that are trained as one, with the checkpoint of their stack; or one, that is trained alone."""

    members: list[Member]
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    @property
    def cost(self) -> float:
        """How long it takes at most, in products of a weight and an input."""
        return sum(map(_cost, self.members))

    def carry_out(self) -> None:
        """Train; each member has its history afterwards, or the error that ended it, or, if all as one do not fit into
        memory, neither."""
        if len(self.members) > 1:
            log.info("%d networks are trained as one", len(self.members))
            _train_as_one(self.members, self.checkpoint)
            return
        (member,) = self.members
        try:
            member.train_alone()
        except TrainingError as error:
            member.failed = error


def _cost(member: Member) -> float:
    recipe, n = member.recipe, len(member.inputs)
    weights = sum(parameter.numel() for parameter in member.network.parameters())
    steps = recipe.epochs * recipe.steps_per_epoch(n)
    return recipe.epochs * n * weights + steps * OVERHEAD


def _train_as_one(members: Sequence[Member], checkpoint: Checkpoint) -> None:
    try:
        train_stacked(members, checkpoint)
    except Exception as error:
        if not out_of_memory(error):
            raise
        log.warning("%d networks do not fit into memory as one: each is trained alone", len(members))
        for member in members:
            member.history.clear()


def in_parts(members: Sequence[T], threads: int) -> list[list[T]]:
    """Return the members in as many parts as there are threads for them."""
    parts = min(threads, len(members))
    return [list(members[i::parts]) for i in range(parts)]


def without_the_longest(tasks: Sequence[Task], threads: int) -> list[Task]:
    """Return the tasks, the longest first, that end sooner side by side than one after the other with all threads each:
    without those that are so much longer than all others that threads would be idle."""
    chosen = sorted(tasks, key=lambda task: -task.cost)
    while chosen and _longest(chosen, threads) > sum(task.cost for task in chosen) / GAIN:
        chosen.pop(0)
    return chosen


def _longest(tasks: Sequence[Task], threads: int) -> float:
    """How much the busiest thread has to do."""
    loads = [0.0] * threads
    for task in tasks:
        loads[loads.index(min(loads))] += task.cost
    return max(loads)


def side_by_side(tasks: Sequence[Task], threads: int) -> None:
    """Carry tasks out in this order, at most so many at a time; the first one reports its progress.

    A signal that would end the process is deferred until each has saved its checkpoint. An error other than
    `TrainingError` ends all."""
    halt, members = _Halt(), [member for task in tasks for member in task.members]
    for member in members[len(tasks[0].members) :]:
        member.support = replace(member.support, progress=lambda step, steps: None)
    epochs = sum(member.recipe.epochs for member in members)
    with (
        torch.random.fork_rng(devices=[]),  # a training that is resumed sets the stream's state
        one_thread_each(),
        bar(f"{len(members)} networks side by side", epochs) as show,
        ThreadPoolExecutor(min(threads, len(tasks))) as pool,
    ):
        left: set[Future[None]] = {pool.submit(halt.heeded, task.carry_out) for task in tasks}
        try:
            while left:
                with signals_deferred() as deferred:
                    halt.heed(deferred)
                    while left and not deferred:
                        done, left = wait(left, SECONDS_BETWEEN_LOOKS)
                        for future in done:
                            future.result()
                        show(sum(len(member.history) for member in members))
                    if deferred:
                        halt.begin()
                halt.end()
        except BaseException:
            for future in left:
                future.cancel()
            halt.stop()
            raise


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within the block torch computes with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Stopped(BaseException):
    """Ends a thread whose process ends."""


class _Halt(DeferredSignals):
    """Makes threads wait, each after a step and with its checkpoint saved, while the main thread delivers signals."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._arrived: DeferredSignals | None = None
        self._is_asked = False
        self._is_over = False
        self._working = 0  # threads that do not wait

    def __bool__(self) -> bool:
        return self._is_asked or bool(self._arrived)

    def deliver(self) -> None:
        """Wait until the main thread has delivered its signals. It calls `stop` if that ended it."""
        with self._changed:
            self._count(-1)
            self._changed.wait_for(lambda: self._is_over or not self)
            if self._is_over:
                self._count(1)  # `heeded` takes it off
                raise _Stopped
            self._count(1)

    def heeded(self, do: Callable[[], None]) -> None:
        """Do it, in a thread that waits when that is asked."""
        torch.set_num_threads(1)  # the matrix library has a number of its own in each thread
        with self._changed:
            self._count(1)
        try:
            with heeding(self):
                do()
        finally:
            with self._changed:
                self._count(-1)

    def heed(self, arrived: DeferredSignals) -> None:
        """Threads wait from when a signal has arrived until `end` or `stop`."""
        self._arrived = arrived

    def begin(self) -> None:
        """Return once every thread waits, or has ended."""
        with self._changed:
            self._is_asked = True
            self._changed.wait_for(lambda: self._working == 0)

    def end(self) -> None:
        """Let the threads go on."""
        with self._changed:
            self._is_asked, self._arrived = False, None
            self._changed.notify_all()

    def stop(self) -> None:
        """End every thread after its current step."""
        with self._changed:
            self._is_asked = self._is_over = True
            self._changed.notify_all()

    def _count(self, change: int) -> None:
        self._working += change
        self._changed.notify_all()
