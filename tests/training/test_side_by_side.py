import copy
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from rebuttal.store.checkpoints import Checkpoint
from rebuttal.training import SGD
from rebuttal.training.loop import Support
from rebuttal.training.side_by_side import Task, _Halt, side_by_side, without_the_longest
from rebuttal.training.stack import train_stacked
from tests.training.test_stack import member


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())  # a test of something else may have left its own
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def tasks(recipe, tmp_path):
    """Builds a stack of three and two single networks, that keep checkpoints, and call `after` after each step."""

    def build(after=lambda step, network: None):
        members = [member(seed, recipe(epochs=epochs, batch_size=30)) for seed, epochs in enumerate((9, 9, 4, 7, 20))]
        for i, one in enumerate(members):
            one.support = Support(Checkpoint(tmp_path / f"{i}.checkpoint"), snapshot=after)
        return [Task(members[:3], Checkpoint(tmp_path / "stack.checkpoint")), Task([members[3]]), Task([members[4]])]

    return build


def found(tasks):
    return [(one.history, list(one.network.state_dict().values())) for task in tasks for one in task.members]


@pytest.fixture
def expected(tasks, tmp_path):
    """What the networks are one after the other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [Task(task.members) for task in copy.deepcopy(tasks())]
    for one in (one for task in alone for one in task.members):
        one.support = Support()
    for task in alone:
        task.carry_out()
    torch.set_num_threads(threads)
    return found(alone)


def assert_equal(tasks, expected):
    for (history, weights), (other_history, other_weights) in zip(found(tasks), expected, strict=True):
        assert history == other_history
        assert all(torch.equal(mine, other) for mine, other in zip(weights, other_weights, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_networks_are_to_the_bit_what_they_are_one_after_the_other(threads, tasks, expected):
    state, before = torch.get_rng_state(), torch.get_num_threads()
    together = tasks()
    side_by_side(together, threads)
    assert_equal(together, expected)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == before


def test_so_many_are_trained_at_a_time_and_their_steps_are_reported_as_those_of_one(tasks):
    seen, steps = set(), []
    meeting = threading.Barrier(2, timeout=60)

    def met(row):
        if row["epoch"] == 1:
            meeting.wait()  # of two: one alone would wait for ever
            seen.add(threading.get_ident())

    two = tasks()[1:]
    for task in two:
        for one in task.members:
            one.support = Support(
                progress=lambda step, of: steps.append((threading.current_thread(), step, of)), watch=met
            )
    side_by_side(two, 2)
    assert len(seen) == 2
    assert steps[-1] == (threading.main_thread(), 27 * 3, 27 * 3)  # of 7 and 20 epochs
    assert [step for _, step, _ in steps] == sorted(step for _, step, _ in steps)


def test_what_had_ended_before_a_signal_is_not_trained_again(recipe, tmp_path):
    def singles(after):
        members = [member(seed, recipe(epochs=epochs)) for seed, epochs in enumerate((3, 3, 3, 400))]
        for i, one in enumerate(members):
            one.support = Support(Checkpoint(tmp_path / f"{i}.checkpoint", interval=60), snapshot=partial(after, i))
        return [Task([one]) for one in members]

    ended = [threading.Event() for _ in range(3)]

    def stopping(i, step, network):
        if i < 3 and step == 9:
            ended[i].set()
        if i == 3 and step == 1:
            assert all(one.wait(60) for one in ended)
            os.kill(os.getpid(), signal.SIGINT)

    before = singles(stopping)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(before, 2)
    assert {path.name for path in tmp_path.iterdir()} == {f"{i}.checkpoint" for i in range(4)}
    steps = {i: [] for i in range(4)}
    after = singles(lambda i, step, network: steps[i].append(step))
    for task in after:
        task.carry_out()
    assert [len(task.members[0].history) for task in after] == [3, 3, 3, 400]
    assert steps[0] == steps[1] == steps[2] == [9] and 0 < steps[3][0] < 1200  # where each begins


def test_a_second_signal_while_the_first_ends_all_is_no_deadlock(tasks, monkeypatch):
    def after(done, network):
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    stop = _Halt.stop

    def interrupted(halt):
        os.kill(os.getpid(), signal.SIGINT)
        stop(halt)

    monkeypatch.setattr(_Halt, "stop", interrupted)
    together = tasks(after)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(together, 2)


def test_a_signal_while_tasks_are_handed_out_is_heeded_soon(recipe, monkeypatch):
    submit = ThreadPoolExecutor.submit

    def interrupted(pool, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return submit(pool, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    long = [Task([member(seed, recipe(epochs=100_000))]) for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        side_by_side(long, 2)


@pytest.mark.parametrize("step", [1, 4, 11])
def test_a_signal_is_heeded_once_all_have_saved_and_a_rerun_ends_with_the_same_bits(step, tasks, expected, tmp_path):
    def after(done, network):
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = tasks()
    stopped[0].members[0].support = Support(stopped[0].members[0].support.checkpoint, snapshot=after)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(stopped, 2)
    assert (tmp_path / "stack.checkpoint").exists()
    again = tasks()
    side_by_side(again, 2)
    assert_equal(again, expected)


def test_after_a_signal_whose_handler_returns_all_go_on(tasks, expected):
    heard = []

    def after(done, network):
        if done in (3, 5):
            os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(threading.current_thread()))
    try:
        together = tasks(after)
        side_by_side(together, 2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert_equal(together, expected)
    assert len(heard) >= 1 and set(heard) == {threading.main_thread()}


def test_one_that_diverges_costs_no_other_and_what_is_no_training_error_ends_all(recipe):
    good = recipe(epochs=3)
    tasks = [Task([member(0, good)]), Task([member(1, recipe(optimizer=SGD(), lr=1e30))]), Task([member(2, good)])]
    side_by_side(tasks, 2)
    (first,), (failed,), (last,) = (task.members for task in tasks)
    assert "member 1: the loss became" in str(failed.failed) and not failed.history
    assert len(first.history) == len(last.history) == 3 and first.failed is last.failed is None

    class Broken(Exception):
        pass

    def broken(row):
        raise Broken

    long = member(3, recipe(epochs=100_000))
    bad = member(4, good)
    bad.support = Support(watch=broken)
    with pytest.raises(Broken):
        side_by_side([Task([long]), Task([bad])], 2)


def test_what_would_leave_threads_idle_is_left_out(recipe):
    def of(*epochs):
        return [Task([member(0, recipe(epochs=n))]) for n in epochs]

    def chosen(tasks, threads):
        return [task.members[0].recipe.epochs for task in without_the_longest(tasks, threads)]

    assert chosen(of(10, 10), 2) == [10, 10]
    assert chosen(of(10, 100, 10), 2) == [10, 10]
    assert chosen(of(5, 20, 10, 5), 2) == [20, 10, 5, 5]
    assert chosen(of(10), 2) == [] and chosen([], 2) == []
    assert chosen(of(1, 10, 100), 2) == []
    assert chosen(of(10, 10), 1) == []
    own = Task([member(0, recipe(epochs=10), lambda logits, labels: logits.square().mean() + torch.rand(()))])
    large = Task([member(seed, recipe(epochs=10, batch_size=90)) for seed in range(600)])  # 5e7 products a step
    assert without_the_longest([*of(10, 10), own, large], 2) != [] == without_the_longest([own, own, large, large], 2)


def test_a_stack_in_a_thread_is_the_stack_that_it_is_elsewhere(recipe):
    both = [[member(seed, recipe(epochs=5, lr=0.01)) for seed in range(4)] for _ in range(2)]
    train_stacked(both[0])
    side_by_side([Task(both[1][:4]), Task([member(9, recipe())])], 2)
    for one, other in zip(*both):
        for mine, theirs in zip(one.network.parameters(), other.network.parameters()):
            np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=1e-5, atol=1e-6)
