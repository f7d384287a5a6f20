"""The `judge` stage: compare two functions without training anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rebuttal.config import checked
from rebuttal.data.dataset import Dataset, DatasetOption
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import AGREEMENT, agreement, confusion, label_recall
from rebuttal.rounding import percent
from rebuttal.stages.function import FunctionOption, Logits, check_function, checked_logits, opened
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage, kappa_in_words
from rebuttal.store.entries import Artifact
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 2  # raised when the same settings give another result


@checked
class Judge:
    """Measure how far the functions `student` and `teacher` agree on the held-out inputs of the teacher's dataset and
    of each dataset in `also` (by name).

    Metrics: those of `rebuttal.measures.agreement`, with the suffix `_<name>` for the datasets in `also`; and
    `training_label_accuracy`, with its Wilson interval, and `training_label_kappa`: how often the student gives the
    labels that the teacher was trained on, at the teacher's training inputs. They distinguish memorised labels from
    structure.
    """

    student: FunctionOption
    teacher: FunctionOption
    also: dict[str, DatasetOption]

    def check(self, session: Session) -> None:
        taught, own = session.open(self.teacher.fit.dataset), session.open(self.student.fit.dataset)
        others = {"student": own} | {f"also.{name}": session.open(dataset) for name, dataset in self.also.items()}
        for name, source in others.items():
            if tuple(source.shape) != tuple(taught.shape):
                raise ConfigError(
                    f"stages.*.{name}: inputs of shape {list(source.shape)}; allowed: {list(taught.shape)}, as "
                    "stages.*.teacher"
                )
        if own.classes != taught.classes:
            raise ConfigError(
                f"stages.*.student: {own.classes} classes; allowed: {taught.classes}, as stages.*.teacher"
            )
        for function in (self.student, self.teacher):
            check_function(function, session)

    def identity(self, session: Session) -> dict[str, Any]:
        return {
            "stage": "judge",
            "version": VERSION,
            "student": self.student.identity(session),
            "teacher": self.teacher.identity(session),
            "inputs": {name: session.open(dataset).identity("test") for name, dataset in self._datasets().items()},
            "training": self.teacher.fit.data_identity(session),
            "seed": self.teacher.fit.data_seed,
        }

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (*self.student.needs(session), *self.teacher.needs(session))

    def artifact(self, session: Session) -> Artifact:
        """Return the comparison from the store; make it if it is not there."""
        return session.store.get_or_make("judge", self.identity(session), lambda: self._compare(session))

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        compared = [f"{key}_{name}" if name else key for name in self._datasets() for key in AGREEMENT]
        recalled = ("accuracy", "accuracy_low", "accuracy_high", "kappa", "kappa_low", "kappa_high")
        return [*compared, *(f"training_label_{key}" for key in recalled)]

    def run(self, session: Session) -> Outcome:
        metrics = self.artifact(session).record["metrics"]
        return Outcome(metrics, words=_words(metrics, list(self.also)))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        record = self.artifact(session).record
        return {"classes": students.class_shares({k: np.array(v) for k, v in record["confusion"].items()})}

    def _datasets(self) -> dict[str, Dataset]:
        """Return the datasets by suffix."""
        return {"": self.teacher.fit.dataset, **self.also}

    def _compare(self, session: Session) -> Artifact:
        student, teacher = opened(self.student, session), opened(self.teacher, session)
        seed = self.teacher.fit.data_seed
        metrics: Metrics = {}
        tables: dict[str, list[list[int]]] = {}
        for name, dataset in self._datasets().items():
            inputs = session.examples(dataset, "test", seed).inputs
            student_logits, teacher_logits = (
                checked_logits(predict(called, inputs), function, len(inputs), session, f"stages.*.{key}")
                for function, called, key in ((self.student, student, "student"), (self.teacher, teacher, "teacher"))
            )
            suffix = f"_{name}" if name else ""
            metrics |= {f"{key}{suffix}": value for key, value in agreement(teacher_logits, student_logits).items()}
            tables[name or "held out"] = confusion(teacher_logits, student_logits).tolist()
        metrics |= self._training_labels(session, student)
        return Artifact({"metrics": metrics, "confusion": tables})

    def _training_labels(self, session: Session, student: Logits) -> Metrics:
        examples = self.teacher.fit.training_examples(session)
        logits = predict(student, examples.inputs)
        return {f"training_label_{key}": value for key, value in label_recall(logits, examples.labels).items()}


def _words(m: Metrics, also: list[str]) -> str:
    words = f"agreement {percent(m['agreement'], 1)} on held-out inputs ({kappa_in_words(m['kappa'])})"
    for name in also:
        words += f", {percent(m[f'agreement_{name}'], 1)} on {name} ({kappa_in_words(m[f'kappa_{name}'])})"
    recall = f"{percent(m['training_label_accuracy'], 1)} of the teacher's training labels recalled"
    return f"{words}; {recall} ({kappa_in_words(m['training_label_kappa'])})"
