"""Terminal output: the consoles, and progress as a bar on a terminal or, elsewhere, as a log line a minute."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.progress import track as _track

T = TypeVar("T")
# Text is shown as it is: rich would take packages=[mine] for a style, and :x: for a picture.
_LITERAL: dict[str, Any] = {"markup": False, "emoji": False}
console = Console(**_LITERAL)
wide_console = Console(width=max(console.width, 120), **_LITERAL)  # numbers are not truncated on a narrow terminal
log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 60


@contextmanager
def signs_replaced() -> Iterator[None]:
    """Within the block a sign that the encoding of the standard streams lacks is printed as an escape, e.g. `\\u03ba`;
    as a decorator, within the function."""
    before = [(s, s.errors) for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper) and not s.closed]
    for stream, _ in before:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in before:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield `items` while showing progress; in a thread that is not the main one, which has the terminal, in lines."""
    if console.is_terminal and threading.current_thread() is threading.main_thread():
        yield from _track(items, escape(description), console=console, transient=True)
        return
    logged = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - logged > SECONDS_BETWEEN_LINES:
            log.info("%s: %d of %d", description, done, len(items))
            logged = time.monotonic()
        yield item


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Within the block show a bar on a terminal; what is yielded sets how much of `total` is done."""
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(escape(description), total=total)
        yield lambda done: progress.update(task, completed=done)
