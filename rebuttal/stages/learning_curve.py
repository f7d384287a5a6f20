"""The `learning_curve` stage: a student's agreement as a function of the number of its training inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.rounding import percent
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome
from rebuttal.stages.variants import Learner, student_dataset, with_student_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("agreement", "kappa", "train_agreement", "r")
Share = Annotated[float, Field(gt=0, le=1)]


@checked
class LearningCurve:
    """Repeat each of the `students` (by name) on the first `shares` of its inputs.

    Smaller sets are subsets of larger ones. Metrics: `<student>_agreement_<n2>`, `<student>_kappa_<n2>`, and
    `<student>_train_agreement_<n2>` and `<student>_r_<n2>`, see `Mimic`.
    """

    students: dict[str, Learner]
    shares: Annotated[tuple[Share, ...], Field(min_length=1)]

    def check(self, session: Session) -> None:
        if not self.students:
            raise ConfigError("stages.*.students={}: allowed: at least one mimic stage, by name")
        for _, _, student in self._points(session):
            student.check(session)

    def identity(self, session: Session) -> list[Any]:
        return [[name, student.identity(session)] for name, _, student in self._points(session)]

    def needs(self, session: Session) -> list[Learner]:
        return [student for _, _, student in self._points(session)]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        points = self._points(session)
        return [f"{name}_{key}_{size}" for name, size, _ in points for key in METRICS]

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        for name, size, student in self._points(session):
            found = student.run(session).metrics
            metrics |= {f"{name}_{key}_{size}": found[key] for key in METRICS}
        return Outcome(metrics, words=self._words(session))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        curves: dict[str, list[Metrics]] = {name: [] for name in self.students}
        for name, _, student in self._points(session):
            curves[name].append(student.run(session).metrics)
        return {"agreement": students.learning_curves(curves)}

    def _points(self, session: Session) -> list[tuple[str, int, Learner]]:
        """Return (the student's name, its number of inputs, the student) for each point, sizes in increasing order."""
        points = []
        for name, student in self.students.items():
            largest = session.open(student_dataset(student)).identity("student")["size"]
            for size in sorted({max(1, round(share * largest)) for share in self.shares}):
                points.append((name, size, with_student_size(student, size)))
        return points

    def _words(self, session: Session) -> str:
        curves = []
        for name in self.students:
            points = [(size, student) for owner, size, student in self._points(session) if owner == name]
            (fewest, first), (most, last) = points[0], points[-1]
            low, high = (student.run(session).metrics["agreement"] for student in (first, last))
            curves.append(f"{name}: {percent(low)} with {fewest} inputs, {percent(high)} with {most}")
        return "agreement by number of new inputs. " + "; ".join(curves)
