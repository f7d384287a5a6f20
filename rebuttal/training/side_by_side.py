"""Trainings side by side, each in a thread of its own that computes with one of torch's threads.

Threads that share the small products of one training wait for each other at every step; side by side they do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from rebuttal.errors import TrainingError, out_of_memory
from rebuttal.progress.console import bar
from rebuttal.signals import DeferredSignals, heeding, signals_deferred
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.training.losses import Margin
from rebuttal.training.member import Member
from rebuttal.training.stack import SEPARABLE, train_stacked

log = logging.getLogger(__name__)

GAIN = 1.3  # of all threads in one small training, over one
SMALL = 5e7  # products of a weight and an input in a step; above, all threads are of use to one training
OVERHEAD = 2.5e6  # of a step, in such products
SECONDS_BETWEEN_LOOKS = 0.1  # for signals


@dataclass(frozen=True, eq=False)
class Task:
    """Members that are trained as one, with the checkpoint of their stack; or one, that is trained alone."""

    members: list[Member]
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    @property
    def cost(self) -> float:
        """How long it takes at most, in products of a weight and an input."""
        return sum(_steps(member) * (_products(member) + OVERHEAD) for member in self.members)

    @property
    def fits_a_thread(self) -> bool:
        """Whether one thread is enough for it; a user's loss may draw from the random stream that threads share, and
        they share what torch has compiled."""
        ours = all(type(member.loss) in (*SEPARABLE, Margin) for member in self.members)
        apart = ours and all(member.recipe.compile is None for member in self.members)
        return apart and sum(map(_products, self.members)) <= SMALL

    def carry_out(self) -> None:
        """Train; each member has its history afterwards, or the error that ended it, or, if all as one do not fit into
        memory, neither.

        Members that have a checkpoint of their own, as they were interrupted alone or had ended, go on alone."""
        begun = [member.support.checkpoint.is_there() for member in self.members]
        if len(self.members) > 1:
            was_one = self.checkpoint.is_there()
            as_one = [member for member, is_begun in zip(self.members, begun) if was_one or not is_begun]
            _train_as_one(as_one, self.checkpoint)
        for member, is_begun in zip(self.members, begun):
            if (is_begun or len(self.members) == 1) and not member.history and member.failed is None:
                _train_alone(member)


def _products(member: Member) -> float:
    """How many products of a weight and an input a step takes forwards."""
    weights = sum(parameter.numel() for parameter in member.network.parameters())
    return float(weights * min(member.recipe.batch_size, len(member.inputs)))


def _steps(member: Member) -> int:
    return member.recipe.most_steps(len(member.inputs))


def _train_as_one(members: Sequence[Member], checkpoint: Checkpoint) -> None:
    if len(members) < 2:
        return
    log.info("%d networks are trained as one", len(members))
    try:
        train_stacked(members, checkpoint)
    except Exception as error:
        if not out_of_memory(error):
            raise
        log.warning("%d networks do not fit into memory as one: each is trained alone", len(members))
        for member in members:
            member.history.clear()


def _train_alone(member: Member) -> None:
    member.support = replace(member.support, keeps_end=True)
    try:
        member.train_alone()
    except TrainingError as error:
        member.failed = error


def without_the_longest(tasks: Sequence[Task], threads: int) -> list[Task]:
    """Return the tasks, the longest first, that end sooner side by side than one after the other with all threads each:
    without those that are so much longer than all others that threads would be idle."""
    chosen = sorted((task for task in tasks if task.fits_a_thread), key=lambda task: -task.cost)
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
    """Carry tasks out in this order, at most so many at a time.

    A signal that would end the process is deferred until each has saved its checkpoint. An error other than
    `TrainingError` ends all."""
    halt, progress = _Halt(), _Progress(tasks)
    left: set[Future[None]] = set()
    with (
        torch.random.fork_rng(devices=[]),  # a training that is resumed sets the stream's state
        one_thread_each(),
        bar(f"{sum(len(task.members) for task in tasks)} networks side by side", progress.total) as show,
        ThreadPoolExecutor(min(threads, len(tasks))) as pool,
    ):
        try:
            with signals_deferred():
                left |= {pool.submit(halt.heeded, task.carry_out) for task in tasks}
            while left:
                with signals_deferred() as deferred:
                    halt.heed(deferred)
                    while left and not deferred:
                        done, left = wait(left, SECONDS_BETWEEN_LOOKS)
                        for future in done:
                            future.result()
                        progress.report()
                        show(progress.done)
                    if deferred:
                        halt.begin()
                halt.end()
        except BaseException:
            with signals_deferred():
                halt.stop()
                for future in left:
                    future.cancel()
            raise


class _Progress:
    """The steps of all tasks, which their threads count and the main thread reports as those of one training."""

    def __init__(self, tasks: Sequence[Task]):
        self._steps = [0] * len(tasks)
        self.total = sum(max(map(_steps, task.members)) for task in tasks)
        self._report = tasks[0].members[0].support.progress
        for i, task in enumerate(tasks):
            for member in task.members:
                member.support = replace(member.support, progress=partial(self._count, i))

    def _count(self, task: int, step: int, steps: int) -> None:
        self._steps[task] = step

    @property
    def done(self) -> int:
        return sum(self._steps)

    def report(self) -> None:
        if self.done:
            self._report(self.done, self.total)


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
