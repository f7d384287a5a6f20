import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from rebuttal.functions.hash import HashFunction
from rebuttal.measures.measure import Probes
from rebuttal.measures.weight_noise import WeightNoise, largest
from tests.measures.conftest import linear, subject


def probes(inputs, labels):
    return Probes({"train": inputs}, labels, 2**28, np.random.default_rng(0))


@pytest.mark.parametrize("drop", [0.1, 0.25])
def test_the_noise_that_weights_bear_is_a_quantile_of_the_normal_distribution(drop):
    """f = (1, 0) at each of n inputs that have weights of their own: the leads are 1 + σ·N(0, 2), two weights, each;
    relative, 1 + σ·N(0, 1), because a weight of 0 has no noise."""
    n = 2000
    network = nn.Linear(n, 2, bias=False)
    network.weight.data.copy_(torch.tensor([[1.0], [0.0]]).expand(2, n))
    found = WeightNoise(draws=4, drop=drop, reach=5.0)(
        subject(network, 2), probes(torch.eye(n), torch.zeros(n, dtype=torch.long))
    ).numbers
    quantile = norm.ppf(1 - drop)
    assert found["weight_noise"] == pytest.approx(1 / (2**0.5 * quantile), rel=0.06)
    assert found["weight_noise_relative"] == pytest.approx(1 / quantile, rel=0.06)


def test_relative_noise_does_not_change_when_the_weights_are_rescaled():
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    labels = (inputs @ weight.T).argmax(dim=1)
    measure = WeightNoise(draws=3, drop=0.1, reach=64.0)
    one, eight = (measure(subject(linear(s * weight), 3), probes(inputs, labels)).numbers for s in (1, 8))
    assert one["weight_noise_relative"] == eight["weight_noise_relative"]
    assert eight["weight_noise"] == pytest.approx(8 * one["weight_noise"], rel=0.01)


def test_a_network_at_chance_has_nothing_to_lose():
    inputs, labels = torch.rand(200, 4), torch.arange(200) % 10
    found = WeightNoise(draws=3, drop=0.1, reach=5.0)(subject(linear(torch.zeros(10, 4)), 10), probes(inputs, labels))
    assert found.numbers == {"weight_noise": None, "weight_noise_relative": None}


def test_only_networks_have_weights():
    hashed = subject(HashFunction.draw(4, 0), 4, False)
    assert (
        WeightNoise(draws=1, drop=0.1, reach=1.0)(hashed, probes(torch.rand(5, 2), torch.arange(5) % 4)).numbers == {}
    )


def test_the_weights_are_left_alone_and_the_draws_repeat():
    network = linear(torch.eye(3))
    inputs, labels = torch.eye(3), torch.arange(3)
    measure = WeightNoise(draws=4, drop=0.1, reach=5.0)
    first, again = (measure(subject(network, 3), probes(inputs, labels)).numbers for _ in range(2))
    assert first == again and torch.equal(network[1].weight, torch.eye(3))


def test_bisection():
    assert largest(lambda sigma: sigma <= 0.3, 1.0) == pytest.approx(0.3, abs=2**-16)
    assert largest(lambda sigma: True, 1.0) is None
    assert largest(lambda sigma: False, 1.0) is None
