import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rebuttal.store.checkpoints import Checkpoint
from rebuttal.training import SGD, AdamW
from rebuttal.training.evaluation import (
    Evaluation,
    HeldBack,
    allowed_errors,
    evaluated_epochs,
    is_due,
    predict,
    time_to_fit,
)
from rebuttal.training.loop import Support, train
from rebuttal.training.losses import SoftCrossEntropy

N = 600
X = torch.randn(N, 12, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (N,), generator=torch.Generator().manual_seed(1))
NEW = torch.randn(900, 12, generator=torch.Generator().manual_seed(2))
OLD = torch.randint(3, (900,), generator=torch.Generator().manual_seed(3))


def network(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 64), *more, nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))


def fit(net, recipe, schedule, loss=F.cross_entropy):
    torch.manual_seed(1)
    evaluation = Evaluation(X, Y, {"test_accuracy": (NEW, OLD)}, schedule)
    return train(net, X, Y, loss, recipe, np.random.default_rng(0), evaluation, "fit"), evaluation


def test_the_epochs_of_each_schedule():
    due = [epoch for epoch in range(1, 101) if is_due(epoch, "log")]
    assert due == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    assert evaluated_epochs(100, "log") == 14 and evaluated_epochs(96, "log") == 13 and evaluated_epochs(1, "log") == 1
    assert all(is_due(epoch, "every") and not is_due(epoch, "last") for epoch in due)
    assert (evaluated_epochs(100, "every"), evaluated_epochs(100, "last")) == (100, 1)


@pytest.mark.parametrize("schedule", ["log", "every", "last"])
def test_evaluations_are_counted_without_going_through_the_epochs(schedule):
    for epochs in range(1, 200):
        assert evaluated_epochs(epochs, schedule) == sum(is_due(e, schedule) for e in range(1, epochs)) + 1
    assert evaluated_epochs(10**15, schedule) == {"log": 50 + 49 + 1, "every": 10**15, "last": 1}[schedule]


TRAININGS = {
    "to all": (network, {}),
    "with dropout": (lambda: network(nn.Dropout(0.2)), {}),
    "with batch-norm": (lambda: network(nn.BatchNorm1d(64)), {}),
    "up and down": (network, {"optimizer": SGD(), "lr": 0.5, "epochs": 80, "batch_size": 60}),
    "one step an epoch": (network, {"batch_size": N, "epochs": 300}),
    "to 90 %": (network, {"stop_accuracy": 0.9}),
    "to all, and it ends": (network, {"stop_accuracy": 1.0}),
    "to a loss": (network, {"stop_loss": 0.2}),
}


@pytest.mark.parametrize("schedule", ["log", "last"])
@pytest.mark.parametrize("name", TRAININGS)
def test_no_schedule_changes_the_training_its_end_or_the_time_to_fit(name, schedule, recipe):
    build, changes = TRAININGS[name]
    asked = recipe(**{"optimizer": AdamW(), "lr": 1e-2, "epochs": 70, "batch_size": 100} | changes)
    always, sometimes = build(), build()
    every, _ = fit(always, asked, "every")
    some, evaluation = fit(sometimes, asked, schedule)
    assert all(torch.equal(a, b) for a, b in zip(always.state_dict().values(), sometimes.state_dict().values()))
    assert len(every) == len(some) and time_to_fit(every) == time_to_fit(some)
    assert all(row.items() <= known.items() for row, known in zip(some, every))
    assert some[-1] == every[-1]
    assert torch.equal(evaluation.logits["test_accuracy"], predict(sometimes, NEW))
    taken = [row["epoch"] for row in some if "test_accuracy" in row]
    fitted = time_to_fit(some)["epochs_to_fit"]
    assert set(taken) == {e for e in range(1, len(some) + 1) if is_due(e, schedule) or e in (len(some), fitted)}


def test_the_trainings_above_are_of_every_kind(recipe):
    """Fitted early, late and never; and fitted, then not, then again."""
    build, changes = TRAININGS["up and down"]
    every, _ = fit(build(), recipe(**{"lr": 1e-2, "epochs": 70, "batch_size": 100} | changes), "every")
    accuracies = [row["train_accuracy"] for row in every]
    assert min(np.diff(accuracies)) < -0.05
    every, _ = fit(network(), recipe(lr=1e-2, epochs=70, batch_size=100), "every")
    assert 4 < time_to_fit(every)["epochs_to_fit"] < 70


def test_running_accuracy_is_that_of_the_steps(recipe):
    """With one step an epoch and no noise it is the accuracy after the epoch before."""
    every, _ = fit(network(), recipe(lr=3e-3, epochs=20, batch_size=N), "every")
    assert [row["running_accuracy"] for row in every[1:]] == [row["train_accuracy"] for row in every[:-1]]


def test_an_epoch_that_is_not_due_costs_few_inputs(recipe):
    net, seen = network(), []
    net.register_forward_hook(lambda module, inputs, _: None if module.training else seen.append(len(inputs[0])))
    fit(net, recipe(lr=1e-3, epochs=30, batch_size=N), "last")
    assert sum(seen) <= 2 * N + len(NEW) + 28 * 128  # once to learn which are wrong, and at the end


