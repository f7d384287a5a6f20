"""Students and teachers like a given pair, with another seed or other data: what curves are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rebuttal.stages.mimic import Mimic


def variant(student: Mimic, seed: int, **changes: Any) -> Mimic:
    """The same student and teacher with `seed` and with these settings of their datasets, where they have them."""
    fit = student.teacher.fit
    fit = replace(fit, dataset=_changed(fit.dataset, changes), seed=seed)
    own = None if student.dataset is None else _changed(student.dataset, changes)
    return replace(student, teacher=replace(student.teacher, fit=fit), dataset=own, seed=seed)


def _changed(dataset: Any, changes: dict[str, Any]) -> Any:
    return replace(dataset, **{key: value for key, value in changes.items() if hasattr(dataset, key)})
