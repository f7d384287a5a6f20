"""The `reproducibility` stage: whether two functions draw the same picture of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import cohen_kappa, confusion
from rebuttal.measures.plane import Plane
from rebuttal.rounding import percent
from rebuttal.seeds import generator
from rebuttal.stages.function import Function, FunctionOption, Logits, check_function, checked_logits, opened
from rebuttal.stages.measure import KINDS, probe_count, probe_inputs
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage, kappa_in_words
from rebuttal.statistics import Interval, interval_metrics, interval_of
from rebuttal.training.evaluation import predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 2  # raised when the same settings give another result


@checked
class Reproducibility:
    """Compare the classes of two functions, `one` and `other`, such as networks of other initial weights, on `planes`
    planes through three random probes of each kind, at `resolution`² points of the square twice as wide as the one
    around their triangle. `probes`: of each kind, `train`, `test`, `noise` and `between` as in the stage `smoothness`,
    from the data of `one` (fewer if its dataset is smaller).

    Metrics by kind of probes: `reproducibility_<kind>`, the share of points of equal class (Somepalli et al. 2022), as
    a mean over planes with its 95 % t-interval; `kappa_<kind>`, Cohen's kappa of all points of the planes, which is 0
    where the classes are unrelated, however often one of them is predicted, with the 95 % t-interval of a jackknife
    that leaves out a plane at a time, because the points of one are neighbours. None if no three probes span a plane;
    kappa also if both give one and the same class everywhere, its interval if they do without one of the planes. Cost:
    8 · `planes` · `resolution`² forward passes.
    """

    one: FunctionOption
    other: FunctionOption
    probes: Annotated[int, Field(ge=3)]
    planes: PositiveInt
    resolution: Annotated[int, Field(ge=8)]

    def check(self, session: Session) -> None:
        shapes = [tuple(session.open(function.fit.dataset).shape) for function in (self.one, self.other)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"stages.*.other: takes inputs of shape {list(shapes[1])}; allowed: {list(shapes[0])}, as stages.*.one"
            )
        for function in (self.one, self.other):
            check_function(function, session)
        if probe_count(session, self.one.fit.dataset, self.probes) < 3:
            raise ConfigError("dataset.test_size: a plane needs 3 probes; allowed: 3 or more, also in train_size")

    def identity(self, session: Session) -> dict[str, Any]:
        source = session.open(self.one.fit.dataset)
        return {
            "stage": "reproducibility",
            "version": VERSION,
            "functions": [self.one.identity(session), self.other.identity(session)],
            "inputs": [source.identity("train"), source.identity("test")],
            "probes": probe_count(session, self.one.fit.dataset, self.probes),
            "planes": self.planes,
            "resolution": self.resolution,
            "seed": self.one.fit.data_seed,
        }

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (*self.one.needs(session), *self.other.needs(session))

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        ends = ("", "_low", "_high")
        return [f"{name}_{kind}{end}" for kind in KINDS for name in ("reproducibility", "kappa") for end in ends]

    def run(self, session: Session) -> Outcome:
        fit = self.one.fit
        count = probe_count(session, fit.dataset, self.probes)
        functions = [(function, opened(function, session)) for function in (self.one, self.other)]
        metrics: Metrics = {}
        for kind, inputs in probe_inputs(session, fit.dataset, count, fit.data_seed).items():
            rng = generator(fit.data_seed, "probe", "reproducibility", kind)
            tables = [self._table(functions, plane, session) for plane in Plane.some(inputs, self.planes, rng)]
            metrics |= _scores(tables, kind)
        return Outcome(metrics, words=_words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        return {}

    def _table(self, functions: list[tuple[Function, Logits]], plane: Plane, session: Session) -> np.ndarray:
        """Return the confusion (K, K) of the two functions on one plane."""
        points = plane.grid(self.resolution)
        one, other = (
            checked_logits(predict(called, points), function, len(points), session, f"stages.*.{name}")
            for (function, called), name in zip(functions, ("one", "other"))
        )
        return confusion(*_alike(one, other))


def _alike(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sets of logits with as many classes as the one that has more; those added are never predicted."""
    classes = max(one.shape[1], other.shape[1])
    first, second = (F.pad(each, (0, classes - each.shape[1]), value=-torch.inf) for each in (one, other))
    return first, second


def _scores(tables: list[np.ndarray], kind: str) -> Metrics:
    shares = [float(np.trace(table) / table.sum()) for table in tables]
    interval = interval_of(shares) if shares else (None, None, None)
    return interval_metrics(f"reproducibility_{kind}", interval) | interval_metrics(f"kappa_{kind}", _kappa(tables))


def _kappa(tables: list[np.ndarray]) -> Interval:
    """Return the kappa of all planes, with the interval of a jackknife over them (Efron & Stein 1981)."""
    count = len(tables)
    whole = cohen_kappa(np.sum(tables, axis=0))["kappa"] if tables else None
    if whole is None or count < 2:
        return whole, None, None
    without = [cohen_kappa(np.sum(tables[:i] + tables[i + 1 :], axis=0))["kappa"] for i in range(count)]
    _, low, high = interval_of([None if one is None else count * whole - (count - 1) * one for one in without])
    if low is None or high is None:
        return whole, None, None
    half = (high - low) / 2
    return whole, whole - half, whole + half


def _words(m: Metrics) -> str:
    share, kappa = m["reproducibility_train"], m["kappa_train"]
    if share is None:
        return "no three probes span a plane"
    return f"equal classes on {percent(share, 1)} of planes through training inputs ({kappa_in_words(kappa)})"
