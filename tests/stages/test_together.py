import itertools
import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rebuttal.errors import TrainingError
from rebuttal.functions.networks import Trained
from rebuttal.models import VGG11
from rebuttal.stages import Fit
from rebuttal.stages.session import Session
from rebuttal.stages.stage import trainings
from rebuttal.stages.together import train_together
from rebuttal.stages.variants import repeated, with_student_size
from rebuttal.store.entries import lock_of
from rebuttal.store.identity import name_of
from rebuttal.training import side_by_side
from tests.parameters import some_slow


@pytest.fixture
def students(mimic):
    """Three students of each kind of target, each of another teacher."""
    return [repeated(replace(mimic, target=target), n) for target in ("hard", "soft", "logit") for n in range(3)]


@pytest.fixture
def session(session):
    return Session(replace(session.settings, stack="always"))


@pytest.mark.slow
def test_teachers_then_students_are_trained_as_one_and_are_what_they_are_alone(students, session, stacks, tmp_path):
    train_together(students, session)
    assert sorted(stacks) == [3, 3, 6]  # teachers; students of classes; of probabilities and of logits
    needed = trainings(students, session)
    assert len(needed) == 12 and sorted(session.store.made) == sorted(needed)
    apart = Session(replace(session.settings, store=str(tmp_path / "apart")))
    for student in students:
        together, alone = (student.run(where).metrics for where in (session, apart))
        assert together.keys() == alone.keys()
        assert together["agreement"] == pytest.approx(alone["agreement"], abs=0.05)
        assert together["steps"] == alone["steps"] and together["parameters"] == alone["parameters"]
    assert sorted(session.store.made) == sorted(needed)  # nothing was trained again


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def beside(monkeypatch):
    """The number of networks in each task of those that are trained side by side."""
    sizes, run = [], side_by_side.side_by_side

    def counted(tasks, threads):
        sizes.append(sorted(len(task.members) for task in tasks))
        run(tasks, threads)

    monkeypatch.setattr("rebuttal.stages.together.side_by_side", counted)
    return sizes


@pytest.mark.slow
def test_with_two_threads_stacks_are_trained_side_by_side(students, session, stacks, beside, two_threads, tmp_path):
    train_together(students, session)
    assert sorted(stacks) == [3, 3, 6] and beside == [[3, 6]]
    needed = trainings(students, session)
    assert sorted(session.store.made) == sorted(needed)
    apart = Session(replace(session.settings, store=str(tmp_path / "apart")))
    for student in students:
        together, alone = (student.run(where).metrics for where in (session, apart))
        assert together["agreement"] == pytest.approx(alone["agreement"], abs=0.05)
        assert together["steps"] == alone["steps"]
    assert sorted(session.store.made) == sorted(needed)
    left = [path for path in Path(session.settings.store).rglob("*") if path.suffix == ".checkpoint"]
    assert left == []


def test_with_two_threads_networks_of_several_sizes_are_trained_side_by_side(
    mimic, session, stacks, beside, two_threads
):
    students = [with_student_size(replace(mimic, seed=n), 100 + n) for n in range(4)]
    train_together(students, session)
    assert stacks == [] and beside == [[1, 1, 1, 1]]
    assert len(session.store.made) == 5  # with their teacher


@pytest.mark.slow
@pytest.mark.parametrize("rows", some_slow([4, 20, 33], 20, 33))
def test_what_a_signal_stopped_side_by_side_goes_on_to_the_same_bits(rows, students, session, two_threads, tmp_path):
    students += [with_student_size(replace(students[0], seed=n), 150 + n) for n in range(2)]
    whole = Session(replace(session.settings, store=str(tmp_path / "whole")))
    train_together(students, whole)
    stopped = Session(session.settings)

    seen = itertools.count()

    def row_ends(row):
        if next(seen) == rows:
            os.kill(os.getpid(), signal.SIGINT)

    stopped.status.epoch = row_ends
    with pytest.raises(KeyboardInterrupt):
        train_together(students, stopped)
    assert list(Path(session.settings.store).rglob("*.checkpoint"))
    again = Session(stopped.settings)
    train_together(students, again)
    for student in students:
        assert student.run(again).metrics == student.run(whole).metrics
    assert not list(Path(session.settings.store).rglob("*.checkpoint"))


