"""How a process of a run is stopped: everything open is closed first, and no worker outlives the command."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing.process import BaseProcess
from types import FrameType

SECONDS_BETWEEN_LOOKS = 1


class Terminated(BaseException):
    """SIGTERM."""


@contextmanager
def unwound_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated`, so that whatever is open is closed; then the process dies of it, as
    it would have at once. A handler that is there (submitit's, say) stays."""
    main = threading.current_thread() is threading.main_thread()  # Python sets handlers in the main thread only
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    except Terminated:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated


@cache
def stop_with_parent() -> None:
    """In a worker process: stop it, as SIGTERM does, once the process that started it is gone. Once for a process."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: BaseProcess) -> None:
    lives = partial(_is_parent, parent.pid) if _is_parent(parent.pid) else partial(_is_alive, parent)
    while lives():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_parent(number: int | None) -> bool:
    return os.getppid() == number


def _is_alive(parent: BaseProcess) -> bool:
    """Of one for which a server has forked this process. Also a process that nobody has waited for yet is not."""
    try:
        return parent.is_alive()
    except (TypeError, ValueError):  # there is no server: the parent was gone before the first look
        return False
