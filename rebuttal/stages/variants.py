"""Variants of a student and its teacher: the points of a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from rebuttal.data.dataset import Dataset, resized
from rebuttal.errors import ConfigError
from rebuttal.seeds import derive
from rebuttal.stages.best_student import BestStudent
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Function
from rebuttal.stages.mimic import Mimic
from rebuttal.statistics import interval_metrics

Option = TypeVar("Option")
Learner = Mimic | BestStudent  # a stage that trains a student of a teacher


def with_ends(means: Iterable[str]) -> list[str]:
    """Return the names of means and of the ends of their intervals, as `interval_metrics` gives them."""
    return [name for mean in means for name in interval_metrics(mean, (None, None, None))]


def check_increasing(**sizes: Sequence[int]) -> None:
    """Raise `ConfigError` for sizes, by the name of their key, that are not distinct and in increasing order."""
    for name, values in sizes.items():
        if list(values) != sorted(set(values)):
            raise ConfigError(f"stages.*.{name}={list(values)}: allowed: distinct sizes in increasing order")


def changed(option: Option, **fields: Any) -> Option:
    """Return a copy of a config object with other values for `fields`.

    `dataclasses.replace` for what its type only describes by a protocol, as options of config groups are."""
    return cast(Option, replace(cast(Any, option), **fields))


def changed_mimic(student: Learner, change: Callable[[Mimic], Mimic]) -> Learner:
    """Return the student after a change of its mimic stage."""
    if isinstance(student, BestStudent):
        return replace(student, student=change(student.student))
    return change(student)


def repeated(student: Learner, repeat: int) -> Learner:
    """Return the student and its teacher from the seed of repeat 0, 1, …: the student's own seed, then seeds derived
    from it, which no run of another seed shares."""
    return student if repeat == 0 else changed_mimic(student, lambda mimic: _repeated(mimic, repeat))


def _repeated(student: Mimic, repeat: int) -> Mimic:
    seed = derive(student.seed, "repeat", str(repeat))
    teacher = student.teacher
    return replace(student, teacher=_with_fit(teacher, replace(teacher.fit, seed=seed)), seed=seed)


def _with_fit(teacher: Function, fit: Fit) -> Function:
    """Return a teacher of another training. Raises `ConfigError` for one whose `fit` is that of other functions."""
    if not any(field.name == "fit" for field in fields(cast(Any, teacher))):
        raise ConfigError(
            f"stages.*.student.teacher={type(teacher).__name__}: a curve trains other teachers of its kind; allowed: a "
            "function with a field fit, such as Trained"
        )
    return changed(teacher, fit=fit)


def with_sizes(student: Learner, train_size: int, student_size: int) -> Learner:
    """Return the student and its teacher with other numbers of training inputs. Raises `ConfigError` if their datasets
    have no such size, or if the student sees none of its own."""
    _check_new_inputs(student)
    return _with_datasets(student, lambda d: resized(d, train_size=train_size, student_size=student_size))


def with_student_size(student: Learner, size: int) -> Learner:
    """Return the student with another number of inputs; the teacher stays. Raises `ConfigError` as `with_sizes`."""
    _check_new_inputs(student)

    def change(mimic: Mimic) -> Mimic:
        return replace(mimic, dataset=resized(student_dataset(mimic), student_size=size))

    return changed_mimic(student, change)


def student_dataset(student: Learner) -> Dataset:
    """Return the source of the student's inputs."""
    mimic = student.student if isinstance(student, BestStudent) else student
    return mimic.dataset or mimic.teacher.fit.dataset


def with_field(student: Learner, name: str, value: Any) -> Learner:
    """Return the student and its teacher with another value of a field, in those of their datasets that have it."""
    return _with_datasets(student, lambda d: changed(d, **{name: value}) if hasattr(d, name) else d)


def _check_new_inputs(student: Learner) -> None:
    mimic = student.student if isinstance(student, BestStudent) else student
    if mimic.share is not None:
        raise ConfigError(
            f"stages.*.student.share={mimic.share}: a curve over numbers of new inputs; allowed: null, for such inputs"
        )


def _with_datasets(student: Learner, change: Callable[[Dataset], Dataset]) -> Learner:
    def change_both(mimic: Mimic) -> Mimic:
        teacher = mimic.teacher
        fit = replace(teacher.fit, dataset=change(teacher.fit.dataset))
        own = None if mimic.dataset is None else change(mimic.dataset)
        return replace(mimic, teacher=_with_fit(teacher, fit), dataset=own)

    return changed_mimic(student, change_both)
