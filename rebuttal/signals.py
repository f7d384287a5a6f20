"""Deferral of signals that would end the process: no training step and no write of a tracker is left half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # SIGUSR2: SLURM's, before a time-out or pre-emption

Handler = Callable[[int, FrameType | None], object] | int | None

PATIENCE = 1.0  # seconds after a Ctrl-C from which another one is not deferred; wrappers pass on one twice at once


class DeferredSignals:
    """The signals that arrived while they were deferred, and the handlers that they are meant for."""

    def __init__(self) -> None:
        self._signals: dict[int, float] = {}  # when each came first
        self._handlers: dict[int, Handler] = {}

    def __bool__(self) -> bool:
        return bool(self._signals)

    def defer(self) -> None:
        """Record signals from now on instead of handling them; does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():  # Python sets handlers in the main thread only
            ours = [number for number in DEFERRED if signal.getsignal(number) is not None]  # else set by other code
            self._handlers = {number: signal.signal(number, self._record) for number in ours}

    def deliver(self) -> None:
        """Restore the previous handlers and re-raise the deferred signals. Returns if no handler exits.

        SIGUSR2 comes first: submitit requeues the job on it, and SLURM sends SIGTERM soon after."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number in sorted(self._signals, key=lambda number: number != signal.SIGUSR2):
            del self._signals[number]
            signal.raise_signal(number)

    def _record(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._signals.setdefault(number, now) > PATIENCE and number == signal.SIGINT:
            self.deliver()


_of_thread = threading.local()


@contextmanager
def heeding(deferred: DeferredSignals) -> Iterator[None]:
    """Within the block, in a thread that is not the main one, `signals_deferred` yields `deferred`, which its owner
    delivers: no signal arrives here."""
    _of_thread.deferred = deferred
    try:
        yield
    finally:
        del _of_thread.deferred


@contextmanager
def signals_deferred() -> Iterator[DeferredSignals]:
    """Within the block record the signals that would end the process; deliver them at its end. A second Ctrl-C is
    delivered at once, within the block; threads that train side by side still end their steps."""
    if hasattr(_of_thread, "deferred"):
        yield _of_thread.deferred
        return
    deferred = DeferredSignals()
    deferred.defer()
    try:
        yield deferred
    finally:
        deferred.deliver()
