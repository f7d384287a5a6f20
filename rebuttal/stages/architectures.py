"""The `architectures` stage: can a network of one architecture learn the function of another?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.models.model import ModelOption
from rebuttal.rounding import fixed
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage
from rebuttal.stages.variants import changed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class Architectures:
    """Repeat `student` for each pair of `models` (by name): one as its teacher's architecture, one as its own.

    Metrics: `<teacher>_<student>_agreement`, `…_majority_agreement`, `…_kappa`, and `<teacher>_train_accuracy`.
    """

    student: Mimic
    models: dict[str, ModelOption]

    def check(self, session: Session) -> None:
        if not self.models:
            raise ConfigError("stages.*.models={}: allowed: at least one model, by name")
        for _, _, student in self._pairs():
            student.check(session)

    def identity(self, session: Session) -> list[Any]:
        return [[teacher, own, student.identity(session)] for teacher, own, student in self._pairs()]

    def needs(self, session: Session) -> list[Stage]:
        return [stage for _, _, student in self._pairs() for stage in (student.teacher.fit, student)]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        compared = ("agreement", "majority_agreement", "kappa")
        pairs = [f"{teacher}_{own}_{key}" for teacher in self.models for own in self.models for key in compared]
        return [*pairs, *(f"{teacher}_train_accuracy" for teacher in self.models)]

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        for teacher, own, student in self._pairs():
            metrics[f"{teacher}_train_accuracy"] = student.teacher.fit.run(session).metrics["train_accuracy"]
            found = student.run(session).metrics
            for key in ("agreement", "majority_agreement", "kappa"):
                metrics[f"{teacher}_{own}_{key}"] = found[key]
        kappas = {(t, s): metrics[f"{t}_{s}_kappa"] or 0.0 for t, s, _ in self._pairs()}
        (teacher, own), best = max(kappas.items(), key=lambda item: item[1])
        least, most = fixed(min(kappas.values()), 2), fixed(best, 2)
        words = f"κ from {least} to {most}; highest for student {own} and teacher {teacher}"
        return Outcome(metrics, words=words)

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        names, found = list(self.models), self.run(session).metrics
        table = [[found[f"{teacher}_{own}_kappa"] for own in names] for teacher in names]
        return {"kappa": students.architecture_table(table, names)}

    def _pairs(self) -> list[tuple[str, str, Mimic]]:
        """Return (the teacher's model, the student's model, the student) for each pair."""
        pairs = []
        for teacher, model in self.models.items():
            function = changed(self.student.teacher, fit=replace(self.student.teacher.fit, model=model))
            student = replace(self.student, teacher=function)
            pairs += [(teacher, name, replace(student, model=own)) for name, own in self.models.items()]
        return pairs
