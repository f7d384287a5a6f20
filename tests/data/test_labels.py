import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rebuttal.data import BalancedLabels, PermutedLabels, RandomLabels
from rebuttal.data.labels import random_labels, true_labels

LABELS = torch.from_numpy(np.random.default_rng(0).integers(10, size=5000))


def changed(fraction, seed=0):
    return RandomLabels(fraction=fraction)(LABELS, 10, seed) != LABELS


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**40))
def test_corrupted_sets_are_nested_and_keep_their_labels(p, q, seed):
    low, high = (RandomLabels(fraction=f)(LABELS, 10, seed) for f in sorted((p, q)))
    at_low = low != LABELS
    assert torch.equal(high[at_low], low[at_low])


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_one_in_k_random_labels_is_true_by_chance(fraction):
    n, expected = len(LABELS), fraction * 0.9
    assert changed(fraction).double().mean().item() == pytest.approx(expected, abs=4 * np.sqrt(0.09 / n) + 1e-12)


def test_fractions_0_and_1_are_true_and_random_labels():
    assert torch.equal(true_labels()(LABELS, 10, 0), LABELS)
    assert torch.equal(random_labels()(LABELS, 10, 0), RandomLabels(fraction=1.0)(LABELS, 10, 0))
    assert not torch.equal(changed(0.5, seed=0), changed(0.5, seed=1))


def test_permuted_labels_keep_class_counts_only():
    permuted = PermutedLabels()(LABELS, 10, 0)
    assert torch.equal(permuted.bincount(), LABELS.bincount())
    assert (permuted == LABELS).double().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("n", "classes"), [(1000, 10), (1003, 10), (7, 10)])
def test_balanced_labels_have_each_class_equally_often(n, classes):
    labels = BalancedLabels()(torch.zeros(n, dtype=torch.int64), classes, 0)
    counts = labels.bincount(minlength=classes)
    assert counts.sum() == n and counts.max() - counts.min() <= 1
    assert not torch.equal(labels, BalancedLabels()(torch.zeros(n, dtype=torch.int64), classes, 1))