def test_what_is_stored_is_not_trained_again(students, session, stacks):
    students[0].run(session)
    train_together(students[:3], session)
    assert stacks == [2, 2]
    train_together(students[:3], Session(session.settings))
    assert stacks == [2, 2]
    left = [path for path in Path(session.settings.store).rglob("*") if path.suffix == ".checkpoint"]
    assert left == []


def test_one_that_diverges_fails_when_it_is_its_turn(fit, session, stacks):
    fits = [
        replace(fit, seed=seed, training=replace(fit.training, lr=lr)) for seed, lr in enumerate((1e-3, 1e30, 1e-3))
    ]
    train_together(fits, session)
    assert stacks == [3] and len(session.store.made) == 2
    assert fits[2].run(session).metrics["steps"] > 0
    with pytest.raises(TrainingError, match="the loss became"):
        fits[1].run(session)


def test_a_teacher_that_fails_leaves_the_students_of_the_others_in_their_stack(mimic, session, stacks):
    teachers = [replace(mimic.teacher.fit, seed=seed) for seed in range(4)]
    teachers[1] = replace(teachers[1], training=replace(teachers[1].training, lr=1e30))
    students = [replace(mimic, teacher=Trained(fit=fit), seed=seed) for seed, fit in enumerate(teachers)]
    train_together(students, session)
    assert stacks == [4, 3] and len(session.store.made) == 6


def test_students_of_a_teacher_that_another_process_trains_are_stacked_once_it_is_there(mimic, session, stacks):
    students = [replace(mimic, seed=seed) for seed in range(3)]
    teacher = mimic.teacher.fit
    run = Fit.run

    def by_another(stage, own):
        run(stage, Session(session.settings))
        return run(stage, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "run", by_another)
        train_together(students, session)
    assert stacks == [3] and len(session.store.made) == 3
    assert name_of("fit", teacher.identity(session)) not in session.store.made


def test_a_store_that_can_only_be_read_is_left_to_each_stage(fit, session, stacks, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rebuttal.store.entries.FileLock.acquire", refused)
    train_together([replace(fit, seed=seed) for seed in range(3)], session)
    assert stacks == [] and session.store.made == []


def test_no_lock_is_left_of_groups_that_were_claimed(fit, session, stacks):
    fits = [replace(fit, seed=seed) for seed in range(3)]
    for _ in range(2):
        train_together(fits, Session(session.settings))
    assert stacks == [3] and list((session.store.root / "trial").iterdir()) == []


def test_what_cannot_be_stacked_is_left(fit, session, stacks):
    dataset = replace(fit.dataset, shape=(3, 32, 32), train_size=4, test_size=4)
    train_together([replace(fit, seed=seed, model=VGG11(), dataset=dataset) for seed in range(2)], session)
    assert stacks == [] and session.store.made == []


def test_networks_are_not_trained_as_one_where_nobody_wants_that_or_a_trial_says_no(fit, session, stacks, monkeypatch):
    trials = []

    def gives(stacked):
        monkeypatch.setattr(
            "rebuttal.stages.together.trial",
            lambda members: trials.append(len(members)) or {"stacked": stacked, "alone": 1.0},
        )

    def three(**changes):
        return [replace(fit, seed=seed, training=replace(fit.training, **changes)) for seed in range(3)]

    def within(stack, **other):
        return Session(replace(session.settings, stack=stack, **other))

    gives(0.1)
    train_together(three(), within("never"))
    train_together(three(), within("auto"))  # 90 steps at most: too few for a trial
    assert stacks == [] and trials == []
    train_together(three(epochs=101), within("auto"))
    assert stacks == [3] and trials == [3]
    gives(0.95)
    train_together(three(epochs=102), within("auto"))  # what was found once is known
    assert stacks == [3, 3] and trials == [3]
    train_together(three(epochs=103)[:2], within("auto"))
    assert stacks == [3, 3] and trials == [3, 2]


def test_forced_networks_are_trained_as_one_once(students, session, stacks):
    students[0].run(session)
    forced = Session(replace(session.settings, force=True))
    train_together(students[:3], forced)
    assert stacks == [3, 3] and len(forced.store.made) == 6
    students[0].run(forced)
    assert len(forced.store.made) == 6


@pytest.mark.slow
def test_of_two_processes_with_the_same_stages_each_trains_what_the_other_does_not(mimic, session, tmp_path):
    kinds = [replace(mimic.training, batch_size=size, epochs=epochs) for size in (10, 20, 30) for epochs in (150, 200)]
    fits = [replace(mimic.teacher.fit, training=kind, seed=seed) for kind in kinds for seed in range(4)]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, context) as pool:
        both = [pool.submit(made_of, fits, session.settings, tmp_path / f"{name}.begun") for name in ("one", "other")]
        shared = [future.result() for future in both]
    assert sorted(shared[0] + shared[1]) == sorted(trainings(fits, session))  # each of them once
    assert all(len(made) >= 8 for made in shared)  # of three groups each has one or two
    alone = Session(replace(session.settings, store=str(tmp_path / "alone")))
    train_together(fits, alone)
    for one in fits:  # in the same stacks, and so to the same bits
        mine, theirs = (one.artifact(where).tensors for where in (session, alone))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def made_of(stages, settings, begun):
    torch.set_num_threads(1)
    begun.touch()
    while len(list(begun.parent.glob("*.begun"))) < 2:
        time.sleep(0.01)
    session = Session(settings)
    train_together(stages, session)
    return session.store.made


