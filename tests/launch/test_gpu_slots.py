"""Places on GPUs that this machine only pretends to have: CUDA_VISIBLE_DEVICES names them, and nothing is behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rebuttal.launch import gpu_slots
from rebuttal.launch.gpu_slots import gpu_slot, share_of_threads
from tests.command_line import ONE_NETWORK, command, start
from tests.test_train import metrics_of

HOLD = """
import sys, time
from rebuttal.launch.gpu_slots import gpu_slot
with gpu_slot(int(sys.argv[1])) as gpu:
    print("has", gpu, time.time(), flush=True)
    time.sleep(float(sys.argv[2]))
    print("leaves", gpu, time.time(), flush=True)
"""


@pytest.fixture
def machine(tmp_path):
    """The environment of a machine with two GPUs of its own."""
    own = {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    return os.environ | own


def hold(machine, jobs_per_gpu, seconds):
    asked = [sys.executable, "-c", HOLD, str(jobs_per_gpu), str(seconds)]
    return subprocess.Popen(asked, env=machine, stdout=subprocess.PIPE, text=True)


def stay(process):
    """(GPU, from when, until when) of a process that has ended."""
    said, _ = process.communicate(timeout=60)
    (_, gpu, came), (_, _, left) = (line.split() for line in said.splitlines())
    return gpu, float(came), float(left)


def most_at_a_time(stays):
    """By GPU."""
    return {
        gpu: max(sum(c <= came < left for g, c, left in stays if g == gpu) for g, came, _ in stays if g == gpu)
        for gpu in {gpu for gpu, _, _ in stays}
    }


@pytest.mark.parametrize("jobs_per_gpu", [1, 2])
def test_never_more_jobs_on_a_gpu_than_may_share_it_and_never_fewer_than_could(machine, jobs_per_gpu):
    stays = [stay(process) for process in [hold(machine, jobs_per_gpu, 1.0) for _ in range(6)]]
    assert most_at_a_time(stays) == {"0": jobs_per_gpu, "1": jobs_per_gpu}


def test_a_killed_job_leaves_its_place(machine):
    first, second = hold(machine, 1, 60), hold(machine, 1, 60)
    taken = {process.stdout.readline().split()[1]: process for process in (first, second)}
    assert set(taken) == {"0", "1"}
    third = hold(machine, 1, 0)
    time.sleep(1)
    assert third.poll() is None  # it waits
    killed = time.time()
    taken["1"].kill()
    gpu, came, _ = stay(third)
    assert gpu == "1" and killed <= came < killed + 5
    taken["0"].kill()
    for process in (first, second):
        process.communicate()


def test_a_gpu_is_one_place_by_whatever_name_it_is_called(machine, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-aaaa'\necho '1, GPU-bbbb'\n")
    tool.chmod(0o755)
    machine |= {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    unnamed = {key: value for key, value in machine.items() if key != "CUDA_VISIBLE_DEVICES"}
    named = [machine | {"CUDA_VISIBLE_DEVICES": names} for names in ("0,1", "GPU-bbbb, GPU-aaaa")]
    stays = [stay(process) for process in [hold(each, 1, 1.0) for each in (unnamed, *named, unnamed)]]
    assert most_at_a_time(stays) == {"GPU-aaaa": 1, "GPU-bbbb": 1}


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST"])
def test_cuda_numbers_the_gpus_as_nvidia_smi_does_while_a_place_is_held(order, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if order is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), gpu_slot(1) as gpu:
        assert gpu == "3"
        assert os.environ == before | {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        raise ZeroDivisionError
    assert os.environ == before
    with gpu_slot(1) as gpu:  # its place is free again
        assert gpu == "3"


def test_without_a_gpu_the_environment_is_left_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = dict(os.environ)
    with gpu_slot(1) as gpu:
        assert gpu is None and os.environ == before


def test_cores_are_shared_by_the_jobs_that_there_are(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert share_of_threads(-1, 1, in_all=3) == 21 and share_of_threads(-1, 1, in_all=None) == 1
    assert share_of_threads(8, 1, in_all=100) == 8 and share_of_threads(200, 1, in_all=200) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    assert share_of_threads(-1, 1, in_all=100) == 32 and share_of_threads(-1, 4, in_all=100) == 8
    assert share_of_threads(-1, None, in_all=100) == 1  # on the CPU, whatever GPUs there are


@pytest.mark.parametrize(
    ("visible", "found"),
    [("-1", []), ("0,-1,1", ["GPU-a"]), ("1,7,0", ["GPU-b"]), ("GPU-b,0", ["GPU-b", "GPU-a"]), ("MIG-c", ["MIG-c"])],
)
def test_what_is_hidden_or_not_there_is_no_gpu(visible, found, monkeypatch):
    monkeypatch.setattr(gpu_slots, "_uuids", lambda: {"0": "GPU-a", "1": "GPU-b"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_slots.gpus() == found


SWEEP = ["-m", *ONE_NETWORK]
SWEEP += ["hydra.sweeper.params=null", "hydra.sweep.dir=sweep", "hydra/launcher=local"]


@pytest.mark.slow
def test_a_job_that_the_system_kills_does_not_take_the_others_with_it(machine, tmp_path):
    own = machine | {"OMP_NUM_THREADS": "1"}
    longer = ["training.epochs=1000", "seed=0,1,2,3", "hydra.launcher.n_jobs=2"]
    process = start(*SWEEP, *longer, cwd=tmp_path, **own)
    told = tmp_path / "sweep/0/status.json"
    deadline = time.monotonic() + 120
    while not (told.exists() and "stage" in json.loads(told.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    status = json.loads(told.read_text())
    assert status["state"] == "running"
    os.kill(status["process"], signal.SIGKILL)
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "1 cut short, 3 done" in said
    assert complaint == "rebuttal: the sweep is not complete; rerun the command to resume it\n"
    again = command(*SWEEP, *longer, cwd=tmp_path, **own)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_what_is_wrong_with_a_place_is_told_in_the_job_s_folder(machine, tmp_path):
    done = command(*SWEEP, "jobs_per_gpu=1,0", cwd=tmp_path, **machine)
    assert done.returncode == 1
    assert "1 done, 1 failed" in done.stdout
    error = (tmp_path / "sweep/1/error.txt").read_text().splitlines()[0]
    assert error == "jobs_per_gpu=0: input should be greater than 0"


@pytest.mark.slow
def test_sweeps_from_two_terminals_share_the_gpus_and_find_what_one_process_finds(machine, tmp_path):
    sweep = ["-m", *ONE_NETWORK, "hydra.sweeper.params=null", "training.epochs=20"]
    sweep += ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    sweeps = [
        start(*sweep, f"seed={seeds}", f"hydra.sweep.dir={seeds[0]}", cwd=tmp_path, **machine)
        for seeds in ("0,1", "2,3")
    ]
    for process in sweeps:
        said, complaint = process.communicate(timeout=300)
        assert process.returncode == 0, said + complaint
        assert "2 done" in said
    jobs = [tmp_path / first / job for first in "02" for job in "01"]
    told = [json.loads((job / "provenance.json").read_text()) for job in jobs]
    cores = len(os.sched_getaffinity(0))
    assert all(job["gpu"] in ("0", "1") and job["process"]["threads"] == max(1, cores // 2) for job in told)
    status = [json.loads((job / "status.json").read_text()) for job in jobs]
    stays = [(job["gpu"], facts["claimed"], facts["now"]) for job, facts in zip(told, status)]
    assert set(most_at_a_time(stays).values()) == {1}
    alone = [
        *ONE_NETWORK,
        "training.epochs=20",
        "seed=2",
        "store=other",
        "hydra.run.dir=alone",
        f"threads={cores // 2}",
    ]
    assert command(*alone, cwd=tmp_path, CUDA_VISIBLE_DEVICES="").returncode == 0
    assert metrics_of(tmp_path / "alone") == metrics_of(tmp_path / "2" / "0")
