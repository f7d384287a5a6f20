"""The network of theorem 1 of Zhang et al. 2017 against the linear system that it solves."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.functions import Theorem1
from rebuttal.functions.theorem1 import condition_number, distinct, interpolating, solved, thresholds_between
from rebuttal.measures import GradientNorms, LipschitzBracket, OperatorNorms, PathNorm, SegmentCrossings
from rebuttal.measures.measure import Subject
from rebuttal.models import MLP
from rebuttal.stages import Fit, Mimic
from tests.measures.conftest import make_probes

__all__ = ["make_probes"]

DATA = UniformNoise(shape=(3, 4, 5), classes=7, train_size=1000, student_size=100, test_size=50)


@pytest.fixture
def fit(recipe):
    return Fit(model=MLP(hidden=(8,)), dataset=DATA, corruption=random_labels(), training=recipe(epochs=2), seed=0)


def matrix(points, thresholds):
    return np.maximum(points[:, None] - thresholds, 0)


def drawn(n, seed=0):
    """Points and thresholds."""
    points = np.sort(np.random.default_rng(seed).standard_normal(n))
    return points, thresholds_between(points)


def check_fit(fit, session):
    """The labels are random ones, which are fitted without exception, by as many weights as there should be."""
    known = fit.training_examples(session)
    network = Theorem1(fit=fit).function(session)
    logits = network(known.inputs)
    assert torch.equal(logits.argmax(dim=1), known.labels)
    assert torch.allclose(logits, F.one_hot(known.labels, 7).double(), atol=1e-6, rtol=0)
    n, d, classes = len(known), known.inputs[0].numel(), 7
    assert sum(weight.numel() for weight in network.parameters()) == n * (classes + 1) + d


def test_it_fits_any_labels_of_1000_points_with_as_many_weights_as_the_theorem_says(fit, session, caplog):
    with caplog.at_level(logging.INFO):
        check_fit(fit, session)
    (said,) = [record.getMessage() for record in caplog.records if "theorem1" in record.getMessage()]
    assert said.startswith("theorem1: 8,060 weights, the largest ")
    assert "; the condition number is " in said and said.endswith("; 0 of 1000 labels are not fitted")


@pytest.mark.slow
def test_it_fits_any_labels_of_5000_points(fit, session):
    check_fit(replace(fit, dataset=replace(DATA, train_size=5000)), session)


def test_for_one_output_it_has_2n_plus_d_weights():
    network = interpolating(torch.rand(9, 4), torch.zeros(9, dtype=torch.long), 1, 0)
    assert sum(weight.numel() for weight in network.parameters()) == 2 * 9 + 4


def test_three_points_by_hand():
    """At 0, 1 and 3; thresholds −1, 0 + 1/4 and 1 + 1/4. Rows of the matrix: (1, 0, 0), (2, ¾, 0), (4, 2¾, 1¾)."""
    points = np.array([0.0, 1.0, 3.0])
    thresholds = thresholds_between(points)
    assert thresholds.tolist() == [-1.0, 0.25, 1.25]
    w = solved(points, thresholds, np.array([[1.0], [0.0], [1.0]]))[:, 0]
    w2 = -2 / 0.75
    assert w.tolist() == pytest.approx([1.0, w2, (1 - 4 - 2.75 * w2) / 1.75], rel=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_weights_are_the_solution_of_the_triangular_system(n):
    points, thresholds = drawn(n)
    a, targets = matrix(points, thresholds), np.random.default_rng(1).standard_normal((n, 3))
    assert np.array_equal(a, np.tril(a)) and (np.diag(a) > 0).all()
    expected = torch.linalg.solve_triangular(torch.from_numpy(a), torch.from_numpy(targets), upper=False).numpy()
    assert np.allclose(solved(points, thresholds, targets), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 40])
def test_the_condition_number_is_that_of_the_matrix(n):
    points, thresholds = drawn(n)
    assert condition_number(points, thresholds) == pytest.approx(np.linalg.cond(matrix(points, thresholds), np.inf))


def test_thresholds_lie_between_the_points_and_logits_do_not_grow_from_point_to_point():
    points, thresholds = drawn(500)
    assert (thresholds < points).all() and (thresholds[1:] > points[:-1]).all()
    inputs, labels = torch.rand(500, 1), torch.arange(500) % 2
    network = interpolating(inputs, labels, 2, 0)
    among = torch.linspace(inputs.min().item(), inputs.max().item(), 10_001)[:, None]
    assert network(among).min() > -0.5 - 1e-9 and network(among).max() < 1.5 + 1e-9


def test_the_numbers_that_it_reports():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    network = interpolating(x, torch.tensor([0, 1, 0]), 2, 0)  # in one dimension a is 1 or −1
    last = network[-1].weight
    solution = network.solution
    assert solution["largest_weight"] == last.abs().max().item()
    assert solution["smallest_gap"] == pytest.approx(0.25) and solution["condition"] > 10


def test_of_equal_inputs_the_label_of_the_first_is_fitted():
    x = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    x[4] = x[1]
    network = interpolating(x, torch.tensor([0, 1, 2, 0, 2, 1]), 3, 0)
    assert network(x).argmax(dim=1).tolist() == [0, 1, 2, 0, 1, 1]
    points, targets = distinct(np.array([2.0, 1.0, 2.0]), np.array([[5.0], [6.0], [7.0]]))
    assert points.tolist() == [1.0, 2.0] and targets.tolist() == [[6.0], [5.0]]
    points, targets = distinct(np.array([2.0, 1.0, np.nextafter(2.0, 0.0)]), np.array([[5.0], [6.0], [7.0]]))
    assert points.tolist() == [1.0, 2.0] and targets.tolist() == [[6.0], [5.0]]
    assert interpolating(x[:1], torch.tensor([2]), 3, 0)(x[:1]).argmax().item() == 2


def test_a_change_of_seed_changes_the_projection_alone(fit):
    one, other = (interpolating(torch.rand(4, 6), torch.arange(4), 4, seed)[1].weight for seed in (0, 1))
    assert one.norm().item() == pytest.approx(1) and not torch.allclose(one, other)


def test_measures_of_layers_and_slopes_take_it(fit, session, make_probes):
    small = replace(fit, dataset=replace(DATA, train_size=20))
    network = Theorem1(fit=small).function(session)
    probes = make_probes(test=session.examples(DATA, "test", 0).inputs[:10])
    of_network = Subject(network, network, True, 7)
    measures = (LipschitzBracket(starts=2, steps=2, step=0.05), OperatorNorms(), PathNorm(), GradientNorms())
    found = {}
    for measure in (*measures, SegmentCrossings(pairs=3, points=5)):
        found |= measure(of_network, probes).numbers
    assert {"lipschitz_upper", "path_norm_l1_log10", "sigma_4", "region_changes_test"} <= found.keys()
    assert all(value is not None and np.isfinite(value) for value in found.values())
    assert 0 < found["lipschitz_lower"] <= found["lipschitz_upper"]
    slope = network[-1].weight.cumsum(dim=1)  # of each class, between one threshold and the next
    assert found["lipschitz_lower"] <= slope.norm(dim=0).max().item() * (1 + 1e-5)


@pytest.mark.parametrize("target", ["hard", "soft", "logit"])
def test_a_student_can_learn_it(fit, session, recipe, target):
    teacher = Theorem1(fit=replace(fit, dataset=replace(DATA, train_size=20)))
    learner = {"model": None, "dataset": None, "training": recipe(epochs=2), "target": target, "temperature": 1.0}
    assert 0 <= Mimic(teacher=teacher, **learner, seed=0).run(session).metrics["train_agreement"] <= 1
