import numpy as np
import pytest
import torch
from torch import nn

from rebuttal.measures.measure import Probes, Subject


def subject(function, classes, differentiable=True):
    network = function if isinstance(function, nn.Module) else None
    return Subject(function, network, differentiable, classes)


def linear(weight, bias=None):
    """Return f(x) = Wx + b on flattened inputs, as a network, in W's precision."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return nn.Sequential(nn.Flatten(), layer).eval()


@pytest.fixture
def make_probes():
    """Return a function that builds `Probes` from inputs by kind."""

    def build(memory=2**28, seed=0, **inputs):
        n = len(next(iter(inputs.values())))
        return Probes(inputs, torch.zeros(n, dtype=torch.long), memory, np.random.default_rng(seed))

    return build
