import errno
import logging
import math
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rebuttal.store.checkpoints import Checkpoint, State, pack, unpack
from rebuttal.training import SGD, AdamW, Cosine
from rebuttal.training.evaluation import Evaluation
from rebuttal.training.loop import Support, train

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Killed(BaseException):
    """Stands for the end of the process: nothing in the package catches it."""


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def fit(recipe, support=None, seed=3, look=Evaluation, build=network):
    net = build()
    torch.manual_seed(seed)
    history = train(net, X, Y, F.cross_entropy, recipe, np.random.default_rng(seed), look(X, Y), "fit", support)
    return net.state_dict(), history


def killed_at(step):
    def progress(now, steps):
        if now == step:
            raise Killed

    return progress


def at_every_step(path):
    return Checkpoint(path, cost=math.inf)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(nesterov=True), AdamW()])
@pytest.mark.parametrize("kills", [(1,), (2, 3), (5,), (6, 11, 14), (15,)])
def test_going_on_equals_never_having_stopped_bit_for_bit(recipe, tmp_path, optimizer, kills):
    settings = recipe(optimizer=optimizer, epochs=3, batch_size=10, lr=0.05, schedule=Cosine(), warmup_epochs=1.0)
    weights, history = fit(settings)
    path = tmp_path / "checkpoint"
    for kill in kills:
        chance = kill if path.exists() else 3  # of which nothing may be left when it goes on
        with pytest.raises(Killed):
            fit(settings, Support(at_every_step(path), killed_at(kill)), seed=chance)
    steps = []
    again, told = fit(settings, Support(at_every_step(path), lambda step, of: steps.append((step, of))))
    assert told == history
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert steps == [(step, 15) for step in range(kills[-1], 16)]  # the step that was killed, and those after it


def convolutional():
    torch.manual_seed(1)
    body = nn.Conv2d(3, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.LazyLinear(2)
    net = nn.Sequential(nn.Unflatten(1, (3, 1, 2)), nn.ZeroPad2d(1), *body)
    net(X[:2])
    return net


@pytest.mark.parametrize("optimizer", [SGD(), AdamW()])
def test_convolutions_in_bfloat16_go_on_bit_for_bit_too(recipe, tmp_path, optimizer):
    """There weights and momentum lie channels last in memory during an epoch."""
    settings, path = recipe(optimizer=optimizer, epochs=3, batch_size=10, precision="bfloat16"), tmp_path / "checkpoint"
    weights, history = fit(settings, build=convolutional)
    for kill in (3, 7, 12):
        with pytest.raises(Killed):
            fit(settings, Support(at_every_step(path), killed_at(kill)), build=convolutional)
    again, told = fit(settings, Support(at_every_step(path)), build=convolutional)
    assert told == history and all(torch.equal(again[name], weights[name]) for name in weights)
    assert all(tensor.is_contiguous() for tensor in again.values())


def test_a_checkpoint_at_an_interval_is_not_written_before_it_is_over(tmp_path):
    late = Checkpoint(tmp_path / "c", interval=1000)
    assert not late.due()
    now = Checkpoint(tmp_path / "c", interval=0, cost=1e-9)
    assert now.due()
    now.save(State({}, {"w": torch.zeros(1000)}))
    assert not now.due()  # writing took more than a billionth of no time
    assert not Checkpoint().due() and Checkpoint().load() is None


RAW = pack(State({"step": 3, "history": [{"loss": 0.1}]}, {"w": torch.arange(12.0)}))


def test_a_state_comes_back_as_it_was():
    with pytest.raises(ValueError, match="belongs to another training"):
        unpack(RAW, "mine")
    state = unpack(RAW)
    assert state.facts == {"step": 3, "history": [{"loss": 0.1}]}
    assert torch.equal(state.tensors["w"], torch.arange(12.0)) and set(state.tensors) == {"w"}


@given(at=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(RAW) - 1))
@settings(deadline=None, max_examples=300)
def test_no_damaged_byte_and_no_missing_end_goes_unnoticed(at, bit, cut):
    damaged = bytearray(RAW)
    damaged[at] ^= 1 << bit
    for raw in (bytes(damaged), RAW[:cut]):
        with pytest.raises(ValueError, match="checksum"):
            unpack(raw)


