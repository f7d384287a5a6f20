"""Deferral of signals that would end the process, so that no training step is left unfinished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # SIGUSR2: SLURM's, before a time-out or pre-emption

Handler = Callable[[int, FrameType | None], object] | int | None


class DeferredSignals:
    """The signals that arrived while they were deferred, and the handlers that they are meant for."""

    def __init__(self) -> None:
        self._signals: set[int] = set()
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
            self._signals.discard(number)
            signal.raise_signal(number)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._signals.add(number)


@contextmanager
def signals_deferred() -> Iterator[DeferredSignals]:
    """Within the block record the signals that would end the process; deliver them at its end."""
    deferred = DeferredSignals()
    deferred.defer()
    try:
        yield deferred
    finally:
        deferred.deliver()
