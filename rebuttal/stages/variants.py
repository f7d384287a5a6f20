"""Variants of a student and its teacher: the points of a curve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

from rebuttal.data.dataset import Dataset
from rebuttal.stages.mimic import Mimic

Option = TypeVar("Option")


def changed(option: Option, **fields: Any) -> Option:
    """Return a copy of a config object with other values for `fields`.

    `dataclasses.replace` for what its type only describes by a protocol, as options of config groups are."""
    return cast(Option, replace(cast(Any, option), **fields))


def variant(student: Mimic, seed: int, **fields: Any) -> Mimic:
    """Return the student and its teacher with another seed and with other values for those `fields` that their datasets
    have."""
    teacher = student.teacher
    fit = replace(teacher.fit, dataset=_changed_if_present(teacher.fit.dataset, fields), seed=seed)
    own = None if student.dataset is None else _changed_if_present(student.dataset, fields)
    return replace(student, teacher=changed(teacher, fit=fit), dataset=own, seed=seed)


def _changed_if_present(dataset: Dataset, fields: dict[str, Any]) -> Dataset:
    return changed(dataset, **{name: value for name, value in fields.items() if hasattr(dataset, name)})
