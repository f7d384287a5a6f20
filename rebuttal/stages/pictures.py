"""Stages that train nothing of their own: they set the networks of other stages side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.session import Session
from rebuttal.stages.fit import Fit
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.stage import Outcome
from rebuttal.training import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class AgreementChart:
    """One bar a student: agreement, against the teacher's majority class and against chance."""

    students: dict[str, Mimic]

    def check(self, session: Session) -> None:
        for student in self.students.values():
            student.check(session)

    def identity(self, session: Session) -> Any:
        return {name: student.identity(session) for name, student in self.students.items()}

    def run(self, session: Session) -> Outcome:
        return Outcome({})

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import figures

        found = {name: student.run(session).metrics for name, student in self.students.items()}
        return {"agreement": figures.agreement_bars(found)}


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


@dataclass(frozen=True)
class Plane:
    """The plane through three inputs: `origin` (*shape), orthonormal `axes` (2, d), the inputs' own
    coordinates `corners` (3, 2), and the square `extent` (left, right, bottom, top) that is drawn."""

    origin: Tensor
    axes: Tensor
    corners: np.ndarray
    extent: tuple[float, float, float, float]

    @classmethod
    def through(cls, inputs: Tensor) -> Plane:
        """Raises `ConfigError` where the three inputs (3, *shape) lie on one line."""
        flat = inputs.flatten(1).double()
        edges = flat[1:] - flat[0]
        axes, triangle = torch.linalg.qr(edges.T)
        if triangle.diagonal().abs().min() <= 1e-6 * edges.norm():
            raise ConfigError("stages.*.teacher: the slice's three training inputs lie on one line")
        corners = torch.cat([torch.zeros(1, 2, dtype=torch.float64, device=flat.device), edges @ axes])
        middle, side = corners.mean(dim=0), (corners.amax(dim=0) - corners.amin(dim=0)).max().item()
        x, y = (value.item() for value in middle)
        extent = (x - side, x + side, y - side, y + side)
        return cls(inputs[0], axes.T, corners.cpu().numpy(), extent)

    def grid(self, resolution: int) -> Tensor:
        """Inputs (resolution², *shape), row by row from the bottom left."""
        left, right, bottom, top = self.extent
        kind = {"dtype": torch.float64, "device": self.axes.device}
        y, x = torch.meshgrid(
            torch.linspace(bottom, top, resolution, **kind),
            torch.linspace(left, right, resolution, **kind),
            indexing="ij",
        )
        points = torch.stack([x.flatten(), y.flatten()], dim=1) @ self.axes
        return (self.origin.flatten() + points).float().reshape(-1, *self.origin.shape)
