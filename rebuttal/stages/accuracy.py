"""The `accuracy` stage: how many labels a function gives right that was not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rebuttal.config import checked
from rebuttal.measures.agreement import label_recall
from rebuttal.rounding import percent
from rebuttal.stages.function import FunctionOption, check_function, opened
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage
from rebuttal.store.entries import Artifact
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1  # raised when the same settings give another result
OF_SOLUTION = ("weights", "residual", "largest_weight", "smallest_gap", "condition", "gamma")


@checked
class Accuracy:
    """Count how many labels the `function` gives right: those that it was fitted to, at its training inputs, and true
    ones at held-out inputs.

    Metrics: `train_accuracy` and `test_accuracy` with Wilson's 95 % intervals, `train_size`, `test_size`, `classes`;
    and what functions that solve equations say of their solution, None for others: `weights`, how many numbers they
    have; `residual`, ‖Y − (K + ridge)α‖/‖Y‖; of `theorem1` the `largest_weight`, the `smallest_gap` between a threshold
    and a point, and the `condition` number; of `kernel` its `gamma`.
    """

    function: FunctionOption

    def check(self, session: Session) -> None:
        check_function(self.function, session)

    def identity(self, session: Session) -> dict[str, Any]:
        fit = self.function.fit
        return {
            "stage": "accuracy",
            "version": VERSION,
            "function": self.function.identity(session),
            "training": fit.data_identity(session),
            "inputs": session.open(fit.dataset).identity("test"),
            "seed": fit.data_seed,
        }

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return tuple(self.function.needs(session))

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        ends = ("", "_low", "_high")
        shares = [f"{split}_accuracy{end}" for split in ("train", "test") for end in ends]
        return [*shares, "train_size", "test_size", "classes", *OF_SOLUTION]

    def run(self, session: Session) -> Outcome:
        kept = session.store.get_or_make("accuracy", self.identity(session), lambda: self._count(session))
        metrics = kept.record["metrics"]
        return Outcome(metrics, words=_words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        return {}

    def _count(self, session: Session) -> Artifact:
        fit, function = self.function.fit, opened(self.function, session)
        train, test = fit.training_examples(session), session.examples(fit.dataset, "test", fit.data_seed)
        metrics: Metrics = {}
        for split, examples in (("train", train), ("test", test)):
            found = label_recall(predict(function, examples.inputs), examples.labels)
            metrics |= {f"{split}_{name}": value for name, value in found.items() if name.startswith("accuracy")}
        metrics |= {"train_size": len(train), "test_size": len(test), "classes": session.open(fit.dataset).classes}
        solution = getattr(function, "solution", {})
        return Artifact({"metrics": metrics | {name: solution.get(name) for name in OF_SOLUTION}})


def _words(m: Metrics) -> str:
    words = f"right on {percent(m['train_accuracy'], 2)} of {m['train_size']:,} training labels, "
    words += f"{percent(m['test_accuracy'], 2)} of {m['test_size']:,} others"
    if m["residual"] is not None:
        words += f"; of its equations there remains {m['residual']:.1g}"
    if m["largest_weight"] is not None:
        words += f"; {m['weights']:,} weights, the largest {m['largest_weight']:.2g}"
    return words
