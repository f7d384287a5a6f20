from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from rebuttal.functions.hash import HashFunction
from rebuttal.measures.critical import CriticalSamples
from rebuttal.models import MLP
from tests.measures.conftest import linear, subject

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(5, 8, dtype=torch.float64, generator=GENERATOR)
X = torch.randn(60, 8, dtype=torch.float64, generator=GENERATOR)
RADII = (0.3, 0.01, 0.1)
MEASURE = CriticalSamples(radii=RADII, probes=60, steps=5, langevin=5, step=0.25, noise=0.2)


def shares(found):
    return [found.numbers[f"critical_test_{radius:g}"] for radius in sorted(RADII)]


def test_a_linear_classifier_is_critical_within_its_exact_distance_in_every_coordinate(make_probes):
    found = replace(MEASURE, steps=0, langevin=0)(subject(linear(W), 5), make_probes(test=X))
    logits = X @ W.T
    top = logits.argmax(dim=1)
    gaps = (logits.max(dim=1, keepdim=True).values - logits) / (W[top][:, None] - W).abs().sum(dim=2)
    exact = gaps.scatter(1, top[:, None], torch.inf).min(dim=1).values
    for radius in RADII:
        assert found.arrays[f"critical_test_{radius:g}"].bool().tolist() == (exact <= radius).tolist()
    assert 0 < shares(found)[0] < shares(found)[1] < shares(found)[2]
    more = MEASURE(subject(linear(W), 5), make_probes(test=X))
    assert shares(more) == shares(found)  # there is nothing more to be found


def test_a_class_that_rises_and_falls_with_the_top_one_hides_no_other(make_probes):
    weights = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]], dtype=torch.float64)
    inputs = torch.rand(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    twins = subject(linear(weights, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)), 3)
    found = replace(MEASURE, radii=(0.5,), probes=30, steps=0, langevin=0)(twins, make_probes(test=inputs))
    exact = (1 + inputs[:, 0] - inputs[:, 1]) / 2
    assert found.arrays["critical_test_0.5"].bool().tolist() == (exact <= 0.5).tolist()
    assert 0 < found.numbers["critical_test_0.5"] < 1


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_constant_has_no_critical_point(differentiable, make_probes):
    constant = linear(torch.zeros(5, 8, dtype=torch.float64), torch.arange(5.0))
    assert shares(MEASURE(subject(constant, 5, differentiable), make_probes(test=X))) == [0, 0, 0]


def test_every_point_of_a_hash_is_critical(make_probes):
    hashed = subject(HashFunction.draw(10, 0), 10, differentiable=False)
    assert shares(MEASURE(hashed, make_probes(test=X.float()))) == [1, 1, 1]


def test_a_step_function_is_searched_at_random(make_probes):
    """On one coordinate, a boundary at distance 0.05: of a box of radius 0.1 a quarter lies beyond, at one draw."""
    inputs = torch.full((2000, 1), -0.05, dtype=torch.float64)
    step = subject(lambda x: torch.cat([x < 0, x >= 0], dim=1).double(), 2, differentiable=False)
    once = replace(MEASURE, probes=2000, steps=0, langevin=0)
    found = once(step, make_probes(test=inputs))
    low, middle, _ = shares(found)
    assert low == 0 and middle == pytest.approx(1 / 4, abs=0.04)
    assert shares(replace(once, steps=40)(step, make_probes(test=inputs)))[1] == pytest.approx(1 - 0.75**41, abs=1e-3)


def test_the_climb_finds_what_the_first_corner_misses(make_probes):
    """f = (1 − |x − 0.5|, 0.6): the other class lies at 0.1 to 0.15 from the top, behind which f rises again."""

    def two_sided(x):
        ripple = 1 - 3 * (x - 0.5).abs() * (x < 0.9)
        return torch.cat([ripple, torch.full_like(x, 0.6)], dim=1)

    inputs = torch.tensor([[0.55]], dtype=torch.float64)  # the corner at 0.95 is of the first class again
    alone = replace(MEASURE, radii=(0.4,), steps=0, langevin=0)
    assert alone(subject(two_sided, 2), make_probes(test=inputs)).numbers["critical_test_0.4"] == 0
    climbed = replace(alone, steps=3)(subject(two_sided, 2), make_probes(test=inputs))
    assert climbed.numbers["critical_test_0.4"] == 1


def test_the_noise_leads_away_from_where_the_gradient_is_zero(make_probes):
    """A plateau: nothing to climb, and the boundary within reach of the noise."""

    def plateau(x):
        return torch.cat([torch.zeros_like(x), torch.relu(x.abs() - 0.05) - 0.001], dim=1)

    inputs = torch.zeros(20, 1, dtype=torch.float64)
    measure = replace(MEASURE, radii=(0.1,), langevin=0)
    assert measure(subject(plateau, 2), make_probes(test=inputs)).numbers["critical_test_0.1"] == 0
    shaken = replace(measure, langevin=40, noise=0.5)
    assert shaken(subject(plateau, 2), make_probes(test=inputs)).numbers["critical_test_0.1"] == 1


def test_points_found_lie_in_the_box_and_draws_repeat(make_probes):
    torch.manual_seed(0)
    network = MLP(hidden=(32,)).network((8,), 5).double().eval()
    seen = []

    def watched(x):
        seen.append(x.detach().clone())
        return network(x)

    inputs = X[:1]
    measure = replace(MEASURE, radii=(0.2,), noise=3.0)
    first = measure(subject(watched, 5), make_probes(test=inputs)).numbers
    assert max((x - inputs).abs().max().item() for x in seen) <= 0.2 + 1e-12
    assert first == measure(subject(watched, 5), make_probes(test=inputs)).numbers


def test_memory_changes_nothing(make_probes):
    torch.manual_seed(0)
    network = MLP(hidden=(32,)).network((8,), 5).double().eval()
    plenty, little = (MEASURE(subject(network, 5), make_probes(memory, test=X)) for memory in (2**28, 1))
    assert shares(plenty) == shares(little)


@pytest.mark.parametrize("settings", [{"radii": ()}, {"radii": (0.0,)}, {"probes": 0}, {"steps": -1}, {"step": 0.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValidationError):
        replace(MEASURE, **settings)
