import errno
import json
import os
import shutil
import time

import pytest

from rebuttal.progress import status_file
from rebuttal.progress.status_file import StatusFile, is_running, read_status


def test_a_run_tells_how_it_goes_and_lives_as_long_as_its_block(tmp_path):
    running = StatusFile(tmp_path / "run")
    with running.alive(["seed=1"], job=3, sweep="s"):
        assert is_running(tmp_path / "run")
        running.stage("fit", 1, 2)
        told = json.loads((tmp_path / "run/status.json").read_text())
        assert (told["job"], told["sweep"], told["overrides"], told["stage"]) == (3, "s", ["seed=1"], "fit")
        running.ended("failed", why="because")
    assert not is_running(tmp_path / "run")
    assert json.loads((tmp_path / "run/status.json").read_text())["why"] == "because"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_lock_that_cannot_be_taken_is_held_only_if_a_process_holds_it(number, tmp_path, monkeypatch):
    """Another user's folder, or one that can only be read: its file may be opened for reading alone."""
    really = os.open

    def read_only(path, flags, *mode, **named):
        if str(path).endswith(status_file.LOCK) and flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(number, os.strerror(number))
        return really(path, flags, *mode, **named)

    with StatusFile(tmp_path / "run").alive([]):
        monkeypatch.setattr(os, "open", read_only)
        assert is_running(tmp_path / "run")
    assert (tmp_path / "run" / status_file.LOCK).exists() and not is_running(tmp_path / "run")


def test_progress_that_cannot_be_told_ends_nothing_and_is_said_once(tmp_path, caplog):
    running = StatusFile(tmp_path / "run")
    with running.alive([]):
        shutil.rmtree(tmp_path / "run")
        running.stage("fit", 1, 1)
        running._updated = float("-inf")
        running.step(1, 10)
        running.claimed("0")
    assert caplog.text.count("cannot write the run's status") == 1


def test_progress_is_written_every_ten_seconds_and_a_state_at_once(tmp_path, monkeypatch):
    clock, writes, write = [0.0], [], status_file.write_json
    monkeypatch.setattr(status_file.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        status_file, "write_json", lambda path, content: (writes.append(clock[0]), write(path, content))
    )
    run = StatusFile(tmp_path)
    with run.alive(["seed=1"]):
        assert read_status(tmp_path).state == "running"
        run.stage("fit", 1, 2)
        for step in range(1, 1001):
            clock[0] += 0.1
            run.step(step, 1000)
        assert len(writes) <= 2 + 100 / 10
        run.stage("mimic", 2, 2)
        assert read_status(tmp_path).stage == "fit"
        clock[0] += 10
        run.step(1, 5)
        assert (read_status(tmp_path).stage, read_status(tmp_path).step) == ("mimic", 1)
        before = len(writes)
        run.ended("done", computed=2)
        assert len(writes) == before + 1 and read_status(tmp_path).state == "done"


def test_a_stage_that_reports_nothing_is_known_once_progress_is_due_and_never_after_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(status_file, "SECONDS_BETWEEN_UPDATES", 0.3)
    run = StatusFile(tmp_path)
    with run.alive([]):
        run.stage("fit", 1, 2)
        run.stage("smoothness", 2, 2)
        assert read_status(tmp_path).stage == "fit"
        waited_until = time.monotonic() + 30
        while read_status(tmp_path).stage != "smoothness":
            assert time.monotonic() < waited_until
            time.sleep(0.01)
        run.step(1, 10)
        run.ended("done")
        ended = (tmp_path / "status.json").read_bytes()
        time.sleep(0.5)
        assert (tmp_path / "status.json").read_bytes() == ended
