"""Processes of their own. Jobs in them are in test_packing.py and test_watch.py."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from joblib.externals.loky import ProcessPoolExecutor

from rebuttal.launch.processes import ProcessDied, own_process


def facts():
    import torch

    loaded = "rebuttal.runs.execute" in sys.modules
    return os.getpid(), str(Path.cwd()), os.environ.get("REBUTTAL_TEST"), loaded, torch.cuda.is_initialized()


def test_a_process_is_new_and_in_this_one_s_folder_and_environment_with_what_runs_import(tmp_path, monkeypatch):
    seen = set()
    for value in ("one", "two", None):
        folder = tmp_path / str(value)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if value is None:
            monkeypatch.delenv("REBUTTAL_TEST")
        else:
            monkeypatch.setenv("REBUTTAL_TEST", value)
        with own_process() as process:
            number, place, told, loaded, on_gpu = process.run(facts)
        assert number == process.number and (place, told, loaded, on_gpu) == (str(folder), value, True, False)
        seen.add(number)
    assert len(seen) == 3 and os.getpid() not in seen


def test_one_that_is_stopped_is_told_from_one_that_fails():
    with own_process() as process, pytest.raises(ProcessDied):
        process.terminate()
        process.run(partial(time.sleep, 60))
    with own_process() as process, pytest.raises(ZeroDivisionError):
        process.run(partial(divmod, 1, 0))


def begun():
    with own_process() as process:
        return process.run(os.getpid), process.number


@pytest.mark.slow
def test_a_worker_of_joblib_s_can_begin_one():
    with ProcessPoolExecutor(1) as worker:
        number, told = worker.submit(begun).result()
    assert number == told != os.getpid()


WORK = """
import os, pathlib, time
from rebuttal.launch.processes import own_process
def work():
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
if __name__ == "__main__":
    with own_process() as process:
        process.run(work)
"""


@pytest.mark.slow
def test_it_ends_with_the_process_that_began_it(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    parent = subprocess.Popen([sys.executable, "work.py"], cwd=tmp_path)
    told = tmp_path / "pid"
    while not (told.exists() and told.read_text()):
        assert parent.poll() is None
        time.sleep(0.1)
    child = int(told.read_text())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)  # and nobody waits for it
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(child, 0)
            time.sleep(0.1)
    parent.wait()


SAVING = """
import os, pathlib, signal, sys, time
from rebuttal.launch.processes import own_process
def save(number, frame):
    time.sleep(0.7)
    pathlib.Path("saved").write_text("")
    os._exit(1)
def work():
    signal.signal(signal.SIGTERM, save)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    pathlib.Path("begun").write_text("")
    time.sleep(3)
    pathlib.Path("done").write_text("")
if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with own_process() as process:
        process.run(work)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "left"), [(signal.SIGTERM, "saved"), pytest.param(signal.SIGUSR2, "done", marks=pytest.mark.slow)]
)
def test_a_signal_to_all_processes_of_a_command_does_not_kill_a_job_that_saves(number, left, tmp_path):
    (tmp_path / "work.py").write_text(SAVING)
    parent = subprocess.Popen([sys.executable, "work.py"], cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.1)
    os.killpg(parent.pid, number)
    deadline = time.monotonic() + 20
    while not (tmp_path / left).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (tmp_path / left).exists()
    parent.wait()
