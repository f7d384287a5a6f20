import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rebuttal.measures.measure import Probes
from rebuttal.measures.variation import LocalVariation, unit_vectors
from tests.measures.conftest import linear, subject


def test_a_linear_function_varies_by_its_frobenius_norm_over_the_root_of_d(make_probes):
    d = 4000
    weight = torch.randn(10, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(200, d, dtype=torch.float64)
    measure = LocalVariation(radii=(1e-3, 0.1), directions=4)
    found = measure(subject(linear(weight), 10), make_probes(test=inputs)).numbers
    expected = torch.linalg.matrix_norm(weight).item() / np.sqrt(d)
    for radius in ("0.001", "0.1"):
        # E‖Wu‖ lies below its root mean square by a share of about 1/(4·rank) = 2.5 %.
        assert found[f"variation_test_{radius}_low"] < expected
        assert found[f"variation_test_{radius}"] == pytest.approx(expected * (1 - 1 / 40), rel=0.01)


def test_flips_of_a_line_crossing_are_counted():
    inputs = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # at distances 0.5 from the boundary at 0.5
    weight, bias = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.tensor([-0.5, 0.5])
    probes = Probes({"test": inputs}, torch.zeros(2), 2**20, np.random.default_rng(0))
    found = LocalVariation(radii=(0.4, 0.6), directions=200)(subject(linear(weight, bias), 2), probes).numbers
    assert found["flips_test_0.4"] == 0
    assert found["flips_test_0.6"] == pytest.approx(0.5, abs=0.13)  # in 1-d, half of the directions lead across
    assert found["variation_test_0.6"] == pytest.approx(np.sqrt(2), rel=1e-6)


def test_directions_are_uniform_and_of_length_one():
    vectors = unit_vectors(torch.zeros(5000, 3, dtype=torch.float64), np.random.default_rng(0))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5000, dtype=torch.float64))
    assert vectors.mean(dim=0).abs().max() < 4 * np.sqrt(1 / 3 / 5000)


@pytest.mark.parametrize("settings", [{"radii": (-0.1,)}, {"radii": ()}, {"radii": (0.0,)}, {"directions": 0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValidationError):
        LocalVariation(**{"radii": (0.1,), "directions": 1} | settings)
