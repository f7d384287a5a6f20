"""Variants of a student and its teacher: the points of a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar, cast

from rebuttal.data.dataset import Dataset, resized
from rebuttal.seeds import derive
from rebuttal.stages.mimic import Mimic
from rebuttal.statistics import interval_metrics

Option = TypeVar("Option")


def with_ends(means: Iterable[str]) -> list[str]:
    """Return the names of means and of the ends of their intervals, as `interval_metrics` gives them."""
    return [name for mean in means for name in interval_metrics(mean, (None, None, None))]


def changed(option: Option, **fields: Any) -> Option:
    """Return a copy of a config object with other values for `fields`.

    `dataclasses.replace` for what its type only describes by a protocol, as options of config groups are."""
    return cast(Option, replace(cast(Any, option), **fields))


def repeated(student: Mimic, repeat: int) -> Mimic:
    """Return the student and its teacher from the seed of repeat 0, 1, …: the student's own seed, then seeds derived
    from it, which no run of another seed shares."""
    if repeat == 0:
        return student
    seed = derive(student.seed, "repeat", str(repeat))
    teacher = student.teacher
    return replace(student, teacher=changed(teacher, fit=replace(teacher.fit, seed=seed)), seed=seed)


def with_sizes(student: Mimic, train_size: int, student_size: int) -> Mimic:
    """Return the student and its teacher with other numbers of training inputs. Raises `ConfigError` if their datasets
    have no such size."""
    return _with_datasets(student, lambda d: resized(d, train_size=train_size, student_size=student_size))


def with_field(student: Mimic, name: str, value: Any) -> Mimic:
    """Return the student and its teacher with another value of a field, in those of their datasets that have it."""
    return _with_datasets(student, lambda d: changed(d, **{name: value}) if hasattr(d, name) else d)


def _with_datasets(student: Mimic, change: Callable[[Dataset], Dataset]) -> Mimic:
    teacher = student.teacher
    fit = replace(teacher.fit, dataset=change(teacher.fit.dataset))
    own = None if student.dataset is None else change(student.dataset)
    return replace(student, teacher=changed(teacher, fit=fit), dataset=own)
