"""What every stage offers a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from rebuttal.data.examples import Source
from rebuttal.session import Session
from rebuttal.training import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, float | int | bool | None]


@dataclass(frozen=True)
class Work:
    """What there is to do where a network is trained: on `examples` inputs, with `evaluated` inputs looked at after
    each epoch."""

    model: Any
    recipe: Recipe
    source: Source
    examples: int
    evaluated: int


@dataclass(frozen=True)
class Outcome:
    """What a stage found: named numbers (null: undefined or censored), a row an epoch, a sentence; from
    stages that measure several functions also a `table` (measure by function), of which the rows `shown` are
    told on the terminal, and `arrays` by name."""

    metrics: Metrics
    history: list[dict[str, Any]] = field(default_factory=list)
    words: str = ""
    table: dict[str, dict[str, float | None]] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    arrays: dict[str, Tensor] = field(default_factory=dict)


class Stage(Protocol):
    def check(self, session: Session) -> None:
        """Raise `ConfigError` for what cannot work, before anything is trained."""

    def identity(self, session: Session) -> Any:
        """JSON-able: everything that decides the outcome."""

    def needs(self, session: Session) -> Iterable[Stage]:
        """The stages whose results it takes, which are made first where they are not there."""

    def run(self, session: Session) -> Outcome: ...

    def figures(self, session: Session) -> dict[str, Figure]: ...
