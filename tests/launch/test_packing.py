"""Jobs that share a SLURM task: how they are grouped, run and stopped. Those on SLURM are in tests/test_slurm.py."""

import os
import signal
import time
from functools import partial

import pytest
from hydra.core.utils import JobStatus

from rebuttal.errors import ConfigError, UserError
from rebuttal.launch.expand import read_command
from rebuttal.launch.gpu_slots import cores, share_of_threads
from rebuttal.launch.packing import Job, cores_of_task, in_tasks, run_jobs
from rebuttal.launch.processes import ProcessDied

SWEEP = ["-m", "experiment=toy", "hydra/launcher=slurm", "hydra.sweep.dir=sweep"]


@pytest.mark.parametrize(("count", "size", "sizes"), [
    (64, 8, [8] * 8), (5, 2, [2, 2, 1]), (3, 8, [3]), (2, 1, [1, 1]), (0, 4, []),
])  # fmt: skip
def test_every_job_is_in_one_task_in_the_order_of_the_sweep(count, size, sizes):
    tasks = in_tasks([[f"seed={n}"] for n in range(count)], 10, size)
    assert [len(task) for task in tasks] == sizes
    assert [job for task in tasks for job in task] == [Job(10 + n, (f"seed={n}",)) for n in range(count)]


def fail():
    raise ValueError("as asked")


@pytest.mark.slow
def test_a_job_that_fails_or_dies_takes_no_other_with_it():
    done = partial(pow, 3, 2)
    first, failed, killed, last = run_jobs([done, fail, partial(os.abort), done], at_a_time=2)
    assert (first, last) == (9, 9)
    assert isinstance(failed, ValueError) and str(failed) == "as asked"
    assert isinstance(killed, ProcessDied)
    status, error = Job(0, ()).outcome(killed)
    assert status == JobStatus.FAILED and isinstance(error, UserError)
    assert str(error) == "its process died without an error message"
    assert Job(0, ()).outcome(None) == (JobStatus.COMPLETED, None)


def note(path):
    """Write when a job begins, and that SIGTERM ended it; SLURM's warning alone must not."""
    path.write_text("began")
    signal.signal(signal.SIGTERM, lambda *_: (path.write_text("stopped"), os._exit(1)))
    os.kill(os.getpid(), signal.SIGUSR2)
    path.write_text("warned")
    time.sleep(60)


def test_an_interrupted_task_stops_its_jobs_and_begins_no_other(tmp_path):
    paths = [tmp_path / str(number) for number in range(3)]

    def stop_once_both_run(*_):
        if all(path.exists() and path.read_text() == "warned" for path in paths[:2]):
            raise SystemExit(1)  # as submitit's handler does

    before = signal.signal(signal.SIGALRM, stop_once_both_run)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(SystemExit):
            run_jobs([partial(note, path) for path in paths], at_a_time=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [path.read_text() for path in paths[:2]] == ["stopped"] * 2
    assert not paths[2].exists()


def test_the_cores_are_those_of_the_task(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert cores_of_task() == 6
    assert (
        share_of_threads(-1, 1, 8, 6) == 1 and share_of_threads(2, 1, 8, 6) == 3 and share_of_threads(-1, 1, 2, 6) == 3
    )
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert cores_of_task() == cores()


REFUSED = {
    "hydra.launcher.jobs_per_task=0": "hydra.launcher.jobs_per_task=0: allowed: a whole number from 1",
    "hydra.launcher.jobs_per_task=-8": "hydra.launcher.jobs_per_task=-8: allowed: a whole number from 1",
    "hydra.launcher.jobs_at_a_time=0": "hydra.launcher.jobs_at_a_time=0: allowed: a whole number from 1, or null: as "
    "many as the task has cores",
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_number_of_jobs_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError) as refused:
        read_command([*SWEEP, wrong])
    assert str(refused.value) == REFUSED[wrong]


def test_the_launcher_is_slurm_s_for_what_waits_for_it():
    request = read_command([*SWEEP, "hydra.launcher.jobs_per_task=2"])
    assert request.launcher == "SlurmLauncher" and request.runs_elsewhere()
