"""The interface of stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from torch import Tensor

from rebuttal.config import Offers
from rebuttal.data.dataset import Dataset, Source
from rebuttal.data.examples import Split
from rebuttal.errors import UserError
from rebuttal.models.model import Model
from rebuttal.models.preprocess import Preprocessing
from rebuttal.rounding import fixed
from rebuttal.stages.session import Session
from rebuttal.store.identity import code_of, name_of
from rebuttal.training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Read = tuple[Dataset, Split, int]
Metrics = dict[str, Any]  # numbers by name; None: undefined or censored


@dataclass(frozen=True)
class Work:
    """The training of a stage: on `examples` inputs, with `evaluated` inputs evaluated after `evaluations` of its
    epochs; `reads`: where these come from, with the seed."""

    model: Model
    preprocess: Preprocessing
    recipe: Recipe
    source: Source
    examples: int
    evaluated: int
    evaluations: int
    reads: tuple[Read, ...] = ()

    @property
    def smallest_batch(self) -> int:
        """The inputs in the smallest batch: those of an epoch differ by at most one."""
        return self.examples // self.recipe.steps_per_epoch(self.examples)

    @property
    def rehearsed(self) -> int:
        """The inputs of a step that is only tried: two, as batch-norm may not work on one, unless batches have one."""
        return min(2, self.smallest_batch)


@dataclass(frozen=True)
class Outcome:
    """The results of a stage: named numbers (None: undefined or censored), one row per epoch, and a summary in `words`.
    Stages that measure several functions add a `table` (measure by function), whose rows `shown` are printed on the
    terminal, and `arrays` by name."""

    metrics: Metrics
    history: list[dict[str, Any]] = field(default_factory=list)
    words: str = ""
    table: dict[str, dict[str, float | None]] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    arrays: dict[str, Tensor] = field(default_factory=dict)


class Stage(Protocol):
    """A config object of the group `stage`: a frozen dataclass that contains the stages and functions it builds on.

    If it has a method `metric_names(session)`, which returns the names of its metrics or patterns (`*`) for them, an
    objective that it cannot have is refused before the run, else after it."""

    def check(self, session: Session) -> None:
        """Raise `ConfigError` for settings that cannot be used, before anything is trained."""

    def identity(self, session: Session) -> Any:
        """Return everything that decides the outcome, as JSON-serialisable values; for a stage that trains, a dict with
        its kind under `stage`. A seed stands under the key `seed`, without which runs are of one configuration."""

    def needs(self, session: Session) -> Sequence[Stage]:
        """Return the stages whose results it needs; they are computed first if the store does not hold them."""
        ...

    def work(self, session: Session) -> Work | None:
        """Return the training that the stage does itself; None if it trains no network."""

    def run(self, session: Session) -> Outcome:
        """Compute the outcome, taking from the store what it holds."""
        ...

    def figures(self, session: Session) -> dict[str, Figure]:
        """Return figures by name, drawn from the results that `run` has stored."""
        ...


def arithmetic_in_words(recipe: Recipe) -> str:
    """What is added to a summary of a training in another precision than float32, or of a compiled one."""
    precision = "" if recipe.precision == "float32" else f"; trained in {recipe.precision}"
    return precision if recipe.compile is None else f"{precision}; compiled ({recipe.compile})"


def check_number(value: Any, what: str) -> None:
    """Raise `UserError` for a value that no report could have: `what` it is, in words."""
    if value is None or (isinstance(value, (bool, int, float)) and math.isfinite(value)):
        return
    shown = value if isinstance(value, (float, str)) else f"a {type(value).__name__}"
    raise UserError(f"{what} is {shown}; allowed: finite numbers, None where one is undefined")


def run_stage(name: str, stage: Stage, session: Session) -> Outcome:
    """Return the outcome of a stage. Raises `UserError` if it is none, or its metrics are no numbers, and `ConfigError`
    for what a stage of the user's raises."""
    with code_of(stage, f"stages.{name}={type(stage).__name__}"):
        outcome = stage.run(session)
    if not isinstance(outcome, Outcome):
        raise UserError(f"stages.{name}: its outcome is a {type(outcome).__name__}; allowed: rebuttal.stages.Outcome")
    for metric, value in outcome.metrics.items():
        check_number(value, f"stages.{name}: its metric {metric}")
    return outcome


def kappa_in_words(kappa: float | None) -> str:
    return "κ undefined" if kappa is None else f"κ {fixed(kappa, 2)}"


StageOption = Annotated[Stage, Offers("check", 1, "an option of the group stage")]


def trainings(stages: Iterable[Stage], session: Session) -> dict[str, tuple[Stage, Work]]:
    """Return every stage that trains a network, among `stages` and those that they build on, with its work, by the name
    under which the store keeps the network."""
    found: dict[str, tuple[Stage, Work]] = {}
    for stage in stages:
        found |= trainings(stage.needs(session), session)
        if (work := stage.work(session)) is not None:
            identity = stage.identity(session)
            found[name_of(identity["stage"], identity)] = stage, work
    return found
