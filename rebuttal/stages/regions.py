"""In which region of the map a cell lies, and what the border of the region where the thesis holds depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

REGIONS = ("holds", "learnable", "not learnable", "teacher does not fit", "undecided")
AGREEMENT, KAPPA = 0.85, 0.8  # from which the thesis holds
PHASES = ("memorises", "approximates", "recovers", "teacher does not fit")
RECOVERED = 0.99  # share of inputs from which a network is said to fit, or to be recovered
FOLDS = 5
PENALTY = 0.01  # on squared coefficients of standardised features: cells that a line divides have no finite ones


def holds(metrics: dict[str, Any]) -> bool:
    """Whether the thesis holds for a student: an agreement of at least 85 %, and a kappa of at least 0.8."""
    return bool(metrics["agreement"] >= AGREEMENT and (metrics["kappa"] or 0) >= KAPPA)


def region(students: Sequence[dict[str, Any]], fitted: Sequence[bool], controls: Sequence[float]) -> str:
    """Return the region of a cell, from the metrics of its students, one a seed; whether each one's teacher fitted all
    of its labels; and the kappas of students of control teachers.

    `holds`: with every seed the agreement is at least 85 % and kappa at least 0.8. `learnable`: with every seed kappa
    is above 0, by its interval, and above every control's. `not learnable`: with no seed. Else `undecided`.
    """
    if not all(fitted):
        return "teacher does not fit"
    held = [holds(metrics) for metrics in students]
    if all(held):
        return "holds"
    above = max([0.0, *controls])
    learnt = [s["kappa"] is not None and s["kappa_low"] > 0 and s["kappa"] > above for s in students]
    if any(held):
        return "undecided"
    return "learnable" if all(learnt) else "undecided" if any(learnt) else "not learnable"


def phase(metrics: dict[str, Any], teacher_accuracy: float, chance: float) -> str | None:
    """Return the phase of a student that has seen a share of its teacher's training inputs (Behrens and Zdeborová 2025,
    figure 6): it `recovers` the teacher if it gives 99 % of the memorised labels that it has not seen; else it
    `memorises` if it agrees with the teacher on 99 % of its own inputs, and `approximates` it if on fewer, but it gives
    more unseen labels than chance does, by their interval. None if neither, or if there are no unseen labels."""
    unseen = metrics["unseen_memorised_agreement"]
    if teacher_accuracy < RECOVERED:
        return "teacher does not fit"
    if unseen is None:
        return None
    if unseen >= RECOVERED:
        return "recovers"
    if metrics["train_agreement"] >= RECOVERED:
        return "memorises"
    return "approximates" if metrics["unseen_memorised_agreement_low"] > chance else None


def border(features: np.ndarray, holds: np.ndarray, groups: np.ndarray) -> float | None:
    """Return the share of held-out observations of which a logistic model says rightly whether the thesis holds.

    `features` (n, p), `holds` (n,) bool; `groups` (n,): the cells, of which all seeds are held out together, in `FOLDS`
    folds. Without features the model gives the more frequent answer. None of a single cell, as nothing is left to fit.
    """
    cells = np.random.default_rng(0).permutation(np.unique(groups))
    if len(cells) < 2:
        return None
    right = np.zeros(len(holds), dtype=bool)
    for fold in np.array_split(cells, min(FOLDS, len(cells))):
        out = np.isin(groups, fold)
        weights = logistic(features[~out], holds[~out])
        right[out] = (with_constant(features[out]) @ weights > 0) == holds[out]
    return float(right.mean())


def logistic(features: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """Return the coefficients (1 + p,), constant first, of a logistic regression with a small penalty on standardised
    features (ridge; le Cessie and van Houwelingen 1992)."""
    mean, std = features.mean(axis=0), features.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    x, sign = with_constant((features - mean) / std), np.where(holds, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = sign * (x @ weights)
        penalised = np.concatenate([[0.0], weights[1:]])
        value = np.logaddexp(0, -margins).mean() + PENALTY / 2 * (penalised**2).sum()
        slope = -(sign * scipy.special.expit(-margins)) @ x / len(x) + PENALTY * penalised
        return float(value), slope

    found = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True).x
    slopes = found[1:] / std
    return np.concatenate([[found[0] - slopes @ mean], slopes])


def with_constant(features: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(features)), features])