def test_a_stack_waits_for_no_network_that_another_process_trains(fit, session, stacks):
    fits = [replace(fit, seed=seed) for seed in range(4)]
    taken = [name_of("fit", one.identity(session)) for one in fits[::2]]
    (session.store.root / "fit").mkdir(parents=True)
    with lock_of(session.store.root / taken[0]), lock_of(session.store.root / taken[1]):
        train_together(fits, session)
    assert stacks == [2] and len(session.store.made) == 2 and not set(session.store.made) & set(taken)


def test_a_stack_is_as_large_as_memory_and_locks_allow(fit, session, stacks, monkeypatch):
    monkeypatch.setattr("rebuttal.stages.together.MOST", 3)
    train_together([replace(fit, seed=seed) for seed in range(5)], session)
    assert sorted(stacks) == [2, 3]
    monkeypatch.setattr("rebuttal.stages.together.BYTES", 4 * 60 * 20 * 2 - 1)  # less than two copies of the inputs
    train_together([replace(fit, seed=seed) for seed in range(5, 8)], session)
    assert sorted(stacks) == [2, 3]


def test_networks_of_a_stack_that_was_killed_while_they_were_stored_are_not_trained_again(fit, session, stacks):
    fits = [replace(fit, seed=seed) for seed in range(3)]
    trained = Fit.trained

    def interrupted(stage, *given):
        if stage.seed == 1:
            raise KeyboardInterrupt
        return trained(stage, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "trained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_together(fits, session)
    again = Session(session.settings)
    train_together(fits, again)
    apart = Session(replace(session.settings, store=f"{session.settings.store}-apart"))
    train_together(fits, apart)
    for one in fits:
        pairs = zip(one.artifact(again).tensors.values(), one.artifact(apart).tensors.values())
        assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_teacher_is_trained_alone_first_if_students_wait_for_it(mimic, session, stacks):
    students = [replace(mimic, seed=seed) for seed in range(3)]
    train_together(students, session)
    assert stacks == [3] and len(session.store.made) == 4
    with_one = [replace(mimic, teacher=Trained(fit=replace(mimic.teacher.fit, seed=9)))]
    train_together(with_one, session)  # a teacher and one student: nothing to train as one
    assert stacks == [3] and len(session.store.made) == 4


def test_a_stack_that_does_not_fit_into_memory_is_left_to_be_trained_alone(fit, session, monkeypatch):
    def too_large(members, checkpoint):
        members[0].history.append({"epoch": 1})
        raise MemoryError

    monkeypatch.setattr("rebuttal.training.side_by_side.train_stacked", too_large)
    fits = [replace(fit, seed=seed) for seed in range(3)]
    train_together(fits, session)
    assert session.store.made == [] and len(fits[0].run(session).history) == 30
