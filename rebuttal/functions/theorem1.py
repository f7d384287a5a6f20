"""The network of theorem 1 of Zhang et al. 2017: fitted to any labels by solving a triangular system."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.models.preprocess import FlattenPixels
from rebuttal.seeds import generator
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session
from rebuttal.training.evaluation import predict

log = logging.getLogger(__name__)

NEARNESS = 0.25  # of a threshold to the point below it, in distances between points
RESOLUTION = 1e-12  # of the range of the points: nearer ones count as equal

Array = NDArray[np.float64]


@checked
class Theorem1:
    """A two-layer ReLU network that fits the training labels exactly and was not trained (Zhang et al. 2017, theorem 1,
    appendix C): f(x) = Σ_j w_j relu(⟨a, x⟩ − b_j), in float64, with logits 1 for the label and 0 for other classes.

    a is a random unit vector; thresholds lie between the points z_i = ⟨a, x_i⟩: b_1 < z_1 < b_2 < z_2 < …, so that
    relu(z_i − b_j) is a lower triangular matrix. For K classes w_j ∈ R^K, over the same a and b: n(K + 1) + d weights.

    The theorem leaves free where between two points a threshold lies. Here it is a quarter of the smaller of the two
    neighbouring distances above the lower point: logits then stay between −0.5 and 1.5 among the points; thresholds in
    the middle would let the errors grow from point to point. Of equal inputs, the label of the first is fitted. The log
    says how many labels are not fitted, how near a threshold is to a point, how large a weight is, and the condition
    number of the system.
    """

    fit: Fit
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        examples = self.fit.training_examples(session)
        classes = session.open(self.fit.dataset).classes
        network = interpolating(examples.inputs, examples.labels, classes, self.fit.seed)
        wrong = int((predict(network, examples.inputs).argmax(dim=1) != examples.labels).sum())
        log.info("theorem1: %s; %d of %d labels are not fitted", network.words(), wrong, len(examples))
        return network

    def identity(self, session: Session) -> Any:
        data = self.fit.data_identity(session)
        return {"function": "theorem1", "version": 1, "data": data, "seed": self.fit.seed}


class Interpolating(nn.Sequential):
    """Flattens inputs (n, *shape), projects them on the unit vector `a` (d,), subtracts `thresholds` (m,), applies
    ReLUs and multiplies by `weights` (m, K), all in float64. `points` (m,): the projections that it was fitted at.
    `solution`: what the stage `accuracy` reports of it."""

    def __init__(self, a: Tensor, points: Array, thresholds: Array, weights: Array):
        projection = nn.Linear(len(a), 1, bias=False, dtype=torch.float64)
        last = nn.Linear(weights.shape[0], weights.shape[1], bias=False, dtype=torch.float64)
        projection.weight.data.copy_(a[None])
        last.weight.data.copy_(torch.from_numpy(weights.T))
        super().__init__(FlattenPixels(dtype=torch.float64), projection, Thresholds(thresholds), nn.ReLU(), last)
        self.solution = {
            "weights": sum(weight.numel() for weight in self.parameters()),
            "largest_weight": float(abs(weights).max()),
            "smallest_gap": float(min(np.diff(np.sort(np.concatenate([points, thresholds]))))),
            "condition": condition_number(points, thresholds),
        }

    def words(self) -> str:
        weights, largest = self.solution["weights"], self.solution["largest_weight"]
        gap, condition = self.solution["smallest_gap"], self.solution["condition"]
        return (
            f"{weights:,} weights, the largest {largest:.3g}; a threshold is {gap:.3g} from a point; the condition "
            f"number is {condition:.3g}"
        )


class Thresholds(nn.Linear):
    """x (n, 1) ↦ x − `thresholds` (n, m)."""

    def __init__(self, thresholds: Array):
        super().__init__(1, len(thresholds), dtype=torch.float64)
        del self.weight
        self.register_buffer("weight", torch.ones(len(thresholds), 1, dtype=torch.float64))  # not one of the weights
        self.bias.data.copy_(torch.from_numpy(-thresholds))


def interpolating(inputs: Tensor, labels: Tensor, classes: int, seed: int) -> Interpolating:
    """Return the network, on the inputs' device, that fits labels (n,) at inputs (n, *shape)."""
    x = in_unit_range(inputs).flatten(1).double()
    drawn = generator(seed, "theorem1").standard_normal(x.shape[1])
    a = torch.from_numpy(drawn / np.linalg.norm(drawn)).to(x.device)
    targets = F.one_hot(labels, classes).double().cpu().numpy()
    points, targets = distinct((x @ a).cpu().numpy(), targets)
    thresholds = thresholds_between(points)
    network = Interpolating(a, points, thresholds, solved(points, thresholds, targets))
    return network.to(inputs.device).eval().requires_grad_(False)


def distinct(points: Array, targets: Array) -> tuple[Array, Array]:
    """Return the points (n,), in order, and targets (n, K); of those that are equal but for rounding, the first."""
    order = np.argsort(points, kind="stable")
    apart = np.append(True, np.diff(points[order]) > RESOLUTION * max(np.ptp(points), np.finfo(float).tiny))
    first = np.minimum.reduceat(order, np.flatnonzero(apart))  # equal inputs may be projected a last bit apart
    return points[first], targets[first]


def thresholds_between(points: Array) -> Array:
    """Return a threshold below each of the points z_1 < z_2 < …, which is above the point before."""
    gaps = np.diff(points)
    before = np.append(gaps[:1], gaps[:-1])  # the distance below each point but the last; nothing is below the first
    lowest = points[:1] - (gaps[:1] if len(gaps) else 1.0)
    return np.concatenate([lowest, points[:-1] + NEARNESS * np.minimum(gaps, before)])


def solved(points: Array, thresholds: Array, targets: Array) -> Array:
    """Return the weights w (n, K) for which Σ_j w_j relu(z_i − b_j) is target i.

    The function is linear between thresholds: its value at the next threshold and its slope there follow from those at
    the last, and w_j is by how much the slope changes at b_j. Forward substitution would subtract large numbers."""
    value, slopes = np.zeros(targets.shape[1]), np.zeros_like(targets)
    for i, target in enumerate(targets):
        slopes[i] = (target - value) / (points[i] - thresholds[i])
        if i + 1 < len(points):
            value = target + slopes[i] * (thresholds[i + 1] - points[i])
    return np.diff(slopes, axis=0, prepend=0.0)


def condition_number(points: Array, thresholds: Array) -> float:
    """Return ‖A‖_∞ ‖A⁻¹‖_∞ of the matrix A_ij = relu(z_i − b_j), exact, without forming it.

    Row i of A⁻¹ gives w_i = s_i − s_(i−1), s_i = (y_i − y_(i−1) − e_i)/(z_i − b_i), where e_(i+1) = r_i(y_i − y_(i−1) −
    e_i) is the value at the next threshold less y_i, r_i = (b_(i+1) − z_i)/(z_i − b_i), y_0 = e_1 = 0. As each y_k has
    coefficients of one sign in both terms, the sums of their magnitudes are those of the terms, added."""
    below = points - thresholds
    ratios = (thresholds[1:] - points[:-1]) / below[:-1]
    sums = np.ones(len(points))  # of the coefficients of (z_i − b_i) s_i
    for i, ratio in enumerate(ratios):
        sums[i + 1] = 2 + ratio * sums[i]
    rows = sums / below
    rows[1:] += rows[:-1].copy()
    return float((points[-1] - thresholds).sum() * rows.max())
