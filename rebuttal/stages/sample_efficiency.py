"""The `sample_efficiency` stage: how many new inputs a student needs, against how many its teacher had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from rebuttal.analysis.statistics import interval_metrics, mean_interval, size_needed
from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.seeds import generator
from rebuttal.session import Session
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.stage import Metrics, Outcome
from rebuttal.stages.variants import variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


@checked
class SampleEfficiency:
    """Repeat `student` and its teacher for each n1 in `train_sizes`, each n2 in `student_sizes` and `repeats`
    seeds, from the student's own seed on.

    Metrics, means over seeds with 95 % t-intervals: `kappa_<n1>_<n2>`, `agreement_<n1>_<n2>`; for each target
    in `kappas` and `agreements`: `n2_for_kappa_<target>_<n1>`, see `rebuttal.analysis.statistics.size_needed`,
    and `ratio_for_kappa_<target>_<n1>`, n1 over that n2, which the thesis puts at 10. Null: not reached, the ratio
    being below `least_ratio_<n1>`, n1 over the largest n2. Undefined kappas (both answer one class only) count as 0.
    """

    student: Mimic
    train_sizes: Sizes
    student_sizes: Sizes
    repeats: PositiveInt
    kappas: tuple[Share, ...]
    agreements: tuple[Share, ...]

    def check(self, session: Session) -> None:
        for name in ("train_sizes", "student_sizes"):
            sizes = getattr(self, name)
            if list(sizes) != sorted(set(sizes)):
                raise ConfigError(f"stages.*.{name}={list(sizes)}: allowed: sizes that grow")
        for n1 in self.train_sizes:
            for n2 in self.student_sizes:
                self._student(n1, n2, 0).check(session)

    def identity(self, session: Session) -> Any:
        return [student.identity(session) for student in self.needs(session)]

    def needs(self, session: Session) -> list[Mimic]:
        return [
            self._student(n1, n2, repeat)
            for n1 in self.train_sizes
            for n2 in self.student_sizes
            for repeat in range(self.repeats)
        ]

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        for n1 in self.train_sizes:
            metrics[f"least_ratio_{n1}"] = n1 / self.student_sizes[-1]
            for what, targets in (("kappa", self.kappas), ("agreement", self.agreements)):
                curves = self._curves(session, n1, what)
                for n2, values in zip(self.student_sizes, curves.T):
                    metrics |= interval_metrics(f"{what}_{n1}_{n2}", mean_interval(values))
                for target in targets:
                    metrics |= self._needed(n1, what, curves, target)
        return Outcome(metrics, words=self._words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import student_figures

        curves = {n1: self._curves(session, n1, "kappa") for n1 in self.train_sizes}
        return {"kappa": student_figures.sample_efficiency(curves, self.student_sizes)}

    def _student(self, n1: int, n2: int, repeat: int) -> Mimic:
        return variant(self.student, self.student.seed + repeat, train_size=n1, student_size=n2)

    def _curves(self, session: Session, n1: int, what: str) -> np.ndarray:
        """(repeats, student_sizes)."""
        found = [
            [self._student(n1, n2, repeat).run(session).metrics[what] or 0.0 for n2 in self.student_sizes]
            for repeat in range(self.repeats)
        ]
        return np.array(found)

    def _needed(self, n1: int, what: str, curves: np.ndarray, target: float) -> Metrics:
        rng = generator(self.student.seed, "sample_efficiency", "bootstrap")
        needed = size_needed(self.student_sizes, curves, target, rng)
        n2, low, high = needed
        ratios = tuple(None if size is None else n1 / size for size in (n2, high, low))
        name = f"for_{what}_{target:g}_{n1}"
        return interval_metrics(f"n2_{name}", needed) | interval_metrics(f"ratio_{name}", ratios)

    def _words(self, m: Metrics) -> str:
        n1 = self.train_sizes[-1]
        least, most = self.student_sizes[0], self.student_sizes[-1]
        said = f"teachers of n1 = {n1}: κ {m[f'kappa_{n1}_{least}']:.2f} from {least} new inputs, "
        said += f"{m[f'kappa_{n1}_{most}']:.2f} from {most}"
        for target in self.kappas:
            n2 = m[f"n2_for_kappa_{target:g}_{n1}"]
            if n2 is None:
                said += f"; κ {target:g} is not reached"
            else:
                said += f"; κ {target:g} takes {n2:.0f}, n1/n2 = {n1 / n2:.2g} (the thesis: 10)"
        return said
