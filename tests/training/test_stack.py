import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.models.preprocess import Preprocess
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.training import SGD, AdamW, Cosine
from rebuttal.training.evaluation import Evaluation, HeldBack
from rebuttal.training.loop import Support, train
from rebuttal.training.losses import CrossEntropy, Margin, SquaredError
from rebuttal.training.member import Member
from rebuttal.training.side_by_side import Task
from rebuttal.training.stack import stackable, train_stacked
from rebuttal.training.trial import is_worth_it, trial

N, D, K = 90, 12, 4
TWICE, HOOKED = nn.Linear(4, 4), nn.Linear(4, 2)
HOOKED.register_forward_hook(lambda module, inputs, output: 2 * output)


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
    held_back = HeldBack(*new, loss or recipe.loss)
    evaluation = Evaluation(inputs, classes, {"test_accuracy": new}, "every", held_back)
    order = np.random.default_rng(seed)
    return Member(network, inputs, classes, loss or recipe.loss, recipe, order, evaluation, f"member {seed}")


def alone(one):
    network, order = copy.deepcopy(one.network), copy.deepcopy(one.order)
    evaluation = copy.deepcopy(one.evaluation)
    one.best = evaluation.held_back  # which the training fills
    return network, train(network, one.inputs, one.targets, one.loss, one.recipe, order, evaluation, one.name)


def assert_alike(one, network, history, tolerance):
    for mine, theirs in zip(one.network.parameters(), network.parameters()):
        assert (mine - theirs).norm() <= tolerance * theirs.norm()
    assert [row.keys() for row in one.history] == [row.keys() for row in history]
    assert [row["loss"] for row in one.history] == pytest.approx([row["loss"] for row in history], rel=1e-4)
    assert one.evaluation.held_back.best.keys() == one.best.best.keys() == network.state_dict().keys()
    for name, mine in one.evaluation.held_back.best.items():
        theirs = one.best.best[name]
        assert (mine - theirs).norm() <= tolerance * theirs.norm()


class Threefold(CrossEntropy):
    """A user's loss, that inherits from one whose loss of each input is known."""

    def __call__(self, logits, labels):
        return 3 * super().__call__(logits, labels)


LOSSES = [CrossEntropy(), CrossEntropy(label_smoothing=0.1), SquaredError(weight=2.0), Margin(), Threefold()]


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_a_loss_is_the_mean_of_the_losses_of_each(loss):
    logits, labels = torch.randn(7, K), torch.arange(7) % K
    assert loss.of_each(logits, labels).shape == (7,)
    torch.testing.assert_close(loss.of_each(logits, labels).mean(), loss(logits, labels))


@pytest.mark.parametrize("optimizer", [SGD(), SGD(nesterov=True), SGD(momentum=0.0), AdamW()])
@pytest.mark.parametrize("loss", LOSSES)
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


def with_ends(recipe, folder, progress=lambda step, steps: None):
    """Five members with other rates and ends, one of which diverges, that keep checkpoints in `folder`."""
    folder.mkdir(exist_ok=True)
    plain = {"batch_size": 30, "optimizer": AdamW(), "epochs": 7}
    recipes = [recipe(lr=0.01, **plain), recipe(lr=0.01, **plain), recipe(lr=0.02, **plain | {"epochs": 3})]
    recipes += [recipe(lr=0.01, stop_loss=1.33, **plain), recipe(**plain | {"lr": 1e30, "optimizer": SGD()})]
    members = [member(seed, settings) for seed, settings in enumerate(recipes)]
    for i, one in enumerate(members):
        one.support = Support(Checkpoint(folder / f"{i}.checkpoint"), progress)
    return members, Checkpoint(folder / "stack.checkpoint")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the members are that nothing has stopped."""
    kept = {}

    def of(recipe):
        if not kept:
            members, checkpoint = with_ends(recipe, tmp_path_factory.mktemp("whole"))
            train_stacked(members, checkpoint)
            kept["members"] = members
        return kept["members"]

    return of


@pytest.mark.parametrize("stop", range(1, 22))
def test_a_stack_that_is_stopped_after_any_step_goes_on_to_the_same_bits(stop, recipe, whole, tmp_path):
    def stopping(step, steps):
        if step == stop + 1:
            raise KeyboardInterrupt  # after the checkpoint of step `stop`

    members, checkpoint = with_ends(recipe, tmp_path, stopping)
    if stop < 21:
        with pytest.raises(KeyboardInterrupt):
            train_stacked(members, checkpoint)
    else:  # all have ended; nothing is in the stack any more
        train_stacked(members, checkpoint)
    again, checkpoint = with_ends(recipe, tmp_path)
    train_stacked(again, checkpoint)
    for one in again:
        if not one.history and one.failed is None:
            one.train_alone()
    for one, expected in zip(again, whole(recipe)):
        assert str(one.failed) == str(expected.failed)
        if one.failed is None:
            assert one.history == expected.history
            pairs = zip(one.network.state_dict().values(), expected.network.state_dict().values())
            assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
            mine, theirs = (each.evaluation.held_back.best for each in (one, expected))
            assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert [one.failed is None for one in again] == [True] * 4 + [False]
    assert {len(one.history) for one in again[:4]} >= {3, 7}


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), True),
        (nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(4, 2)), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU()), False),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 2)), False),
        (nn.Sequential(nn.Linear(4, 2)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.1), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2).requires_grad_(False)), False),
        (nn.Linear(4, 2), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), TWICE, nn.ReLU(), TWICE), False),
        (nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(4, 2))), False),
        (nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))), False),
        (nn.Sequential(nn.Flatten(), HOOKED), False),
    ],
)
def test_only_what_is_computed_alike_is_stacked(body, fits, recipe):
    fixed = Preprocess((4,), None, "per_channel")
    assert stackable(nn.Sequential(fixed, body), recipe()) == fits
    assert not stackable(nn.Sequential(fixed, body), recipe(precision="bfloat16"))
    # A first layer of the user's may give others in training, or at each step.
    for first in (nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.2), Scale(2.0)):
        assert not stackable(nn.Sequential(first, body), recipe())


@dataclass(frozen=True)
class Quiet:
    """A user's schedule, which does not show its factor and, called equal, is not."""

    factor: float = field(repr=False, compare=False)

    def __call__(self, epoch, start, end):
        return self.factor


