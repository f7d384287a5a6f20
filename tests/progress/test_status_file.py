import json
import shutil

from rebuttal.progress.status_file import StatusFile, is_running


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


def test_progress_that_cannot_be_told_ends_nothing_and_is_said_once(tmp_path, caplog):
    running = StatusFile(tmp_path / "run")
    with running.alive([]):
        shutil.rmtree(tmp_path / "run")
        running.stage("fit", 1, 1)
        running._updated = 0.0
        running.step(1, 10)
        running.claimed("0")
    assert caplog.text.count("cannot write the run's status") == 1
