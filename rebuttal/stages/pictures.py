"""Stages that only draw: they compare the networks of other stages in figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from rebuttal.config import checked
from rebuttal.data.dataset import DatasetOption
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.measures.plane import Plane
from rebuttal.rounding import percent
from rebuttal.stages.fit import Fit
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Outcome, Stage, StageOption
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class AgreementChart:
    """Draw one row for each of the stages `students` (mimic or judge, by name): agreement, beside that of the teacher's
    majority class and of chance, and kappa. Stages of other kinds have no agreement, and get no row."""

    students: dict[str, StageOption]

    def check(self, session: Session) -> None:
        for student in self.students.values():
            student.check(session)

    def identity(self, session: Session) -> dict[str, Any]:
        return {name: student.identity(session) for name, student in self.students.items()}

    def needs(self, session: Session) -> list[Stage]:
        return list(self.students.values())

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> tuple[()]:
        return ()

    def run(self, session: Session) -> Outcome:
        return Outcome({})

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        found = {name: student.run(session).metrics for name, student in self.students.items()}
        found = {name: metrics for name, metrics in found.items() if "majority_agreement" in metrics}
        return {"agreement": students.agreement_bars(found)}


@checked
class DecisionRegions:
    """Draw the classes of a teacher and its student on a 2-D slice of input space: the plane through three of the
    teacher's training inputs, with `resolution` points per side.

    Metric: `agreement`, the share of the slice's points with equal classes. The points are not independent inputs, so
    it describes the figure only.
    """

    teacher: Fit
    student: Mimic
    resolution: PositiveInt

    def check(self, session: Session) -> None:
        self.teacher.check(session)
        self.student.check(session)
        size = session.open(self.teacher.dataset).identity("train")["size"]
        if size < 3:
            raise ConfigError(f"dataset.train_size={size}: a slice goes through 3 training inputs; allowed: 3 or more")
        shape = session.open(self.teacher.dataset).shape
        if math.prod(shape) < 2:
            raise ConfigError(
                f"dataset.shape={list(shape)}: a slice is a plane; allowed: inputs of two numbers or more"
            )

    def identity(self, session: Session) -> list[Any]:
        return [self.teacher.identity(session), self.student.identity(session), self.resolution]

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (self.teacher, self.student)

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> tuple[str]:
        return ("agreement",)

    def run(self, session: Session) -> Outcome:
        teacher, student, _ = self._regions(session)
        share = float((teacher == student).mean())
        return Outcome({"agreement": share}, words=f"teacher and student agree on {percent(share, 1)} of a 2-D slice")

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import input_space

        teacher, student, plane = self._regions(session)
        classes = session.open(self.teacher.dataset).classes
        return {"slice": input_space.decision_regions(teacher, student, plane.corners, plane.extent, classes)}

    def _regions(self, session: Session) -> tuple[np.ndarray, np.ndarray, Plane]:
        """Return the classes of teacher and student on the slice, (resolution, resolution) each, and the slice."""
        inputs = session.examples(self.teacher.dataset, "train", self.teacher.data_seed).inputs[:3]
        plane = Plane.through(in_unit_range(inputs))
        points = plane.grid(self.resolution)
        shape = (self.resolution, self.resolution)
        networks = (self.teacher.network(session), self.student.network(session))
        teacher, student = (predict(f, points).argmax(dim=1).reshape(shape).cpu().numpy() for f in networks)
        return teacher, student, plane


@checked
class WalkStrip:
    """Draw the first `images` training inputs of a dataset in order, and the change from each to the next."""

    dataset: DatasetOption
    images: Annotated[int, Field(ge=2)]
    seed: NonNegativeInt

    def check(self, session: Session) -> None:
        shape = session.open(self.dataset).shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigError(f"dataset.shape={list(shape)}: a strip shows images; allowed: [3,height,width] or [1,…]")

    def identity(self, session: Session) -> dict[str, Any]:
        train = session.open(self.dataset).identity("train")
        return {"train": train, "images": self.images, "seed": self.seed}

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> tuple[()]:
        return ()

    def run(self, session: Session) -> Outcome:
        return Outcome({})

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import input_space

        inputs = session.examples(self.dataset, "train", self.seed).inputs[: self.images]
        return {"strip": input_space.strip(in_unit_range(inputs).permute(0, 2, 3, 1).cpu().numpy())}
