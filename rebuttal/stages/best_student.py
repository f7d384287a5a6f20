"""The `best_student` stage: a student as a careful practitioner would train it on the answers that it has."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rebuttal.config import checked
from rebuttal.errors import ConfigError, TrainingError
from rebuttal.rounding import percent
from rebuttal.stages.function import FunctionOption
from rebuttal.stages.mimic import METRICS, OF_HELD_BACK, Mimic
from rebuttal.stages.networks import Network
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome
from rebuttal.training.recipe import Recipe
from rebuttal.training.schedules import ScheduleOption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_CHOICE = ("candidates", "chosen_lr", "chosen_weight_decay", "chosen_temperature")


@checked
class BestStudent:
    """Train `student` once for every combination of `lrs`, `weight_decays`, `temperatures` (of soft targets) and
    `schedules` (by name), for `steps` optimiser steps whatever the number of its inputs, to the nearest whole epoch,
    and choose one by the share `held_back` of its inputs, which none is trained on: of those with one temperature the
    one with the lowest loss, and of these the one that agrees most often with the teacher, because losses at two
    temperatures do not compare. Within each training the weights with the lowest loss on those inputs are taken. The
    held-out inputs, on which it is judged, choose nothing.

    Metrics: those of the chosen student, see `Mimic`; `candidates`, how many there were; `chosen_lr`,
    `chosen_weight_decay` and `chosen_temperature`. If `converged` is 0, the chosen student's loss on what it held back
    was still falling at the end of the budget, and the numbers are bounds.
    """

    student: Mimic
    steps: PositiveInt
    held_back: Annotated[float, Field(gt=0, lt=1)]
    lrs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    weight_decays: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
    temperatures: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    schedules: Annotated[dict[str, ScheduleOption], Field(min_length=1)]

    @property
    def teacher(self) -> FunctionOption:
        return self.student.teacher

    def check(self, session: Session) -> None:
        if self.student.held_back:
            raise ConfigError(
                f"stages.*.student.held_back={self.student.held_back}: allowed: 0, see stages.*.held_back"
            )
        replace(self.student, held_back=self.held_back).check(session)
        for candidate in self.needs(session):
            candidate.check(session)

    def identity(self, session: Session) -> list[Any]:
        return [candidate.identity(session) for candidate in self.needs(session)]

    def needs(self, session: Session) -> list[Mimic]:
        base = replace(self.student, held_back=self.held_back)
        temperatures = self.temperatures if base.target == "soft" else (base.temperature,)
        grid = product(self.schedules.values(), temperatures, self.weight_decays, self.lrs)
        return [
            replace(base, temperature=temperature, training=self._recipe(session, base, lr, weight_decay, schedule))
            for schedule, temperature, weight_decay, lr in grid
        ]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> tuple[str, ...]:
        return METRICS + OF_HELD_BACK + OF_CHOICE

    def chosen(self, session: Session) -> Mimic:
        """Return the student that is best on what it held back. Raises `TrainingError` if all trainings failed."""
        found: dict[float, list[tuple[Metrics, Mimic]]] = {}
        failed: TrainingError | None = None
        for candidate in self.needs(session):
            try:
                metrics = candidate.artifact(session).record["metrics"]
            except TrainingError as error:  # a recipe that diverges is none to choose
                failed = error
                continue
            found.setdefault(candidate.temperature, []).append((metrics, candidate))
        if not found and failed is not None:
            raise failed
        best = [min(each, key=lambda one: one[0]["held_back_loss"]) for each in found.values()]
        return max(best, key=lambda one: one[0]["held_back_agreement"])[1]

    def network(self, session: Session) -> Network:
        """Return the chosen student in evaluation mode."""
        return self.chosen(session).network(session)

    def run(self, session: Session) -> Outcome:
        best = self.chosen(session)
        outcome, recipe, count = best.run(session), best.training, len(self.needs(session))
        choice = {
            "candidates": count,
            "chosen_lr": recipe.lr,
            "chosen_weight_decay": recipe.weight_decay,
            "chosen_temperature": best.temperature if best.target == "soft" else None,
        }
        words = f"{outcome.words}; {_choice_in_words(best, outcome.metrics, count)}"
        return Outcome(outcome.metrics | choice, outcome.history, words)

    def figures(self, session: Session) -> dict[str, Figure]:
        return self.chosen(session).figures(session)

    def _recipe(self, session: Session, base: Mimic, lr: float, weight_decay: float, schedule: Any) -> Recipe:
        """The student's recipe with these settings, and as many whole epochs as come nearest to the steps."""
        epochs = max(1, round(self.steps / base.training.steps_per_epoch(base.trained_on(session))))
        return replace(
            base.training,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            epochs=epochs,
            stop_accuracy=None,
            stop_loss=None,
        )


def _choice_in_words(best: Mimic, metrics: Metrics, candidates: int) -> str:
    recipe = best.training
    temperature = f", T = {best.temperature:g}" if best.target == "soft" else ""
    words = (
        f"chosen of {candidates} by {percent(metrics['held_back_agreement'], 1)} on what it held back: learning rate "
        f"{recipe.lr:g}, {type(recipe.schedule).__name__.lower()}, weight decay {recipe.weight_decay:g}{temperature}, "
        f"after {metrics['chosen_steps']} of {metrics['steps']} steps"
    )
    return words if metrics["converged"] else f"{words}, not converged"
