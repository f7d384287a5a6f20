"""Stages that train nothing of their own: they set the networks of other stages side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from rebuttal.config import checked, option_of
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.measures.plane import Plane
from rebuttal.session import Session
from rebuttal.stages.fit import Fit
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.stage import Outcome, Stage
from rebuttal.training import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class AgreementChart:
    """A row for each of the stages `students` (mimic or judge, by name): agreement, against the teacher's
    majority class and chance, and kappa."""

    students: dict[str, option_of("stage", "check")]

    def check(self, session: Session) -> None:
        for student in self.students.values():
            student.check(session)

    def identity(self, session: Session) -> Any:
        return {name: student.identity(session) for name, student in self.students.items()}

    def needs(self, session: Session) -> list[Stage]:
        return list(self.students.values())

    def run(self, session: Session) -> Outcome:
        return Outcome({})

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import student_figures

        found = {name: student.run(session).metrics for name, student in self.students.items()}
        return {"agreement": student_figures.agreement_bars(found)}


@checked
class DecisionRegions:
    """The classes that a teacher and its student give on one and the same 2-D slice of input space: the
    plane through three of the teacher's training inputs, `resolution` points a side.

    Metric: `agreement`, the share of the slice's points with equal class (points are not independent
    inputs: it describes the picture).
    """

    teacher: Fit
    student: Mimic
    resolution: PositiveInt

    def check(self, session: Session) -> None:
        self.teacher.check(session)
        self.student.check(session)
        if session.open(self.teacher.dataset).identity("train")["size"] < 3:
            raise ConfigError("dataset.train_size: a slice goes through 3 training inputs; allowed: 3 or more")

    def identity(self, session: Session) -> Any:
        return [self.teacher.identity(session), self.student.identity(session), self.resolution]

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (self.teacher, self.student)

    def run(self, session: Session) -> Outcome:
        teacher, student, _ = self._regions(session)
        share = float((teacher == student).mean())
        return Outcome({"agreement": share}, words=f"teacher and student give one class to {share:.1%} of a 2-D slice")

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import figures

        teacher, student, plane = self._regions(session)
        classes = session.open(self.teacher.dataset).classes
        return {"slice": figures.decision_regions(teacher, student, plane.corners, plane.extent, classes)}

    def _regions(self, session: Session) -> tuple[np.ndarray, np.ndarray, Plane]:
        """The classes of teacher and student on the slice, (resolution, resolution) each, and the slice."""
        inputs = session.examples(self.teacher.dataset, "train", self.teacher.seed).inputs[:3]
        plane = Plane.through(in_unit_range(inputs))
        points = plane.grid(self.resolution)
        shape = (self.resolution, self.resolution)
        networks = (self.teacher.network(session), self.student.network(session))
        teacher, student = (predict(f, points).argmax(dim=1).reshape(shape).cpu().numpy() for f in networks)
        return teacher, student, plane


@checked
class WalkStrip:
    """The first `images` of a dataset's training inputs in their order, and what changes from each to the next."""

    dataset: option_of("dataset", "open")
    images: Annotated[int, Field(ge=2)]
    seed: NonNegativeInt

    def check(self, session: Session) -> None:
        shape = session.open(self.dataset).shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigError(f"dataset.shape={list(shape)}: a strip shows images; allowed: [3,height,width] or [1,…]")

    def identity(self, session: Session) -> Any:
        return [session.open(self.dataset).identity("train"), self.images, self.seed]

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def run(self, session: Session) -> Outcome:
        return Outcome({})

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import figures

        inputs = session.examples(self.dataset, "train", self.seed).inputs[: self.images]
        return {"strip": figures.strip(in_unit_range(inputs).permute(0, 2, 3, 1).cpu().numpy())}
