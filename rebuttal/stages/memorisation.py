"""The `memorisation` stage: whether a network is right about an example only because it was trained on it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.examples import Examples
from rebuttal.errors import ConfigError
from rebuttal.rounding import fixed, percent
from rebuttal.seeds import generator
from rebuttal.stages.fit import Fit
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Work
from rebuttal.stages.variants import with_ends
from rebuttal.statistics import ROUNDING, interval_metrics, interval_of
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORISED = 0.25  # the score from which Feldman & Zhang count an example as memorised

Share = Annotated[float, Field(gt=0, lt=1)]


@checked
class PartialFit(Fit):
    """A training on a random `share` of the examples, with the labels that they have in the whole; `part` 0, 1, …: each
    is another draw."""

    share: Share
    part: NonNegativeInt

    @classmethod
    def of(cls, fit: Fit, share: float, part: int) -> PartialFit:
        """Return a part of a training, from initial weights of its own."""
        given = {f.name: getattr(fit, f.name) for f in fields(fit)}
        return cls(**given | {"initialisation": fit.initialisation + part, "share": share, "part": part})

    def identity(self, session: Session) -> dict[str, Any]:
        return super().identity(session) | self._own()

    def initial_identity(self, session: Session) -> dict[str, Any]:
        return super().initial_identity(session) | self._own()

    def data_identity(self, session: Session) -> dict[str, Any]:
        return super().data_identity(session) | self._own()

    def work(self, session: Session) -> Work:
        work = super().work(session)
        count = len(self.rows(work.examples))
        return replace(work, examples=count, evaluated=work.evaluated - work.examples + count)

    def rows(self, n: int) -> np.ndarray:
        """Return which of n training examples it is trained on, in increasing order."""
        order = generator(self.data_seed, "part", str(self.part)).permutation(n)
        return np.sort(order[: round(self.share * n)])

    def chosen(self, examples: Examples) -> Examples:
        rows = torch.from_numpy(self.rows(len(examples))).to(examples.labels.device)
        return Examples(examples.inputs[rows], examples.labels[rows])

    def _own(self) -> dict[str, Any]:
        return {"part": [self.share, self.part]}


@checked
class Memorisation:
    """Repeat the training `fit` on `parts` random subsets, each a `share` of its examples, from other initial weights,
    and compare the networks that had an example with those that had not (Feldman & Zhang 2020, with a share of 0.7):
    mem(i) = P(right about i | i in the subset) − P(right about i | i not in it), right: with regard to the label that
    i has in `fit`.

    Metrics: `memorisation`, the mean of mem over the examples, with its 95 % t-interval; likewise `right_in` and
    `right_out`, the two terms; `memorised`, the share of examples with mem ≥ 0.25; `compared`, the number of examples
    that some networks had and others had not, to which all of these refer (all are None without any); `fitted`, the
    share of the networks that fit all of their labels. If all do, and the labels are random, `memorisation` is 1 − 1/K
    in expectation. Arrays: `mem`, and `examples`, the positions of the examples it is for.

    The networks of small parts are alike, and are trained together where that is faster. Cost: `parts` trainings.
    """

    fit: Fit
    parts: Annotated[int, Field(ge=2)]
    share: Share

    def check(self, session: Session) -> None:
        self.fit.check(session)
        size = session.open(self.fit.dataset).identity("train")["size"]
        if not 0 < round(self.share * size) < size:
            raise ConfigError(
                f"stages.*.share={self.share}: of {size} training examples takes all or none; allowed: some of them"
            )

    def identity(self, session: Session) -> list[Any]:
        return [part.identity(session) for part in self.needs(session)]

    def needs(self, session: Session) -> list[PartialFit]:
        return [PartialFit.of(self.fit, self.share, part) for part in range(self.parts)]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        return [*with_ends(("memorisation", "right_in", "right_out")), "memorised", "compared", "fitted"]

    def run(self, session: Session) -> Outcome:
        examples = self.fit.training_examples(session)
        parts = self.needs(session)
        inside = np.zeros((len(parts), len(examples)), dtype=bool)
        for row, part in zip(inside, parts):
            row[part.rows(len(examples))] = True
        right = np.stack([_right(part, examples, session) for part in parts])
        accuracies = [part.artifact(session).record["metrics"]["train_accuracy"] for part in parts]
        metrics, arrays = scores(right, inside)
        metrics["fitted"] = float(np.mean([accuracy == 1.0 for accuracy in accuracies]))
        return Outcome(metrics, words=_words(metrics), arrays=arrays)

    def figures(self, session: Session) -> dict[str, Figure]:
        return {}


def scores(right: np.ndarray, inside: np.ndarray) -> tuple[Metrics, dict[str, Tensor]]:
    """Return the metrics and arrays of `Memorisation`, from whether each network is `right` about each example, and had
    it in its subset, (networks, examples) bool each."""
    had, lacked = inside.sum(axis=0), (~inside).sum(axis=0)
    rows = np.flatnonzero((had > 0) & (lacked > 0))
    within = (right & inside).sum(axis=0)[rows] / had[rows]
    without = (right & ~inside).sum(axis=0)[rows] / lacked[rows]
    mem = within - without
    metrics: Metrics = {}
    for name, values in {"memorisation": mem, "right_in": within, "right_out": without}.items():
        metrics |= interval_metrics(name, interval_of(list(values)) if len(rows) else (None, None, None))
    metrics |= {"memorised": float((mem >= MEMORISED - ROUNDING).mean()) if len(rows) else None, "compared": len(rows)}
    return metrics, {"mem": torch.from_numpy(mem), "examples": torch.from_numpy(rows)}


def _right(part: PartialFit, examples: Examples, session: Session) -> np.ndarray:
    """Return about which examples the network of a part is right, (n,) bool."""
    logits = predict(part.network(session), examples.inputs)
    found: np.ndarray = (logits.argmax(dim=1) == examples.labels).cpu().numpy()
    return found


def _words(m: Metrics) -> str:
    if m["memorisation"] is None:
        return "no example was in some subsets and not in others"
    right_in, right_out, memorised = (percent(m[name], 1) for name in ("right_in", "right_out", "memorised"))
    return (
        f"memorisation {fixed(m['memorisation'], 2)}: right about {right_in} of the examples that a network had, about "
        f"{right_out} of those that it had not; {memorised} of them memorised"
    )
