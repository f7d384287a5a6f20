"""Agreement of two classifiers, against what a constant or a guess would reach."""

from __future__ import annotations

import numpy as np
import scipy  # which imports its parts when they are used: a stored run needs none
import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 10
AGREEMENT = (  # the numbers of `agreement`
    *("agreement", "agreement_low", "agreement_high", "majority_agreement", "chance_agreement", "teacher_classes"),
    *("kappa", "kappa_low", "kappa_high", "output_correlation"),
)


def agreement(teacher: Tensor, student: Tensor) -> dict[str, float | None]:
    """Compare a student's logits with its teacher's on the same held-out inputs, both (n, K).

    `agreement`: share of inputs with equal argmax, with its Wilson 95 % interval. `majority_agreement`: share of the
    teacher's most common class, which a constant student reaches. `chance_agreement`: Σ_k p_k q_k of the two
    marginals. `kappa` (Cohen 1960): (agreement − chance)/(1 − chance), with the 95 % interval of Fleiss, Cohen &
    Everitt (1969), which is for many inputs of both kinds: if they agree, or differ, on fewer than `FEW`, it reaches
    as far as Wilson's of the agreement, for this chance. None if chance is 1, that is if both always predict one and
    the same class.
    `output_correlation`: Pearson correlation, over all inputs and classes, of the logits minus their mean over the
    classes of each input (softmax is invariant to that mean); None if one of them is constant.
    `teacher_classes`: the effective number of classes that the teacher predicts, the exponential of their entropy;
    near 1 its predictions have collapsed.
    The intervals are over inputs, for these two networks.
    """
    table = confusion(teacher, student)
    n = int(table.sum())
    same = int(np.trace(table))
    low, high = wilson(same, n)
    return {
        "agreement": same / n,
        "agreement_low": low,
        "agreement_high": high,
        "majority_agreement": int(table.sum(axis=1).max()) / n,
        "chance_agreement": chance(table),
        "teacher_classes": effective_classes(table.sum(axis=1)),
        **cohen_kappa(table),
        "output_correlation": output_correlation(teacher, student),
    }


def confusion(teacher: Tensor, student: Tensor) -> np.ndarray:
    """Return counts (K, K) of inputs by the teacher's class (row) and the student's (column)."""
    classes = teacher.shape[1]
    pairs = teacher.argmax(dim=1) * classes + student.argmax(dim=1)
    return pairs.bincount(minlength=classes**2).reshape(classes, classes).cpu().numpy()


def chance(table: np.ndarray) -> float:
    """Return the agreement of two independent classifiers with the table's marginals: Σ_k p_k q_k."""
    n = table.sum()
    return float((table.sum(axis=1) / n) @ (table.sum(axis=0) / n))


def effective_classes(counts: np.ndarray) -> float:
    """Return exp(−Σ p log p) of class counts: K if all K are equally frequent, 1 if only one occurs."""
    return float(np.exp(scipy.stats.entropy(counts)))


def cohen_kappa(table: np.ndarray) -> dict[str, float | None]:
    """Return Cohen's kappa of a confusion table, with its 95 % interval, see `agreement`."""
    from statsmodels.stats.inter_rater import cohens_kappa  # here, because the import takes a second

    expected = chance(table)
    if expected == 1.0:
        return {"kappa": None, "kappa_low": None, "kappa_high": None}
    with np.errstate(invalid="ignore", divide="ignore"):
        found = cohens_kappa(table)
    # If one classifier is constant the variance is 0, and rounding may make it negative.
    kappa, half = float(found.kappa), 1.959964 * float(np.nan_to_num(found.std_kappa))
    low, high = kappa - half, kappa + half
    same, n = int(np.trace(table)), int(table.sum())
    if min(same, n - same) < FEW and min(np.count_nonzero(table.sum(axis=axis)) for axis in (0, 1)) > 1:
        least, most = ((share - expected) / (1 - expected) for share in wilson(same, n))
        low, high = min(low, least), max(high, most)
    return {"kappa": kappa, "kappa_low": low, "kappa_high": high}


def label_recall(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Compare the argmax of `logits` (n, K) with `labels` (n,): accuracy, its Wilson 95 % interval, Cohen's kappa."""
    table = confusion(F.one_hot(labels, logits.shape[1]).float(), logits)
    correct, n = int(np.trace(table)), int(table.sum())
    low, high = wilson(correct, n)
    return {"accuracy": correct / n, "accuracy_low": low, "accuracy_high": high, **cohen_kappa(table)}


def output_correlation(teacher: Tensor, student: Tensor) -> float | None:
    """Return the Pearson correlation of two sets of logits (n, K), each input's mean over classes removed."""
    value = torch.corrcoef(torch.stack([centred(teacher).flatten(), centred(student).flatten()]))[0, 1].item()
    return value if np.isfinite(value) else None


def centred(logits: Tensor) -> Tensor:
    """Return logits (n, K) in float64, minus each input's mean over the classes."""
    logits = logits.double()
    return logits - logits.mean(dim=1, keepdim=True)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion."""
    interval = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
