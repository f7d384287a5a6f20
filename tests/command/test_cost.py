import json
import time
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from rebuttal.command.cost import cost
from rebuttal.data import UniformNoise
from rebuttal.models import MLP, VGG11, AlexNet, ResNet18
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.stages.networks import new_network
from rebuttal.stages.stage import Work
from rebuttal.training import SGD, AdamW, ScaledBiasSGD, TorchOptimizer
from rebuttal.training.evaluation import Evaluation
from rebuttal.training.loop import train

CPU = torch.device("cpu")


@pytest.fixture
def work(recipe, tmp_path):
    def build(model, shape, examples=100, evaluated=150, crop=None, **settings):
        source = UniformNoise(shape=shape, classes=10, train_size=9, student_size=9, test_size=9).open(tmp_path)
        return Work(
            model, CropAndNormalise(crop=crop), recipe(**settings), source, examples, evaluated, settings["epochs"]
        )

    return build


@pytest.mark.parametrize("hidden", [(), (7,), (20, 30, 5)])
def test_an_mlp_costs_what_its_matrices_say(work, hidden):
    epochs, n, m, d = 4, 100, 150, 6
    found = cost(work(MLP(hidden=hidden), (d,), n, m, epochs=epochs, batch_size=32), CPU)
    widths = [d, *hidden, 10]
    products = [a * b for a, b in pairwise(widths)]
    weights = sum(products) + sum(widths[1:])
    assert found.parameters == weights
    # Two operations a product; backward through each layer for its weights, and but for the first for its inputs.
    forward, backward = 2 * sum(products), 2 * sum(products) + 2 * sum(products[1:])
    assert found.flops == epochs * (n * (forward + backward) + m * forward)
    normalisation = 2  # mean and standard deviation
    assert found.disk == 4 * (weights + normalisation)


def most_allocated(work, tmp_path):
    """Bytes, by PyTorch's profiler of what the allocator gave and took back."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    changes = [event["args"] for event in sorted(events, key=itemgetter("ts")) if event["name"] == "[memory]"]
    before = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return max(change["Total Allocated"] for change in changes) - before


@pytest.mark.parametrize(
    ("model", "optimizer", "batch", "evaluated", "scratch", "precision"),
    [
        (MLP(hidden=(400, 300, 50)), AdamW(), 32, 150, 0.0, "float32"),  # most of it for weights
        (MLP(hidden=(400, 300, 50)), SGD(), 32, 150, 0.0, "float32"),
        (MLP(hidden=(400, 300, 50)), SGD(momentum=0.0), 32, 150, 0.0, "float32"),
        (MLP(hidden=(400, 300, 50)), ScaledBiasSGD(), 32, 150, 0.0, "float32"),
        (MLP(hidden=(400, 300, 50)), TorchOptimizer(name="Adagrad"), 32, 150, 0.1, "float32"),
        (MLP(hidden=(20, 10)), SGD(), 90, 90, 0.0, "float32"),  # … for a step
        (MLP(hidden=(20, 10)), SGD(), 8, 500, 0.0, "float32"),  # … for the evaluation
        pytest.param(ResNet18(), SGD(), 32, 32, 0.1, "float32", marks=pytest.mark.slow),
        pytest.param(ResNet18(), SGD(), 2, 64, 0.1, "float32", marks=pytest.mark.slow),
        (MLP(hidden=(400, 300, 50)), SGD(), 90, 90, 0.0, "bfloat16"),
        pytest.param(ResNet18(), SGD(), 4, 8, 0.1, "bfloat16", marks=pytest.mark.slow),
        pytest.param(AlexNet(), SGD(), 64, 64, 0.1, "bfloat16", marks=pytest.mark.slow),
        pytest.param(VGG11(), AdamW(), 64, 64, 0.1, "float32", marks=pytest.mark.slow),
    ],
)
def test_the_memory_is_what_the_allocator_gives(work, tmp_path, model, optimizer, batch, evaluated, scratch, precision):
    """But for what the convolutions' library takes for itself."""
    shape = (3, 32, 32)
    settings = {"epochs": 2, "batch_size": batch, "optimizer": optimizer, "lr": 1e-6, "precision": precision}
    asked = work(model, shape, batch, evaluated, **settings)
    inputs, labels = torch.rand(evaluated, *shape), torch.randint(10, (evaluated,))

    def whole():
        network = new_network(asked.model, asked.preprocess, asked.source, 0, "test")
        own, order = inputs.clone(), np.random.default_rng(0)
        evaluation = Evaluation(own[:batch], labels[:batch], {"all": (own, labels)})
        train(network, own[:batch], labels[:batch], F.cross_entropy, asked.recipe, order, evaluation, "test")

    real = most_allocated(whole, tmp_path)
    assert real * (1 - scratch) - 20_000 < cost(asked, CPU).memory < real * 1.02


@pytest.mark.parametrize(
    ("model", "crop", "parameters"),
    [(MLP(hidden=(512, 512, 512)), 28, 1_735_178), (MLP(hidden=(512,)), 28, 1_209_866), (ResNet18(), None, 11_173_962)],
)
def test_known_networks_have_their_known_number_of_parameters(work, model, crop, parameters):
    assert cost(work(model, (3, 32, 32), 2, 2, crop=crop, epochs=1, batch_size=2), CPU).parameters == parameters


def test_convolutions_cost_what_their_kernels_say(work):
    """VGG-11 on 32x32: 3x3 convolutions, each at the resolution that the poolings before it leave."""
    found = cost(work(VGG11(), (3, 32, 32), 2, 2, epochs=1, batch_size=2), CPU)
    layers = [(3, 64, 32), (64, 128, 16), (128, 256, 8), (256, 256, 8), (256, 512, 4), (512, 512, 4)]
    layers += [(512, 512, 2), (512, 512, 2)]
    products = [9 * a * b * side**2 for a, b, side in layers] + [512 * 10]
    assert found.flops == 2 * (6 * sum(products) - 2 * products[0]) + 2 * 2 * sum(products)


def test_the_time_is_that_of_the_very_training(work):
    """Timed side by side, on a machine that others use too."""
    asked = work(MLP(hidden=(400, 400)), (3, 16, 16), 2000, 4000, epochs=5, batch_size=100)
    inputs, labels = torch.rand(4000, 3, 16, 16), torch.randint(10, (4000,))

    def seconds():
        network = new_network(asked.model, asked.preprocess, asked.source, 0, "test")
        began = time.perf_counter()
        evaluation = Evaluation(inputs[:2000], labels[:2000], {"held out": (inputs[2000:], labels[2000:])})
        order = np.random.default_rng(0)
        train(network, inputs[:2000], labels[:2000], F.cross_entropy, asked.recipe, order, evaluation, "test")
        return time.perf_counter() - began

    ratios = [cost(asked, CPU).seconds / seconds() for _ in range(3)]
    assert 0.5 < sorted(ratios)[1] < 2, ratios
