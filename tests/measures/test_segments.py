import numpy as np
import pytest
import torch
from torch import nn

from rebuttal.measures.measure import Probes
from rebuttal.measures.segments import SegmentCrossings
from rebuttal.models import MLP, VGG11, ResNet18
from rebuttal.models.preprocess import Preprocess
from tests.measures.conftest import linear, subject

ENDS = torch.tensor([[0.0], [1.0]], dtype=torch.float64)


def saw_tooth(teeth):
    """A ReLU network on [0, 1] with 2·teeth straight pieces between 0 and 1, hence 2·teeth − 1 kinks, and the
    second logit ½: the class changes 2·teeth times."""
    pieces = 2 * teeth
    hidden, out = nn.Linear(1, pieces), nn.Linear(pieces, 2)
    hidden.weight.data.fill_(1)
    # The first unit is on everywhere; the others start at the kinks.
    hidden.bias.data = torch.tensor([1e-9, *(-k / pieces for k in range(1, pieces))])
    slopes = torch.tensor([1.0, *(2.0 * (-1) ** k for k in range(1, pieces))]) * pieces
    out.weight.data = torch.stack([slopes, torch.zeros(pieces)])
    out.bias.data = torch.tensor([0.0, 0.5])
    return nn.Sequential(hidden, nn.ReLU(), out).double().eval()


def walk(function, classes=2, points=1001, inputs=ENDS):
    probes = Probes({"test": inputs}, torch.zeros(2), 2**20, np.random.default_rng(0))
    return SegmentCrossings(pairs=5, points=points)(subject(function, classes), probes).numbers


@pytest.mark.parametrize("teeth", [1, 3, 10])
def test_a_saw_tooth_has_its_kinks_its_crossings_and_its_height(teeth):
    found = walk(saw_tooth(teeth), points=1000)
    assert found["region_changes_test"] == 2 * teeth - 1
    assert found["class_changes_test"] == 2 * teeth
    assert found["total_variation_test"] == pytest.approx(2 * teeth, rel=0.02)


def test_numbers_are_per_unit_length():
    stretched = linear(torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.tensor([-0.5, 0.5]))
    assert walk(stretched)["class_changes_test"] == 1
    assert walk(stretched, inputs=4 * ENDS)["class_changes_test"] == 1 / 4


def test_between_equal_inputs_there_is_no_segment():
    ends = torch.cat([ENDS, ENDS])  # whatever the order, some pairs are equal and some are not
    found = walk(saw_tooth(1), inputs=ends.repeat(20, 1))
    assert found["class_changes_test"] == 2
    for inputs in (ENDS[:1].repeat(4, 1), ENDS[:1]):
        none = walk(saw_tooth(1), inputs=inputs)
        assert none["class_changes_test"] is none["total_variation_test"] is none["region_changes_test"] is None


def test_a_linear_function_has_no_regions_to_change_and_varies_by_its_slope():
    weight = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(10, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = walk(linear(weight), classes=3, inputs=inputs)
    assert found["region_changes_test"] == 0
    order = np.random.default_rng(0).permutation(10)
    edges = inputs[order[5:]] - inputs[order[:5]]
    expected = ((edges @ weight.T).norm(dim=1) / edges.norm(dim=1)).mean().item()
    assert found["total_variation_test"] == pytest.approx(expected, rel=1e-10)


def test_a_finer_walk_of_a_network_counts_no_fewer_changes():
    torch.manual_seed(0)
    network = MLP(hidden=(64, 64)).network((20,), 5).double().eval()
    inputs = torch.rand(10, 20, dtype=torch.float64) * 4
    coarse, fine = (walk(network, 5, points, inputs)["region_changes_test"] for points in (11, 101))
    assert 0 < coarse <= fine


class Unknown(nn.Module):
    """A module of the user's own, which applies a function that no module stands for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2, dtype=torch.float64)

    def forward(self, x):
        return self.layer(x).relu()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(1, 5), nn.GELU(), nn.Linear(5, 2)],  # no ReLU
        [nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)],  # ReLUs, but not only
        [Unknown()],
        [Preprocess((1,), None, "per_image"), nn.Linear(1, 2)],
    ],
)
def test_regions_are_undefined_for_a_network_with_other_non_linear_layers(layers):
    found = walk(nn.Sequential(*layers).double().eval())
    assert found["region_changes_test"] is None
    assert not any(name.startswith("region_changes_test_") for name in found)
    assert found["total_variation_test"] is not None


@pytest.mark.parametrize("model", [VGG11(), ResNet18()])
def test_regions_of_networks_with_pools_and_residual_blocks_are_those_of_their_relus(model):
    torch.manual_seed(0)
    preprocess = Preprocess((3, 8, 8), None, "per_channel")
    net = nn.Sequential(preprocess, model.network((3, 8, 8), 2)).double().eval()
    inputs = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    assert walk(net, points=5, inputs=inputs)["region_changes_test"] > 0


def test_a_function_without_layers_has_no_regions_to_count():
    assert "region_changes_test" not in walk(lambda x: torch.cat([x, -x], dim=1))
