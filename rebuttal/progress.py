"""What a long loop shows: a bar on a terminal, elsewhere a line in the log once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track as _track

T = TypeVar("T")
console = Console()
wide_console = Console(width=max(console.width, 120))  # numbers are not abridged where a terminal is narrow
log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 60


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield `items`, telling how far it has come."""
    if console.is_terminal:
        yield from _track(items, description, console=console, transient=True)
        return
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            log.info("%s: %d of %d", description, done, len(items))
            told = time.monotonic()
        yield item
