"""`training.compile`: steps of a network that torch has compiled."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.errors import TrainingError
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.training import Margin
from rebuttal.training.evaluation import Evaluation, predict
from rebuttal.training.loop import Support, train
from rebuttal.training.member import Member
from rebuttal.training.side_by_side import Task
from rebuttal.training.stack import stackable
from tests.store.test_checkpoints import Killed, at_every_step, killed_at

MODES = ("default", "reduce-overhead", "max-autotune")


class Witness(nn.Module):
    """A layer whose outputs are greater by 1 if it is compiled."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(5, width)

    def forward(self, x):
        return self.layer(x) + float(torch.compiler.is_compiling())


def loss_of_outputs_above(bound):
    """A loss that fails if an output is not above the bound."""

    def loss(logits, targets):
        assert (logits > bound).all()
        return F.cross_entropy(logits, targets)

    return loss


def fit(network, recipe, n=60, loss=F.cross_entropy, support=None, shape=(5,)):
    torch.manual_seed(0)
    inputs, labels = torch.rand(n, *shape), torch.randint(3, (n,))
    order = np.random.default_rng(0)
    return train(network, inputs, labels, loss, recipe, order, Evaluation(inputs, labels), "fit", support)


def test_it_decides_a_network_s_identity_and_null_leaves_it_as_it_was(recipe):
    preprocess = CropAndNormalise(crop=None, normalisation="none")
    plain, *compiled = (recipe(compile=mode).identity(preprocess) for mode in (None, *MODES))
    assert plain == recipe().identity(preprocess) and "compile" not in plain
    assert [identity.pop("compile") for identity in compiled] == list(MODES)
    assert all(identity == plain for identity in compiled)


def test_a_python_that_torch_cannot_compile_for_is_one_line(recipe, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on this Python\nmore")

    monkeypatch.setattr(torch, "compile", refuse)
    why = r"^fit: training.compile=default: .* \(torch.compile is not supported on this Python\); allowed: null$"
    with pytest.raises(TrainingError, match=why):
        fit(Witness(3), recipe(compile="default"))


def test_it_is_neither_stacked_nor_trained_beside_others(recipe):
    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(5, 3)))
    for mode, may in ((None, True), ("default", False)):
        asked = recipe(compile=mode)
        inputs, labels = torch.rand(4, 5), torch.zeros(4, dtype=torch.long)
        member = Member(network, inputs, labels, Margin(), asked, np.random.default_rng(0), None, "fit", Support())
        assert stackable(network, asked) == Task([member]).fits_a_thread == may


def test_steps_are_compiled_and_evaluation_is_not(recipe):
    network = Witness(3)
    with torch.no_grad():
        network.layer.weight.zero_()
        network.layer.bias.zero_()
    still = {"lr": 1e-9, "epochs": 1}
    fit(copy.deepcopy(network), recipe(compile="default", **still), loss=loss_of_outputs_above(0.9))
    with pytest.raises(AssertionError):
        fit(copy.deepcopy(network), recipe(**still), loss=loss_of_outputs_above(0.9))
    assert predict(network.eval(), torch.rand(4, 5)).abs().max() < 0.1


@pytest.mark.slow
def test_so_they_are_for_more_networks_than_torch_compiles_of_one_kind(recipe):
    for width in range(3, 15):
        network = Witness(width)
        nn.init.zeros_(network.layer.weight)
        nn.init.zeros_(network.layer.bias)
        fit(network, recipe(compile="default", lr=1e-9, epochs=1), loss=loss_of_outputs_above(0.9))


@pytest.mark.parametrize(("mode", "precision", "within"), [
    ("default", "float32", 1e-5),
    pytest.param("default", "bfloat16", 1e-2, marks=pytest.mark.slow),
    pytest.param("reduce-overhead", "float32", 1e-5, marks=pytest.mark.slow),
])  # fmt: skip
def test_weights_after_ten_steps_are_those_without(recipe, mode, precision, within):
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    compiled = copy.deepcopy(plain)
    settings = {"epochs": 5, "batch_size": 32, "precision": precision}  # batches of 30
    for network, way in ((plain, None), (compiled, mode)):
        fit(network, recipe(compile=way, **settings))
    for a, b in zip(plain.parameters(), compiled.parameters()):
        assert (a - b).norm() <= within * a.norm()


@pytest.mark.slow
def test_so_it_is_for_convolutions_and_batch_norm_and_resumed_to_the_same_bits(recipe, tmp_path):
    """41 inputs make batches of 21 and 20, of which each is compiled by itself."""
    torch.manual_seed(1)
    convolution = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    plain = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(8 * 36, 3))
    compiled, stopped, resumed = (copy.deepcopy(plain) for _ in range(3))
    settings = {"epochs": 5, "batch_size": 21}
    fit(plain, recipe(**settings), 41, shape=(3, 8, 8))
    fit(compiled, recipe(compile="default", **settings), 41, shape=(3, 8, 8))
    for a, b in zip(plain.state_dict().values(), compiled.state_dict().values()):
        assert (a - b).double().norm() <= 1e-5 * a.double().norm()
    saved = at_every_step(tmp_path / "training.checkpoint")
    with pytest.raises(Killed):
        support = Support(saved, killed_at(3))
        fit(stopped, recipe(compile="default", **settings), 41, support=support, shape=(3, 8, 8))
    assert saved.is_there()
    fit(resumed, recipe(compile="default", **settings), 41, support=Support(saved), shape=(3, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(compiled.state_dict().values(), resumed.state_dict().values()))


def test_without_a_compiler_one_line_says_so(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(TrainingError) as error:
        fit(network, recipe(compile="default"))
    line = str(error.value)
    assert line.startswith("fit: training.compile=default: torch cannot compile this network here (InvalidCxxCompiler")
    assert line.endswith("allowed: null") and "\n" not in line
