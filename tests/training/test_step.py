import contextlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.device import configured
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.training.evaluation import predict
from rebuttal.training.step import BatchGradients


class Watched(nn.Module):
    """A layer that records torch's flags whenever it computes: (what it does, TF32 in products, in convolutions)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.seen = []

    def forward(self, x):
        y = self.layer(x)
        self._look("train" if self.training else "evaluate")
        if y.requires_grad:
            y.register_hook(lambda _: self._look("backward"))
        return y

    def _look(self, what):
        self.seen.append((what, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_tf32_is_on_in_steps_of_that_precision_and_nowhere_else(recipe, precision):
    network = Watched()
    with configured("cpu", None):
        gradients = BatchGradients(network, F.cross_entropy, recipe(precision=precision), "fit", in_pieces=False)
        gradients.backward(torch.randn(6, 5), torch.zeros(6, dtype=torch.long))
        predict(network.eval(), torch.randn(6, 5))
    on = precision == "tf32"
    assert network.seen == [("train", on, on), ("backward", on, on), ("evaluate", False, False)]


def test_tf32_on_the_cpu_is_float32(recipe):
    inputs, labels = torch.randn(32, 5), torch.randint(2, (32,))
    found = []
    for precision in ("float32", "tf32"):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
        BatchGradients(network, F.cross_entropy, recipe(precision=precision), "fit", False).backward(inputs, labels)
        found.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_bfloat16_sees_new_weights_in_each_step_also_within_another_s_autocast(recipe):
    """torch keeps rounded weights until the outermost block ends; a run has one around everything."""
    networks = []
    for around in (contextlib.nullcontext(), torch.autocast("cpu", enabled=False)):
        torch.manual_seed(0)
        networks.append(nn.Linear(5, 2))
        gradients = BatchGradients(networks[-1], F.cross_entropy, recipe(precision="bfloat16"), "fit", False)
        optimizer = torch.optim.SGD(networks[-1].parameters(), 1.0)
        with around:
            for _ in range(3):
                optimizer.zero_grad()
                gradients.backward(torch.ones(6, 5), torch.zeros(6, dtype=torch.long))
                optimizer.step()
    assert torch.equal(networks[0].weight, networks[1].weight)


def test_a_precision_is_identified_by_its_name(recipe):
    """And bfloat16 also by what was put right: networks that were stored before were trained wrongly."""
    assert recipe(precision="bfloat16").identity(CropAndNormalise())["rounding"] == "of each step"
    assert [recipe(precision=p).identity(CropAndNormalise())["precision"] for p in ("float32", "tf32")] == [
        "float32",
        "tf32",
    ]
