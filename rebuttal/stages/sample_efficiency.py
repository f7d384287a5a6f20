"""The `sample_efficiency` stage: the number of new inputs that a student needs, compared with its teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy import inf
from pydantic import Field, PositiveInt

from rebuttal.config import checked
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, kappa_in_words
from rebuttal.stages.variants import Learner, check_increasing, repeated, with_ends, with_sizes
from rebuttal.statistics import NeededSize, exponent_interval, interval_metrics, interval_of, needed_sizes, size_needed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Found = dict[int, list[list[Metrics]]]  # by n1, then by repeat, then by n2


@checked
class SampleEfficiency:
    """Repeat `student` and its teacher for each n1 in `train_sizes`, each n2 in `student_sizes` and `repeats` seeds:
    the student's own, and seeds derived from it.

    Metrics, means over seeds with 95 % t-intervals: `kappa_<n1>_<n2>`, `agreement_<n1>_<n2>`, and on the student's own
    inputs `train_agreement_<n1>_<n2>`; `r_<n2>`, see `Mimic`, None if it differs between the n1; for each target in
    `kappas` (and likewise in `agreements`): `n2_for_kappa_<target>_<n1>`, see `rebuttal.statistics.size_needed`, and
    `ratio_for_kappa_<target>_<n1>`, n1 over that n2, which the thesis puts at 10; `_low`, `_high`: the range over
    seeds. None: not reached, and then the ratio is below `ratio_below_for_kappa_<target>_<n1>`, n1 over the largest n2;
    reached by the smallest n2 already, and then it is at least `ratio_above_for_kappa_<target>_<n1>`; or undefined,
    because a kappa is (both give a single class): then those are None too. `exponent_for_kappa_<target>`:
    β of the law n2 = c·n1^β, with its 95 % interval over seeds (`rebuttal.statistics.exponent_interval`); sizes that
    were not reached, or by the smallest already, count as censored.
    """

    student: Learner
    train_sizes: Sizes
    student_sizes: Sizes
    repeats: PositiveInt
    kappas: tuple[Share, ...]
    agreements: tuple[Share, ...]

    def check(self, session: Session) -> None:
        check_increasing(train_sizes=self.train_sizes, student_sizes=self.student_sizes)
        for n1 in self.train_sizes:
            for n2 in self.student_sizes:
                self._student(n1, n2, 0).check(session)

    def identity(self, session: Session) -> list[Any]:
        return [student.identity(session) for student in self.needs(session)]

    def needs(self, session: Session) -> list[Learner]:
        return [
            self._student(n1, n2, repeat)
            for n1 in self.train_sizes
            for n2 in self.student_sizes
            for repeat in range(self.repeats)
        ]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        whats = (("kappa", self.kappas), ("agreement", self.agreements))
        curves = ("kappa", "agreement", "train_agreement")
        means = [f"{what}_{n1}_{n2}" for what in curves for n1 in self.train_sizes for n2 in self.student_sizes]
        needed = [
            f"for_{what}_{target:g}_{n1}" for what, targets in whats for target in targets for n1 in self.train_sizes
        ]
        means += [f"{name}_{target}" for name in ("n2", "ratio") for target in needed]
        means += [f"exponent_for_{what}_{target:g}" for what, targets in whats for target in targets]
        asked = [f"r_{n2}" for n2 in self.student_sizes]
        bounds = [f"ratio_{side}_{target}" for target in needed for side in ("below", "above")]
        return [*with_ends(means), *bounds, *asked]

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        found = self._found(session)
        for n1 in self.train_sizes:
            for what, targets in (("kappa", self.kappas), ("agreement", self.agreements), ("train_agreement", ())):
                curves = _curves(found[n1], what)
                for n2, values in zip(self.student_sizes, curves.T):
                    metrics |= interval_metrics(
                        f"{what}_{n1}_{n2}", interval_of([None if np.isnan(v) else v for v in values])
                    )
                for target in targets:
                    metrics |= self._needed(n1, what, curves, target)
        for what, target in self._targets():
            law = exponent_interval(self._needed_by_seed(found, what, target))
            metrics |= interval_metrics(f"exponent_for_{what}_{target:g}", law)
        metrics |= {f"r_{n2}": _r(found, i) for i, n2 in enumerate(self.student_sizes)}
        return Outcome(metrics, words=self._words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        found = self._found(session)
        curves = {n1: _curves(of_n1, "kappa") for n1, of_n1 in found.items()}
        r = _r(found, -1)
        a_question = None if r is None else r / self.student_sizes[-1]
        figures = {"kappa": students.sample_efficiency(curves, self.student_sizes, a_question)}
        laws = {(what, target): self._needed_by_seed(found, what, target) for what, target in self._targets()}
        return figures | ({"law": students.laws(laws)} if laws and len(self.train_sizes) > 1 else {})

    def _targets(self) -> list[tuple[str, float]]:
        return [(what, target) for what in ("kappa", "agreement") for target in getattr(self, f"{what}s")]

    def _needed_by_seed(self, found: Found, what: str, target: float) -> list[list[NeededSize]]:
        """Return, for each seed, the n2 that each n1 needs; without those n1 at which a number is undefined."""
        curves = {n1: _curves(of_n1, what) for n1, of_n1 in found.items()}
        of_sizes = [
            needed_sizes(n1, self.student_sizes, curve, target)
            for n1, curve in curves.items()
            if not np.isnan(curve).any()
        ]
        return [list(of_seed) for of_seed in zip(*of_sizes)]

    def _student(self, n1: int, n2: int, repeat: int) -> Learner:
        return with_sizes(repeated(self.student, repeat), n1, n2)

    def _found(self, session: Session) -> Found:
        """Return the metrics of every student, each asked once: a student may be read from the store."""
        return {
            n1: [
                [self._student(n1, n2, repeat).run(session).metrics for n2 in self.student_sizes]
                for repeat in range(self.repeats)
            ]
            for n1 in self.train_sizes
        }

    def _needed(self, n1: int, what: str, curves: np.ndarray, target: float) -> Metrics:
        found = size_needed(self.student_sizes, curves, target)
        name = f"for_{what}_{target:g}_{n1}"
        fewest, most = self.student_sizes[0], self.student_sizes[-1]
        n2, low, high = (size if size is not None and fewest < size < inf else None for size in found)
        ratio, greatest, least = (None if size is None else n1 / size for size in (n2, low, high))
        bounds: Metrics = {
            f"ratio_below_{name}": n1 / most if found[0] == inf else None,
            f"ratio_above_{name}": n1 / fewest if found[0] == fewest else None,
        }
        return (
            interval_metrics(f"n2_{name}", (n2, low, high))
            | interval_metrics(f"ratio_{name}", (ratio, least, greatest))
            | bounds
        )

    def _words(self, m: Metrics) -> str:
        n1 = self.train_sizes[-1]
        fewest, most = self.student_sizes[0], self.student_sizes[-1]
        words = f"teachers with n1 = {n1}: {kappa_in_words(m[f'kappa_{n1}_{fewest}'])} with {fewest} new inputs, "
        words += f"{kappa_in_words(m[f'kappa_{n1}_{most}'])} with {most}"
        for target in self.kappas:
            n2 = m[f"n2_for_kappa_{target:g}_{n1}"]
            if m[f"ratio_above_for_kappa_{target:g}_{n1}"] is not None:
                words += f"; κ {target:g} needs at most {fewest}, n1/n2 is at least {n1 / fewest:.2g} (the thesis: 10)"
            elif n2 is None:
                words += f"; κ {target:g} is not reached"
            else:
                words += f"; κ {target:g} needs {n2:.0f}, n1/n2 = {n1 / n2:.2g} (the thesis: 10)"
            if (exponent := m[f"exponent_for_kappa_{target:g}"]) is not None:
                words += f"; n2 grows as n1 to the power of {exponent:.2g}"
        return words


def _curves(of_n1: list[list[Metrics]], what: str) -> np.ndarray:
    """Return the metric `what` as an array (repeats, student sizes)."""
    return np.array([[metrics[what] for metrics in row] for row in of_n1], dtype=float)  # undefined: NaN


def _r(found: Found, place: int) -> float | None:
    """Return r at one of the student sizes, if it is the same for every n1."""
    values = {of_n1[0][place]["r"] for of_n1 in found.values()}
    return values.pop() if len(values) == 1 else None