def test_the_first_epoch_of_many_inputs_costs_a_part_of_them():
    n, seen = 10_000, []

    def network(inputs):
        seen.append(len(inputs))
        return F.one_hot(inputs[:, 0] // 7000, 2).float()

    evaluation = Evaluation(torch.arange(n)[:, None], torch.zeros(n, dtype=torch.long), {}, "last")
    assert evaluation.after(network, 1, False, 1.0) == evaluation.after(network, 2, False, 1.0) == {}
    assert sum(seen) == 2500 + 128
    assert evaluation.after(network, 3, False, 0.7) == {"train_accuracy": 0.7}


def test_inputs_that_are_nearly_right_prove_nothing(recipe):
    """In a batch of another size rounding may decide them otherwise."""
    logits = torch.zeros(N, 3)
    logits[:, 2] = 1.0
    classes = torch.full((N,), 2)
    logits[:5, 0] = 1.0 + 1e-5  # wrong by less than rounding may be in other networks
    evaluation = Evaluation(torch.arange(N)[:, None], classes, {}, "last")
    assert evaluation.after(lambda rows: logits[rows[:, 0]], 1, False, 1.0) == {}
    logits[:5, 0] = 0.0
    assert evaluation.after(lambda rows: logits[rows[:, 0]], 2, False, 1.0) == {"train_accuracy": 1.0}


@given(n=st.integers(1, 3000), goal=st.floats(0.01, 1.0))
@settings(max_examples=300, deadline=None)
def test_allowed_errors_are_the_most_that_reach_the_goal(n, goal):
    most = allowed_errors(n, goal)
    assert (n - most) / n >= goal or most < 0
    assert most == n or (n - most - 1) / n < goal


def overfitting(recipe, stop=None, path=None):
    """A training on few inputs with random classes, which holds back others: (network, history, what it held back)."""
    chance = torch.Generator().manual_seed(0)
    inputs, classes = torch.randn(60, 8, generator=chance), torch.randint(3, (60,), generator=chance)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
    held_back = HeldBack(inputs[40:], classes[40:], F.cross_entropy)
    evaluation = Evaluation(inputs[:40], classes[:40], schedule="last", held_back=held_back)

    def progress(step, steps):
        if step == stop:
            raise KeyboardInterrupt

    order, support = np.random.default_rng(0), Support(Checkpoint(path, interval=0, cost=1), progress)
    settings, loss = recipe(lr=0.003, epochs=60, batch_size=20), F.cross_entropy
    history = train(network, inputs[:40], classes[:40], loss, settings, order, evaluation, "x", support)
    return network, history, held_back


def test_the_best_weights_are_those_of_the_lowest_loss_on_what_is_held_back(recipe):
    network, history, held_back = overfitting(recipe)
    losses = {row["epoch"]: row["held_back_loss"] for row in history if "held_back_loss" in row}
    assert list(losses) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 60]
    best = min(losses, key=losses.get)
    assert best < 60 and losses[60] > losses[best]  # it overfits
    network.load_state_dict(held_back.best)
    assert F.cross_entropy(network(held_back.inputs), held_back.targets).item() == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.parametrize("error", [1e-3, 1e-2, 1.0])
def test_how_far_a_student_is_from_its_teacher_s_probabilities_is_no_rounding(error):
    """Of a thousand classes at a temperature of 20 the entropy is a million times what is left to learn."""
    torch.manual_seed(0)
    teacher, noise, loss = 10 * torch.randn(50, 1000), torch.randn(50, 1000), SoftCrossEntropy(temperature=20.0)
    targets = (teacher.double() / 20).softmax(dim=1)
    held_back = HeldBack(teacher + error * noise, targets, loss, floor=loss(teacher.double(), targets).item())
    found = held_back.after(nn.Identity(), 1, False, [])["held_back_loss"]
    student = (held_back.inputs.double() / 20).log_softmax(dim=1)
    exact = 400 * F.kl_div(student, targets.log(), reduction="batchmean", log_target=True).item()
    assert found == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("goal", [0.8, 0.9, 0.95, 1.0])
def test_the_weights_at_which_a_training_accuracy_ends_it_may_be_the_best(goal, recipe):
    """Held back are the inputs that are trained on, so that the last weights are the best."""
    chance = torch.Generator().manual_seed(0)
    inputs, classes = torch.randn(60, 8, generator=chance), torch.randint(3, (60,), generator=chance)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
    held_back = HeldBack(inputs, classes, F.cross_entropy)
    settings = recipe(lr=0.003, epochs=400, batch_size=60, stop_accuracy=goal)
    evaluation = Evaluation(inputs, classes, schedule="last", held_back=held_back)
    history = train(network, inputs, classes, F.cross_entropy, settings, np.random.default_rng(0), evaluation, "x")
    assert goal <= history[-1]["train_accuracy"] and len(history) < 400
    assert history[-1]["held_back_loss"] == min(row.get("held_back_loss", 9) for row in history)
    assert all(torch.equal(held_back.best[name], tensor) for name, tensor in network.state_dict().items())


def test_a_loss_that_is_not_finite_is_in_no_row(recipe):
    """Which a checkpoint could not keep; that the training failed is for the training to say."""
    network = nn.Linear(2, 2)
    network.weight.data.fill_(torch.nan)
    held_back = HeldBack(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), F.cross_entropy)
    assert held_back.after(network, 1, True, []) == {} and not held_back.best


@pytest.mark.parametrize("stop", [3, 30, 100])
def test_the_best_weights_survive_a_stop(stop, recipe, tmp_path):
    _, history, whole = overfitting(recipe)
    with pytest.raises(KeyboardInterrupt):
        overfitting(recipe, stop, tmp_path / "checkpoint")
    _, again, held_back = overfitting(recipe, path=tmp_path / "checkpoint")
    assert again == history
    assert all(torch.equal(held_back.best[name], tensor) for name, tensor in whole.best.items())
