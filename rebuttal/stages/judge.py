"""The `judge` stage: two functions compared where neither has to have been trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from rebuttal.config import checked, option_of
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import agreement, cohen_kappa, confusion, wilson
from rebuttal.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage
from rebuttal.store import Artifact
from rebuttal.training import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1  # raised when the same settings come to mean another result


@checked
class Judge:
    """How far the function `student` agrees with the function `teacher` on the held-out inputs of the teacher's
    own dataset, and on those of each dataset in `also` (by name).

    Metrics: those of `rebuttal.measures.agreement`, for the inputs in `also` with `_<name>` behind. And with
    `training_label_…`: how often the student gives the labels that the teacher was trained on at the teacher's
    own training inputs (`accuracy`, with its Wilson interval, and `kappa`): memorised or structured?
    """

    student: option_of("function", "function")
    teacher: option_of("function", "function")
    also: dict[str, option_of("dataset", "open")]

    def check(self, session: Session) -> None:
        theirs = session.open(self.teacher.fit.dataset)
        for name, dataset in self.also.items():
            shape = session.open(dataset).shape
            if tuple(shape) != tuple(theirs.shape):
                raise ConfigError(f"stages.*.also.{name}: inputs of shape {list(shape)}; allowed: {list(theirs.shape)}")
        for function in (self.student, self.teacher):
            function.fit.check(session)

    def identity(self, session: Session) -> Any:
        places = {"": self.teacher.fit.dataset, **self.also}
        return {
            "stage": "judge",
            "version": VERSION,
            "student": self.student.identity(session),
            "teacher": self.teacher.identity(session),
            "inputs": {name: session.open(dataset).identity("test") for name, dataset in places.items()},
            "training": self.teacher.fit.data_identity(session),
            "seed": self.teacher.fit.seed,
        }

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (*self.student.needs(), *self.teacher.needs())

    def artifact(self, session: Session) -> Artifact:
        return session.store.get_or_make("judge", self.identity(session), lambda: self._compare(session))

    def run(self, session: Session) -> Outcome:
        metrics = self.artifact(session).record["metrics"]
        return Outcome(metrics, words=_words(metrics, list(self.also)))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import student_figures

        record = self.artifact(session).record
        return {"classes": student_figures.class_shares({k: np.array(v) for k, v in record["confusion"].items()})}

    def _compare(self, session: Session) -> Artifact:
        student, teacher = self.student.function(session), self.teacher.function(session)
        seed = self.teacher.fit.seed
        metrics: Metrics = {}
        tables: dict[str, list[list[int]]] = {}
        for name, dataset in {"": self.teacher.fit.dataset, **self.also}.items():
            inputs = session.examples(dataset, "test", seed).inputs
            ours, theirs = predict(student, inputs), predict(teacher, inputs)
            end = f"_{name}" if name else ""
            metrics |= {f"{key}{end}": value for key, value in agreement(theirs, ours).items()}
            tables[name or "held out"] = confusion(theirs, ours).tolist()
        metrics |= self._training_labels(session, student)
        return Artifact({"metrics": metrics, "confusion": tables})

    def _training_labels(self, session: Session, student: Callable[[Tensor], Tensor]) -> Metrics:
        known = self.teacher.fit.training_examples(session)
        logits = predict(student, known.inputs)
        return {f"training_label_{key}": value for key, value in label_recall(logits, known.labels).items()}


def label_recall(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    """How well the argmax of `logits` (n, K) gives `labels` (n,): accuracy, Wilson's interval, Cohen's kappa."""
    table = confusion(F.one_hot(labels, logits.shape[1]).float(), logits)
    right, n = int(np.trace(table)), int(table.sum())
    low, high = wilson(right, n)
    return {"accuracy": right / n, "accuracy_low": low, "accuracy_high": high, **cohen_kappa(table)}


def _words(m: Metrics, also: list[str]) -> str:
    def told(kappa: float | None) -> str:
        return "κ undefined" if kappa is None else f"κ {kappa:.2f}"

    said = f"agreement {m['agreement']:.1%} on held-out inputs ({told(m['kappa'])})"
    for name in also:
        said += f", {m[f'agreement_{name}']:.1%} on {name} ({told(m[f'kappa_{name}'])})"
    label = m["training_label_accuracy"]
    return f"{said}; {label:.1%} of the labels that the teacher was trained on ({told(m['training_label_kappa'])})"