class QuietLoss(CrossEntropy):
    """A user's loss that says that it is equal to any other."""

    def __call__(self, logits, labels):
        return getattr(self, "factor", 1) * super().__call__(logits, labels)


def test_parts_of_the_user_s_that_look_alike_are_each_member_s_own(recipe):
    losses = [QuietLoss(), QuietLoss()]
    object.__setattr__(losses[1], "factor", 5.0)
    members = [member(i, recipe(lr=0.01, epochs=3, schedule=Quiet(float(i))), losses[i]) for i in range(2)]
    expected = [alone(one) for one in members]
    train_stacked(members)
    for one, (network, history) in zip(members, expected):
        assert_alike(one, network, history, 1e-4)


def test_a_stack_is_the_same_after_a_kill_before_its_first_checkpoint_was_due(recipe, whole, tmp_path):
    """A member that had ended before has a checkpoint of its own."""

    def killed(step, steps):
        if step == 13:  # the third has ended after nine
            raise KeyboardInterrupt

    members, stack = with_ends(recipe, tmp_path, killed)
    with pytest.raises(KeyboardInterrupt):
        Task(members, Checkpoint(stack.path, interval=60)).carry_out()
    assert members[2].support.checkpoint.is_there() and not members[0].support.checkpoint.is_there()
    again, stack = with_ends(recipe, tmp_path)
    Task(again, stack).carry_out()
    for one, expected in zip(again[:4], whole(recipe)):
        assert one.history == expected.history
        pairs = zip(one.network.state_dict().values(), expected.network.state_dict().values())
        assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_trial_times_both_ways_and_leaves_the_members_as_they_were(recipe):
    members = [member(seed, recipe(epochs=200, batch_size=45)) for seed in range(4)]
    before = [copy.deepcopy(one.network.state_dict()) for one in members]
    seconds = trial(members)
    assert set(seconds) == {"stacked", "alone"} and min(seconds.values()) > 0
    for one, state in zip(members, before):
        assert one.history == [] and one.order.integers(2**62) == np.random.default_rng(int(one.name[-1])).integers(
            2**62
        )
        assert all(torch.equal(value, state[name]) for name, value in one.network.state_dict().items())
    assert is_worth_it(recipe(epochs=150, batch_size=45), N) and not is_worth_it(recipe(epochs=149, batch_size=45), N)


def test_members_that_train_for_different_times_are_tried_with_as_many_steps(recipe):
    """As in one stack: a round of those with the fewest steps would have fewer inputs."""
    members = [member(seed, recipe(epochs=epochs, batch_size=1)) for seed, epochs in enumerate((1, 20, 5000))]
    assert min(trial(members).values()) > 0


@pytest.mark.slow
def test_thirty_members_are_as_accurate_as_thirty_single_networks(recipe):
    """Rounding makes long trainings of one seed differ, as two machines do; their distribution is the same."""
    settings = recipe(lr=0.01, epochs=60, batch_size=30)
    members = [member(seed, settings) for seed in range(30)]
    chance = torch.Generator().manual_seed(0)
    teacher = torch.randn(D, K, generator=chance)
    for one in members:  # something to learn, or all would be at chance
        one.evaluation.classes = one.targets = (one.inputs.flatten(1) @ teacher).argmax(dim=1)
        (new, _), name = one.evaluation.held_out["test_accuracy"], "test_accuracy"
        one.evaluation.held_out[name] = new, (new.flatten(1) @ teacher).argmax(dim=1)
    singles = [alone(one)[1][-1]["test_accuracy"] for one in members]
    train_stacked(members)
    stacked = [one.history[-1]["test_accuracy"] for one in members]
    differences = np.array(stacked) - np.array(singles)
    assert 0.5 < np.mean(singles) < 0.95
    assert abs(differences.mean()) <= 2 * np.std(singles, ddof=1) * (2 / 30) ** 0.5
    assert scipy.stats.mannwhitneyu(stacked, singles).pvalue > 0.05
