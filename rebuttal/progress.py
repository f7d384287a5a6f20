"""A progress bar on a terminal, silence elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as _track

T = TypeVar("T")
console = Console()


def track(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield `items`; on a terminal with a bar that says what is being done."""
    if not console.is_terminal:
        yield from items
        return
    yield from _track(items, description, console=console, transient=True)
