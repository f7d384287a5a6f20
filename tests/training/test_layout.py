"""Channels last where it is faster, for networks that run so; others train and are measured as they are."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.measures.layers import faster
from rebuttal.models import AirBench
from rebuttal.models.preprocess import Preprocess
from rebuttal.stages.networks import Network
from rebuttal.training.evaluation import Evaluation
from rebuttal.training.layout import channels_last, takes_channels_last
from rebuttal.training.loop import train

X = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = (X.mean(dim=(1, 2, 3)) > 0.5).long()
PIXELS = (255 * X).to(torch.uint8)  # as images are stored


class Viewed(nn.Module):
    """What many write: it flattens by a view, which needs the channels to come first."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4 * 36, 2)

    def forward(self, x):
        x = self.convolution(x).relu()
        return self.linear(x.view(x.size(0), -1))


class ViewedInTraining(Viewed):
    def forward(self, x):
        x = self.convolution(x).relu()
        return self.linear(x.view(x.size(0), -1) if self.training else x.flatten(1))


class StandardisedWeights(nn.Module):
    """Its weights, too, may be viewed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        mean = self.weight.view(4, -1).mean(dim=1).view(4, 1, 1, 1)
        return self.linear(F.conv2d(x, self.weight - mean, padding=1).relu().mean(dim=(2, 3)))


class Tied(nn.Module):
    """Two names for one memory."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = nn.Parameter(self.first.weight.data)
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.second(self.first(x)).mean(dim=(2, 3)))


class Counting(nn.Module):
    """It keeps what it has seen, in a new buffer each time and in an attribute."""

    def __init__(self):
        super().__init__()
        self.convolution, self.calls = nn.Conv2d(3, 2, 6), 0
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
        return self.convolution(x).flatten(1)


class Uncopied(nn.Sequential):
    def __deepcopy__(self, memory):
        raise TypeError("there is one of these")


def flattened():
    parts = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(8 * 16, 2)]
    return nn.Sequential(*parts)


def of_pixels():
    return Network(Preprocess(tuple(X.shape[1:]), crop=None, normalisation="none"), flattened())


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 2))


def lies_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


REFUSED = dict.fromkeys((Viewed, ViewedInTraining, StandardisedWeights, Tied, linear), False)
KINDS = {flattened: True, Counting: True, lambda: Uncopied(*flattened()): False} | REFUSED
COPIES = KINDS | {Tied: True}  # a copy's memory is its own


@pytest.mark.parametrize(("kind", "takes"), KINDS.items())
def test_whether_a_network_runs_channels_last_is_found_out_and_nothing_else_changes(kind, takes):
    network = kind()
    next(network.children()).eval()
    modes = [module.training for module in network.modules()]
    values = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert takes_channels_last(network, X[:2]) == takes
    assert [module.training for module in network.modules()] == modes and getattr(network, "calls", 0) == 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(value.is_contiguous() for value in network.state_dict().values())
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_network_trains_in_every_precision_and_lies_as_ever_afterwards(kind, precision, recipe):
    torch.manual_seed(0)
    network = kind()
    order = np.random.default_rng(0)
    settings = recipe(epochs=30, lr=0.1, precision=precision)
    history = train(network, X, Y, F.cross_entropy, settings, order, Evaluation(X, Y), "fit")
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert all(value.is_contiguous() for value in network.state_dict().values())
    if kind is Tied:
        assert network.first.weight.data_ptr() == network.second.weight.data_ptr()


@pytest.mark.parametrize("inputs", [X, PIXELS], ids=["floats", "pixels"])
@pytest.mark.parametrize(("precision", "last"), [("float32", False), ("bfloat16", True)])
def test_steps_are_channels_last_in_bfloat16_and_evaluation_always(precision, last, inputs, recipe):
    network = of_pixels()
    seen = set()

    def look(module, given, _):
        if len(given[0]) > 2:  # not where it is found out what it takes
            seen.add((module.training, lies_last(module.weight)))

    network.body[0].register_forward_hook(look)
    settings = recipe(epochs=1, precision=precision)
    train(network, inputs, Y, F.cross_entropy, settings, np.random.default_rng(0), Evaluation(inputs, Y), "fit")
    assert seen == {(True, last), (False, True)}


class Flattening(torch.optim.Optimizer):
    """One of the user's, which flattens gradients by a view, as others' Muon does."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.view(-1).sub_(parameter.grad.view(-1), alpha=group["lr"])


def test_an_optimiser_of_the_user_s_finds_weights_and_gradients_as_torch_makes_them(recipe):
    settings = recipe(
        epochs=2, precision="bfloat16", optimizer=lambda parameters, lr, decay: Flattening(parameters, lr)
    )
    train(flattened(), X, Y, F.cross_entropy, settings, np.random.default_rng(0), Evaluation(X, Y), "fit")


def test_the_layout_changes_no_value_of_network_or_optimiser():
    network = flattened()
    network.register_buffer("five", torch.rand(1, 2, 1, 2, 2))
    optimizer = torch.optim.AdamW(network.parameters())
    network(X).sum().backward()
    optimizer.step()

    def tensors():
        return [*network.state_dict().values(), *(v for s in optimizer.state.values() for v in s.values())]

    def of_convolution():
        return [network[0].weight, optimizer.state[network[0].weight]["exp_avg"]]

    before = [tensor.clone() for tensor in tensors()]
    with channels_last(network, optimizer):
        assert all(map(lies_last, of_convolution()))
        assert all(torch.equal(a, b) for a, b in zip(before, tensors()))
    assert all(tensor.is_contiguous() for tensor in of_convolution())
    assert all(torch.equal(a, b) for a, b in zip(before, tensors()))


def test_a_frozen_network_of_stored_pixels_runs_channels_last():
    assert takes_channels_last(of_pixels().eval().requires_grad_(False), PIXELS[:2])


@pytest.mark.parametrize(("kind", "takes"), COPIES.items())
def test_what_is_measured_is_the_same_function_and_the_network_stays_as_it_is(kind, takes):
    network = kind().eval()
    measured = faster(network, X)
    assert torch.allclose(measured(X), network(X), rtol=1e-5, atol=1e-6)
    assert any(p.ndim == 4 and lies_last(p) for p in measured.parameters()) == takes
    assert all(p.is_contiguous() and p.requires_grad for p in network.parameters())


def test_a_network_with_tensors_of_five_dimensions_is_measured_channels_last():
    network = flattened().eval()
    network.register_buffer("five", torch.rand(1, 2, 1, 2, 2))
    measured = faster(network, X)
    assert lies_last(measured[0].weight) and torch.equal(measured.five, network.five)


def test_keller_jordan_s_network_is_measured_channels_last():
    network = AirBench(widths=(4, 4, 4)).network((3, 32, 32), 10).eval()
    assert all(lies_last(p) for p in faster(network, torch.rand(2, 3, 32, 32)).parameters() if p.ndim == 4)
