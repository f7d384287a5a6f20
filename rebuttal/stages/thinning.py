"""The `thinning` stage: random walks of which every k-th image is kept, from single steps to independent noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage, kappa_in_words
from rebuttal.stages.variants import Learner, repeated, with_ends, with_field
from rebuttal.statistics import interval_metrics, interval_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class Thinning:
    """Repeat `student` and its teacher on walks of which every k-th image is kept, for each k in `every` and `repeats`
    seeds: the student's own, and seeds derived from it.

    Metrics, means over seeds with 95 % t-intervals: `kappa_<k>` and `agreement_<k>` of the student; `steps_to_fit_<k>`
    of the teacher, None if it did not fit its labels with every seed; `fitted_<k>`, the share of seeds with which it
    did; `train_accuracy_<k>` of the teacher.
    """

    student: Learner
    every: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    repeats: PositiveInt

    def check(self, session: Session) -> None:
        if not hasattr(self.student.teacher.fit.dataset, "every"):
            raise ConfigError("stages.*.student: its teacher fits no random walk; allowed: dataset=random_walk")
        for k in self.every:
            self._student(k, 0).check(session)

    def identity(self, session: Session) -> list[Any]:
        return [student.identity(session) for student in self._students()]

    def needs(self, session: Session) -> list[Stage]:
        students = self._students()
        return [*(student.teacher.fit for student in students), *students]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        means = ("kappa", "agreement", "steps_to_fit", "train_accuracy")
        return [*with_ends(f"{what}_{k}" for what in means for k in self.every), *(f"fitted_{k}" for k in self.every)]

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        for k in self.every:
            students = [self._student(k, repeat) for repeat in range(self.repeats)]
            learnt = [student.run(session).metrics for student in students]
            teachers = [student.teacher.fit.run(session).metrics for student in students]
            for what in ("kappa", "agreement"):
                metrics |= interval_metrics(f"{what}_{k}", interval_of([m[what] for m in learnt]))
            steps = [m["steps_to_fit"] for m in teachers]
            metrics[f"fitted_{k}"] = sum(s is not None for s in steps) / len(steps)
            metrics |= interval_metrics(f"steps_to_fit_{k}", interval_of(steps))
            accuracy = interval_of([m["train_accuracy"] for m in teachers])
            metrics |= interval_metrics(f"train_accuracy_{k}", accuracy)
        return Outcome(metrics, words=self._words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        return {"curve": students.thinning(self.run(session).metrics, self.every)}

    def _students(self) -> list[Learner]:
        return [self._student(k, repeat) for k in self.every for repeat in range(self.repeats)]

    def _student(self, k: int, repeat: int) -> Learner:
        return with_field(repeated(self.student, repeat), "every", k)

    def _words(self, m: Metrics) -> str:
        words = []
        for k in (self.every[0], self.every[-1]):
            steps = m[f"steps_to_fit_{k}"]
            time = "not fitted with every seed" if steps is None else f"fitted after {steps:.0f} steps"
            words.append(f"every = {k}: {time}, student's {kappa_in_words(m[f'kappa_{k}'])}")
        return "; ".join(words)
