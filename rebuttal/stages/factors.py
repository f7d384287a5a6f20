"""What a map varies: a student and its teacher with another value of one factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from rebuttal.errors import ConfigError, nearest
from rebuttal.models.mlp import MLP
from rebuttal.stages.best_student import BestStudent
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.variants import Learner, changed, changed_mimic, with_field

Change = Callable[[Learner, Any], Learner]


def with_factor(student: Learner, name: str, value: Any) -> Learner:
    """Return the student and its teacher with another value of a factor; see `FACTORS`. Raises `ConfigError` for a
    factor that is unknown, or that they do not have."""
    if name not in FACTORS:
        raise ConfigError(f"stages.*.factors.{name}: allowed: {', '.join(FACTORS)}{nearest(name, FACTORS)}")
    try:
        return FACTORS[name](student, value)
    except ConfigError:
        raise
    except (ValidationError, TypeError, ValueError) as error:
        reason = error.errors()[0]["msg"].lower() if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"stages.*.factors.{name}={value}: {reason}") from error


def _with_field(student: Learner, name: str, value: Any) -> Learner:
    if name not in vars(student.teacher.fit.dataset):
        kind = type(student.teacher.fit.dataset).__name__
        raise ConfigError(f"stages.*.factors: dataset={kind} has no {name} to vary; allowed: generated noise")
    return with_field(student, name, value)


def _with_width(student: Learner, value: int) -> Learner:
    return _with_hidden(student, lambda hidden: (value,) * len(hidden))


def _with_depth(student: Learner, value: int) -> Learner:
    if value < 1:
        raise ValueError("allowed: 1 or more")
    return _with_hidden(student, lambda hidden: (hidden[0],) * value)


def _with_hidden(student: Learner, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Learner:
    """Change the hidden layers of the teacher, and with it of the student, whose model is its teacher's."""

    def in_both(mimic: Mimic) -> Mimic:
        fit = mimic.teacher.fit
        if not isinstance(fit.model, MLP) or not fit.model.hidden or mimic.model is not None:
            raise ConfigError(
                "stages.*.factors: width and depth need model=mlp with a hidden layer, and the teacher's model for the "
                "student"
            )
        model = replace(fit.model, hidden=change(fit.model.hidden))
        return replace(mimic, teacher=changed(mimic.teacher, fit=replace(fit, model=model)))

    return changed_mimic(student, in_both)


def _with_target(student: Learner, value: str) -> Learner:
    return changed_mimic(student, lambda mimic: changed(mimic, target=value))


def _with_temperature(student: Learner, value: float) -> Learner:
    if isinstance(student, BestStudent):
        return replace(student, temperatures=(float(value),))
    return replace(student, temperature=float(value))


def _with_steps(student: Learner, value: int) -> Learner:
    if isinstance(student, BestStudent):
        return replace(student, steps=value)
    raise ConfigError("stages.*.factors.steps: needs a best student; allowed: stages.*.student of stage best_student")


def _with_teacher_epochs(student: Learner, value: int) -> Learner:
    def longer(mimic: Mimic) -> Mimic:
        fit = mimic.teacher.fit
        fit = replace(fit, training=replace(fit.training, epochs=value))
        return replace(mimic, teacher=changed(mimic.teacher, fit=fit))

    return changed_mimic(student, longer)


FACTORS: dict[str, Change] = {
    "classes": lambda student, value: _with_field(student, "classes", value),
    "dimension": lambda student, value: _with_field(student, "shape", (value,)),
    "width": _with_width,
    "depth": _with_depth,
    "target": _with_target,
    "temperature": _with_temperature,
    "steps": _with_steps,
    "teacher_epochs": _with_teacher_epochs,
}
