import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebuttal.errors import TrainingError
from rebuttal.training import SGD, AdamW, Cosine, Exponential
from rebuttal.training.evaluation import Evaluation, predict, time_to_fit
from rebuttal.training.loop import batches, train

X = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()


def fit(network, recipe, **changes):
    arguments = {"loss": F.cross_entropy, "order": np.random.default_rng(0), "name": "fit"}
    arguments["evaluation"] = Evaluation(X, Y)
    return train(network, X, Y, recipe=recipe, **arguments | changes)


@pytest.mark.parametrize(("n", "size"), [(100, 32), (65, 64), (7, 10), (128, 128), (1001, 128)])
def test_batches_cover_everything_once_in_even_sizes(n, size):
    count = math.ceil(n / size)
    found = list(batches(n, count, np.random.default_rng(0), torch.device("cpu")))
    assert sorted(torch.cat(found).tolist()) == list(range(n))
    sizes = [len(b) for b in found]
    assert len(sizes) == count and max(sizes) <= size and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (SGD(), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-2)),
        (SGD(nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-2, nesterov=True)),
        (AdamW(), lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.999), weight_decay=1e-2)),
    ],
)
def test_the_loop_equals_the_textbook_loop(recipe, optimizer, reference):
    ours = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    theirs = copy.deepcopy(ours)
    settings = recipe(optimizer=optimizer, lr=0.1, weight_decay=1e-2, schedule=Exponential(decay=0.5), epochs=3)
    history = fit(ours, settings)
    stepper, order = reference(theirs.parameters()), np.random.default_rng(0)
    losses = []
    for epoch in range(3):
        shuffled = torch.from_numpy(order.permutation(100))
        for index in shuffled.split(25):
            stepper.param_groups[0]["lr"] = 0.1 * 0.5**epoch
            loss = F.cross_entropy(theirs(X[index]), Y[index])
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            losses.append(loss.item())
    for a, b in zip(ours.parameters(), theirs.parameters()):
        assert torch.allclose(a, b, atol=1e-6)
    assert [row["loss"] for row in history] == pytest.approx(np.reshape(losses, (3, 4)).mean(axis=1), rel=1e-5)
    assert [row["step"] for row in history] == [4, 8, 12]


def test_learning_rates(recipe):
    flat, cosine = recipe(lr=0.2), recipe(lr=0.2, schedule=Cosine(), epochs=10)
    assert {flat.learning_rate(step, 7) for step in range(21)} == {0.2}
    assert cosine.learning_rate(0, 7) == 0.2
    assert cosine.learning_rate(35, 7) == pytest.approx(0.1)
    assert 0 < cosine.learning_rate(69, 7) < 1e-3
    warm = recipe(lr=0.2, schedule=Cosine(), epochs=10, warmup_epochs=2.0)
    assert [warm.learning_rate(step, 2) for step in range(4)] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert warm.learning_rate(4, 2) == 0.2
    exponential = recipe(lr=0.2, schedule=Exponential(decay=0.95))
    assert exponential.learning_rate(7 * 3 + 6, 7) == pytest.approx(0.2 * 0.95**3)


def test_training_stops_at_the_target(recipe):
    def network():
        torch.manual_seed(0)
        return nn.Linear(5, 2)

    by_accuracy = fit(network(), recipe(lr=0.01, epochs=500, stop_accuracy=0.95))
    assert by_accuracy[-1]["train_accuracy"] >= 0.95 > by_accuracy[-2]["train_accuracy"]
    by_loss = fit(network(), recipe(lr=0.01, epochs=500, stop_loss=0.3))
    assert by_loss[-1]["loss"] <= 0.3 < by_loss[-2]["loss"]


def test_a_loss_that_is_not_finite_raises_an_error_with_step_and_advice(recipe):
    calls = []

    def loss(ours, theirs):
        calls.append(1)
        return F.cross_entropy(ours, theirs) * (float("nan") if len(calls) == 7 else 1)

    with pytest.raises(TrainingError) as caught:
        fit(nn.Linear(5, 2), recipe(lr=0.25, epochs=9), loss=loss)
    assert "fit: the loss became nan at step 3 of epoch 2; try a smaller training.lr (now 0.25)" in str(caught.value)
    with pytest.raises(TrainingError, match="became inf"):
        fit(nn.Linear(5, 2), recipe(), loss=lambda ours, theirs: F.cross_entropy(ours, theirs) + float("inf"))


def test_training_and_evaluation_use_their_modes(recipe):
    network, modes = nn.Linear(5, 2), []
    network.register_forward_hook(lambda module, *_: modes.append(module.training))
    fit(network, recipe(epochs=1))
    assert modes == [True] * 4 + [False]  # one evaluation, which also tells whether the outputs are finite


def test_bfloat16_computes_in_bfloat16(recipe):
    network, dtypes = nn.Linear(5, 2), []
    network.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    fit(network, recipe(epochs=1, precision="bfloat16"))
    assert dtypes[0] == torch.bfloat16
    assert network.weight.dtype == torch.float32


def test_predict_gives_every_input_its_logits():
    inputs = torch.randn(5000, 3)
    assert torch.equal(predict(lambda x: 2 * x, inputs), 2 * inputs)


def test_time_to_fit_is_the_first_time_or_censored():
    rows = [{"epoch": e, "step": 10 * e, "train_accuracy": a} for e, a in ((1, 0.9), (2, 1.0), (3, 0.99), (4, 1.0))]
    assert time_to_fit(rows) == {"epochs_to_fit": 2, "steps_to_fit": 20}
    assert time_to_fit(rows[:1]) == {"epochs_to_fit": None, "steps_to_fit": None}


def test_a_network_whose_last_step_produced_nan_raises_an_error(recipe):
    settings = recipe(lr=1e38, optimizer=SGD(), epochs=1, batch_size=len(X))
    with pytest.raises(
        TrainingError, match=r"after the last step .* not finite; try a smaller training\.lr \(now 1e\+38"
    ):
        fit(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)), settings)