def test_a_damaged_checkpoint_is_named_and_training_begins_anew(recipe, tmp_path, caplog):
    settings = recipe(epochs=2, batch_size=10)
    weights, history = fit(settings)
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        fit(settings, Support(at_every_step(path), killed_at(7)))
    path.write_bytes(path.read_bytes()[:-1])
    again, told = fit(settings, Support(at_every_step(path)))
    assert f"damaged checkpoint {path}" in caplog.text
    assert told == history and all(torch.equal(again[name], weights[name]) for name in weights)


def test_where_nothing_can_be_written_training_goes_on_and_says_so(recipe, tmp_path, caplog):
    settings = recipe(epochs=2, batch_size=10)
    _, history = fit(settings)
    nowhere = tmp_path / "a file"
    nowhere.write_text("")
    _, told = fit(settings, Support(at_every_step(nowhere / "checkpoint")))
    assert told == history
    assert f"no checkpoint written ({nowhere}: " in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_warning_leaves_a_checkpoint_of_whole_steps_then_reaches_who_waits_for_it(recipe, tmp_path, number, caplog):
    settings = recipe(epochs=3, batch_size=10)
    weights, history = fit(settings)
    path, seen = tmp_path / "checkpoint", []

    def warn(step, steps):
        if step == 8:
            os.kill(os.getpid(), number)

    def requeue(number, frame):  # as submitit does
        seen.append(unpack(path.read_bytes(), path.name).facts["step"])
        raise SystemExit(-1)

    before = signal.signal(number, requeue)
    try:
        with pytest.raises(SystemExit):
            fit(settings, Support(Checkpoint(path, interval=1000), warn))
    finally:
        signal.signal(number, before)
    assert seen == [8]
    with caplog.at_level(logging.INFO):
        again, told = fit(settings, Support(Checkpoint(path, interval=1000)))
    assert "fit: resuming from step 8 of 15" in caplog.text
    assert told == history and all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("epoch", "stop_accuracy"), [(1, None), (2, None), (1, 0.01)])
def test_a_warning_while_the_network_is_looked_at_leaves_the_whole_epoch(recipe, tmp_path, epoch, stop_accuracy):
    settings = recipe(epochs=3, batch_size=10, stop_accuracy=stop_accuracy)
    weights, history = fit(settings)

    class Warned(Evaluation):
        def after(self, network, now, last, goal):
            if now == epoch:
                signal.raise_signal(signal.SIGUSR2)
            return super().after(network, now, last, goal)

    def requeue(number, frame):
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, requeue)
    support = Support(Checkpoint(tmp_path / "checkpoint", interval=1000))
    try:
        with pytest.raises(SystemExit):
            fit(settings, support, look=Warned)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert unpack((tmp_path / "checkpoint").read_bytes(), "checkpoint").facts["history"] == history[:epoch]
    again, told = fit(settings, support, seed=9)
    assert told == history and all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    """A file server that does not answer is no reason to train anew, and to write over what was there."""

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    kept = Checkpoint(tmp_path / "checkpoint")
    kept.save(State({}, {}))
    monkeypatch.setattr(type(kept.path), "read_bytes", stale)
    with pytest.raises(OSError, match="Stale"):
        kept.load()


def test_a_warning_that_nobody_heeds_changes_nothing(recipe):
    settings = recipe(epochs=2, batch_size=10)
    weights, history = fit(settings)
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        again, told = fit(settings, Support(progress=lambda step, steps: os.kill(os.getpid(), signal.SIGUSR2)))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(heard) == 10
    assert told == history and all(torch.equal(again[name], weights[name]) for name in weights)
