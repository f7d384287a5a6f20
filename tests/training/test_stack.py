import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.training import SGD, AdamW, Cosine
from rebuttal.training.evaluation import Evaluation
from rebuttal.training.loop import train
from rebuttal.training.losses import CrossEntropy, Margin, SquaredError
from rebuttal.training.member import Member
from rebuttal.training.stack import train_stacked

N, D, K = 90, 12, 4


class Scale(nn.Module):
    """A preprocessing layer with a statistic of its own."""

    def __init__(self, by):
        super().__init__()
        self.register_buffer("by", torch.tensor(by))

    def forward(self, x):
        return x * self.by


def member(seed, recipe, loss=None):
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(N, 3, D // 3, generator=chance)
    classes = torch.randint(K, (N,), generator=chance)
    new = torch.randn(50, 3, D // 3, generator=chance), torch.randint(K, (50,), generator=chance)
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, K))
    network = nn.Sequential(Scale(1.0 + seed / 10), body)
    evaluation = Evaluation(inputs, classes, {"test_accuracy": new}, "every")
    order = np.random.default_rng(seed)
    return Member(network, inputs, classes, loss or recipe.loss, recipe, order, evaluation, f"member {seed}")


def alone(one):
    network, order = copy.deepcopy(one.network), copy.deepcopy(one.order)
    evaluation = copy.deepcopy(one.evaluation)
    return network, train(network, one.inputs, one.targets, one.loss, one.recipe, order, evaluation, one.name)


def assert_alike(one, network, history, tolerance):
    for mine, theirs in zip(one.network.parameters(), network.parameters()):
        assert (mine - theirs).norm() <= tolerance * theirs.norm()
    assert [row.keys() for row in one.history] == [row.keys() for row in history]
    assert [row["loss"] for row in one.history] == pytest.approx([row["loss"] for row in history], rel=1e-4)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(nesterov=True), SGD(momentum=0.0), AdamW()])
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), SquaredError(), Margin()])
def test_members_are_after_ten_steps_what_they_are_alone(optimizer, loss, recipe):
    settings = recipe(optimizer=optimizer, lr=0.01, weight_decay=1e-3, epochs=5, batch_size=64, loss=loss)
    members = [member(seed, settings) for seed in range(6)]
    expected = [alone(one) for one in members]
    train_stacked(members)
    assert all(len(one.history) == 5 and one.history[-1]["step"] == 10 for one in members)
    for one, (network, history) in zip(members, expected):
        assert_alike(one, network, history, 1e-5)


def test_each_has_its_own_rate_schedule_loss_and_end(recipe):
    def cubic(logits, targets):
        return F.cross_entropy(logits, targets) ** 3

    plain = {"batch_size": 45, "optimizer": AdamW()}
    members = [
        member(0, recipe(lr=0.01, epochs=9, **plain)),
        member(1, recipe(lr=0.02, epochs=4, schedule=Cosine(), **plain)),
        member(2, recipe(lr=0.01, epochs=9, stop_loss=1.3, **plain)),
        member(3, recipe(lr=0.003, epochs=12, warmup_epochs=3.0, **plain), cubic),
        member(4, recipe(lr=0.01, epochs=60, stop_accuracy=0.8, **plain)),
        member(5, recipe(lr=0.01, epochs=9, **plain)),
    ]
    expected = [alone(one) for one in members]
    train_stacked(members)
    assert len({len(one.history) for one in members}) >= 4
    for one, (network, history) in zip(members, expected):
        assert_alike(one, network, history, 1e-3)
        assert one.history[-1]["train_accuracy"] == pytest.approx(history[-1]["train_accuracy"], abs=1.5 / N)


def test_one_that_diverges_ends_alone(recipe):
    members = [member(seed, recipe(optimizer=SGD(), lr=lr, epochs=6)) for seed, lr in enumerate((0.05, 1e30, 0.05))]
    expected = [alone(one) for one in (members[0], members[2])]
    train_stacked(members)
    assert "member 1: the loss became" in str(members[1].failed) and "training.lr (now 1e+30)" in str(members[1].failed)
    for one, (network, history) in zip((members[0], members[2]), expected):
        assert one.failed is None
        assert_alike(one, network, history, 1e-4)
