import numpy as np
import pytest
import torch

from rebuttal.measures.demand import LabelDemand, exact_distances
from rebuttal.measures.lipschitz import LipschitzBracket
from rebuttal.measures.measure import Probes
from rebuttal.models import MLP
from tests.measures.conftest import linear, subject


def probes(train, labels):
    return Probes({"train": train, "test": train}, labels, 2**28, np.random.default_rng(0))


def test_the_closest_pair_with_different_labels():
    train = torch.tensor([[0.0, 0.0], [0.0, 0.1], [3.0, 0.0], [3.0, 0.5]], dtype=torch.float64)
    f = linear(torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    found = LabelDemand()(subject(f, 2), probes(train, torch.tensor([0, 0, 1, 0]))).numbers
    assert found["demand_distance"] == pytest.approx(0.5)
    assert found["demand_one_hot"] == pytest.approx(2**0.5 / 0.5)
    assert found["demand_secant"] == pytest.approx(2.0)  # from (0, 0) to (3, 0)


def test_the_secant_is_within_the_bracket():
    torch.manual_seed(0)
    network = MLP(hidden=(32,)).network((6,), 4).double().eval()
    train = torch.rand(60, 6, dtype=torch.float64)
    labels = torch.randint(4, (60,))
    secant = LabelDemand()(subject(network, 4), probes(train, labels)).numbers["demand_secant"]
    bracket = LipschitzBracket(starts=0, steps=0, step=0.1)(subject(network, 4), probes(train, labels)).numbers
    assert secant <= bracket["lipschitz_upper"] * (1 + 1e-9)


def test_equal_inputs_with_different_labels_have_no_lipschitz_bound():
    train = torch.zeros(2, 3, dtype=torch.float64)
    found = LabelDemand()(subject(lambda x: x[:, :2], 2), probes(train, torch.tensor([0, 1]))).numbers
    assert found["demand_distance"] == 0 and found["demand_one_hot"] is None
    same = LabelDemand()(subject(lambda x: x[:, :2], 2), probes(train, torch.tensor([1, 1]))).numbers
    assert same["demand_distance"] is None


def test_one_grey_level_is_not_lost_to_cancellation():
    image = torch.rand(1, 3072)
    near = image.clone()
    near[0, 7] += 1 / 255
    assert exact_distances(torch.cat([image, near]))[0, 1].item() == pytest.approx(1 / 255, rel=1e-4)
