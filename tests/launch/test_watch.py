"""How a sweep ends: the table and the exit status, whatever starts its jobs and however they end."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rebuttal.errors import ConfigError
from rebuttal.launch import watch
from rebuttal.launch.expand import as_typed, read_command
from rebuttal.launch.sweep import Sweep
from tests.command_line import ONE_NETWORK, ROOT, command, process, start
from tests.parameters import some_slow
from tests.test_train import metrics_of

SWEEP = ["-m", *ONE_NETWORK, "hydra.sweeper.params=null", "hydra.sweep.dir=sweep"]
FAILING = ["training.lr=1e30", "training.optimizer=sgd", "training.epochs=50"]  # found only by training
INCOMPLETE = "rebuttal: the sweep is not complete; rerun the command to resume it\n"
MINE = """
import os, signal
from itertools import count
from pathlib import Path
from typing import Literal
from torch import nn
from rebuttal.config import checked

steps = count()

def spoil_status(gradient):
    if next(steps) == 1:  # the first step of the training, after that of the rehearsal
        Path("sweep/2/status.json").unlink()
        Path("sweep/2/status.json").mkdir()

@checked
class Odd:
    what: Literal["go", "die", "stay", "spoil", "fail"]

    def network(self, shape, classes):
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "fail":
            raise ValueError("as asked")
        network = nn.Sequential(nn.Flatten(), nn.Linear(8, classes))
        if self.what == "spoil":
            network[1].weight.register_hook(spoil_status)
        return network
"""
ODD = ["packages=[mine]", "model._target_=mine.Odd", "~model.hidden", "~model.dropout"]


def table(printed, folder="sweep"):
    """The state of each job in the table at the end, and the counts below it."""
    states = dict(re.findall(r"^ *(\d+) +│[^│]*│ ([a-z ]+?) +│", printed, re.M))
    (counts,) = re.findall(rf"^{folder}: (.*)$", printed, re.M)
    return {int(job): state for job, state in states.items()}, counts


def state_of(folder):
    return json.loads((folder / "status.json").read_text())


def status(*arguments, cwd):
    asked = [sys.executable, "-m", "rebuttal.status", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(asked, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


OTHERS = ("local", "joblib", "submitit_local", "stacked")
LAUNCHERS = some_slow(["basic", *OTHERS], *OTHERS)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_all_done(launcher, tmp_path):
    began = time.monotonic()
    done = command(*SWEEP, "seed=0,1", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    states, counts = table(done.stdout)
    assert states == {0: "done", 1: "done"} and counts == "2 done"
    assert time.monotonic() - began < 110  # submitit's local jobs are not asked of SLURM, two minutes long
    record = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert [job[-1] for job in record["jobs"]] == ["seed=0", "seed=1"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_failed_one_that_cannot_be_watched_and_one_done(launcher, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    sweep = [*SWEEP, *ODD, "+model.what=go,fail,spoil", f"hydra/launcher={launcher}"]
    done = process(*sweep, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1 and done.stderr.endswith(INCOMPLETE)
    states, counts = table(done.stdout)
    assert states == {0: "done", 1: "failed", 2: "unknown"} and counts == "1 done, 1 failed, 1 unknown"
    assert "/2/status.json:cannotberead(Isadirectory)" in re.sub(r"[\s│]", "", done.stdout)  # it is folded
    assert metrics_of(tmp_path / "sweep/2")  # the result itself is not lost


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "states"), [
    ("local", {0: "done", 1: "cut short", 2: "done"}),
    ("submitit_local", {0: "done", 1: "cut short", 2: "done"}),
    ("joblib", None),  # which ends all workers with the first one that dies
    ("basic", {0: "done", 1: "cut short", 2: "not begun"}),  # the command itself dies
])  # fmt: skip
def test_one_killed(launcher, states, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    sweep = [*SWEEP, *ODD, "+model.what=go,die,stay", f"hydra/launcher={launcher}"]
    done = process(*sweep, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    printed = done.stdout
    if launcher == "basic":
        assert done.returncode == -signal.SIGKILL
        printed = status("sweep", cwd=tmp_path).stdout
    else:
        assert done.returncode == 1 and done.stderr.endswith(INCOMPLETE)
    found, _ = table(printed)
    assert found == states if states else found[1] == "cut short" and set(found) == {0, 1, 2}
    assert "waiting" not in printed and "running" not in printed


BROKEN = """
import sys
from rebuttal import train
from rebuttal.launch import watch

def fail(*arguments):
    raise ZeroDivisionError("in the watching")

if __name__ == "__main__":
    name = sys.argv.pop(1)
    setattr(watch, name, fail)
    train.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("unreadable", "launcher"), [
    ("_print_new", "local"), ("job_table", "joblib"), ("_print_new", "submitit_local"),
])  # fmt: skip
def test_so_it_is_under_every_launcher(unreadable, launcher, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    asked = [sys.executable, "broken.py", unreadable, *SWEEP, "seed=0,1", f"hydra/launcher={launcher}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr == f"rebuttal: the sweep could not be watched: ZeroDivisionError: in the watching\n{INCOMPLETE}"
    assert all(metrics_of(tmp_path / "sweep" / job) for job in "01")
    if unreadable == "_print_new":
        assert table(done.stdout) == ({0: "done", 1: "done"}, "2 done")


@pytest.mark.parametrize("unreadable", ["_print_new", "job_table"])
def test_an_error_of_the_watching_itself_is_named_and_no_result_is_lost(unreadable, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("in the watching")

    monkeypatch.setattr(watch, unreadable, fail)
    done = command(*SWEEP, "seed=0,1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"rebuttal: the sweep could not be watched: ZeroDivisionError: in the watching\n{INCOMPLETE}"
    assert all(metrics_of(tmp_path / "sweep" / job) for job in "01")


def test_a_status_file_or_list_of_jobs_that_is_damaged_meanwhile(tmp_path, monkeypatch):
    def damage(sweep, launcher):
        (sweep.folder / "0/status.json").write_text("{")
        (sweep.folder / "sweep.json").write_text("[")

    monkeypatch.setattr(watch, "_wait_for_jobs", damage)
    done = command(*SWEEP, "seed=0,1", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == INCOMPLETE
    assert table(done.stdout)[0] == {0: "unknown", 1: "done"}
    seen = status("sweep", cwd=tmp_path)
    assert seen.returncode == 2 and "sweep.json: cannot be read as the list of a sweep's jobs" in seen.stderr


@pytest.mark.parametrize("flags", some_slow([["--multi"], ["--multirun"], ["-m"]], ["--multirun"]))
@pytest.mark.parametrize("place", some_slow([0, 3, 9], 3, 9))
def test_flags_anywhere_and_shortened_as_hydra_takes_them(flags, place, tmp_path):
    asked = [*ONE_NETWORK, "hydra.sweeper.params=null", "hydra.sweep.dir=sweep", "seed=0,1", *FAILING]
    done = command(*asked[:place], *flags, *asked[place:], cwd=tmp_path)
    assert done.returncode == 1 and table(done.stdout) == ({0: "failed", 1: "failed"}, "2 failed")


@pytest.mark.parametrize(("asked", "jobs"), [
    (["model=glob(mlp_t*)"], 1),
    pytest.param(["seed=choice(0,1)"], 2, marks=pytest.mark.slow),
    pytest.param(["seed=sort(2,0,1)"], 3, marks=pytest.mark.slow),
    (["seed=range(1,3)", "hydra.sweeper.max_batch_size=1"], 2),
    (["hydra.sweeper.params.seed='0,1'"], 4),  # besides the experiment's own sweep
    (["seed=0,1", "hydra.sweep.subdir=../elsewhere/${hydra:job.num}"], 2),
    pytest.param(["seed=0,1", "hydra.sweep.subdir=${seed}"], 2, marks=pytest.mark.slow),
    pytest.param(["seed=0,1", "hydra.output_subdir=null"], 2, marks=pytest.mark.slow),
    (["hydra.mode=MULTIRUN", "seed=1"], 1),
])  # fmt: skip
def test_the_sweep_s_grammar_and_hydra_s_settings(asked, jobs, tmp_path):
    left_out = {"hydra.mode": "-m", "hydra.sweeper.params.seed": "hydra.sweeper.params=null"}
    sweep = [word for word in SWEEP if word != left_out.get(asked[0].partition("=")[0])]
    done = command(*sweep, *FAILING, *asked, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == INCOMPLETE
    assert table(done.stdout) == (dict.fromkeys(range(jobs), "failed"), f"{jobs} failed")
    assert len(json.loads((tmp_path / "sweep/sweep.json").read_text())["jobs"]) == jobs


@pytest.mark.slow
def test_shuffled_values_are_in_the_order_in_which_hydra_takes_them(tmp_path):
    sweep = [*SWEEP, *FAILING, "seed=shuffle(range(8))"]
    done = command(*sweep, cwd=tmp_path)
    assert done.returncode == 1
    expected = json.loads((tmp_path / "sweep/sweep.json").read_text())["jobs"]
    ran = [state_of(tmp_path / "sweep" / str(job))["overrides"] for job in range(8)]
    assert [sorted(job) for job in expected] == [sorted(job) for job in ran]


def test_a_key_that_is_removed_is_shown_as_it_was_typed(tmp_path):
    sweep = [*SWEEP, "seed=0,1", "~training/augmentation"]
    for _ in range(2):  # the second is answered from the store
        done = command(*sweep, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        ours = [line for line in done.stdout.splitlines() if "[HYDRA]" not in line]
        assert any("~training/augmentation" in line for line in ours) and not any("=null" in line for line in ours)
    jobs = json.loads((tmp_path / "sweep/sweep.json").read_text())["jobs"]
    assert all("~training/augmentation" in job for job in jobs)
    assert all("~training/augmentation" in state_of(tmp_path / "sweep" / job)["overrides"] for job in "01")
    assert "- ~training/augmentation\n" in (tmp_path / "sweep/1/.hydra/overrides.yaml").read_text()


def test_only_what_hydra_adds_to_a_removed_key_is_left_out():
    typed = ["~model.hidden=null", "~model.hidden=3", "training.stop_loss=null", "~model.hidden"]
    assert as_typed(OmegaConf.create(typed)) == ["~model.hidden", "~model.hidden=3", *typed[2:]]


@pytest.mark.parametrize(("asked", "line"), [
    (["hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: allowed: a whole number from 1, or -1: as many as"),
    (["hydra.launcher.n_jobs=-2"], "hydra.launcher.n_jobs=-2: allowed: a whole number from 1, or -1: as many as"),
    (["hydra.launcher.n_jobs=two"], "hydra.launcher.n_jobs=two: allowed: a whole number from 1, or -1: as many as"),
    (["hydra.launcher.n_jobs=1.5"], "hydra.launcher.n_jobs=1.5: allowed: a whole number from 1, or -1: as many as"),
    (["hydra.launcher.n_jobs=null"], "hydra.launcher.n_jobs=null: allowed: a whole number from 1, or -1: as many"),
    pytest.param(
        ["hydra.launcher.batch_size=0"], "hydra.launcher: ValueError: batch_size must be 'auto' or a positive integer",
        marks=pytest.mark.slow,
    ),
    (["hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size=0: allowed: a whole number from 1, or null"),
    (["training.lr=interval(0,1)"], "training.lr=interval(0,1): hydra/sweeper=basic sweeps lists, ranges and globs"),
    (["model=glob(nix*)"], "model=glob(nix*): there is nothing to sweep; allowed: at least one value"),
    (["seed=choice(0,1),2"], "seed=choice(0,1),2: choice(…), range(…) and the like stand alone, never among or"),
    (["seed=0,range(1,3)"], "seed=0,range(1,3): choice(…), range(…) and the like stand alone, never among or within"),
    (["model.hidden=[choice(8,9)]"], "model.hidden=[choice(8,9)]: choice(…), range(…) and the like stand alone"),
    (["seed=range(3,3)"], "seed=range(3,3): there is nothing to sweep; allowed: at least one value"),
    (["hydra.sweep.subdir=same"], "hydra.sweep.subdir=same: jobs 0 and 1 would have one folder; allowed: a folder"),
    (["hydra.sweep.subdir=."], "hydra.sweep.subdir=.: jobs 0 and 1 would have one folder; allowed: a folder"),
    (["hydra.sweep.subdir=${model.dropout}"], "hydra.sweep.subdir=${model.dropout}: jobs 0 and 1 would have one"),
    (["hydra.sweep.subdir=${model.hidden}"], "hydra.sweep.subdir=${model.hidden}: While dereferencing interpolation"),
    (["hydra.sweep.subdir=${nix}"], "hydra.sweep.subdir=${nix}: Interpolation key 'nix' not found; allowed: a folder"),
    (["hydra.sweep.subdir='${hydra:job.name}'"], "hydra.sweep.subdir=${hydra:job.name}: jobs 0 and 1 would have one"),
    (["hydra.sweep.dir=file"], "hydra.sweep.dir=file: {here}/file is in the way: rebuttal did not write it, or"),
    (["hydra.sweep.dir=file/below"], "hydra.sweep.dir=file/below: {here}/file is in the way: rebuttal did not"),
])  # fmt: skip
def test_what_no_job_could_run_with_is_one_line_and_leaves_nothing(asked, line, tmp_path, capfd):
    (tmp_path / "file").write_bytes(b"mine")
    launcher = ["hydra/launcher=local"] if "hydra.launcher" in asked[0] else []
    done = command(*SWEEP, "seed=0,1", *launcher, *asked, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.startswith(f"rebuttal: {line.replace('{here}', str(tmp_path))}")
        and len(done.stderr.splitlines()) == 1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_that_another_job_of_the_sweep_has_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("rebuttal.launch.expand._check_folders", lambda request: None)  # as where jobs are not known
    done = command(*SWEEP, "seed=0,1", "hydra.sweep.subdir=same", cwd=tmp_path)
    assert done.returncode == 1 and table(done.stdout) == ({0: "done", 1: "failed"}, "1 done, 1 failed")
    assert state_of(tmp_path / "sweep/same")["job"] == 0 and metrics_of(tmp_path / "sweep/same")
    error = (tmp_path / "sweep/same.1/error.txt").read_text().splitlines()[0]
    assert error.startswith("hydra.sweep.subdir: job 0 of this sweep has the folder")


CALLBACK = "hydra.callbacks={mine:{_target_:hydra.experimental.callback.Callback}}"


def test_hydra_that_leaves_early_is_not_success(tmp_path, monkeypatch):
    from hydra.experimental.callback import Callback

    def leave(self, **arguments):
        sys.exit(0)

    monkeypatch.setattr(Callback, "on_job_end", leave)
    done = command(*SWEEP, "seed=0,1", f"+{CALLBACK}", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == INCOMPLETE
    assert table(done.stdout) == ({0: "done", 1: "not begun"}, "1 done, 1 not begun")


def test_an_error_after_jobs_have_begun_is_named_below_the_table(tmp_path, monkeypatch):
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    whole = BasicLauncher.launch

    def break_off(self, jobs, initial_job_idx):
        whole(self, jobs[:1], initial_job_idx)
        raise OSError("the cluster is gone")

    monkeypatch.setattr(BasicLauncher, "launch", break_off)
    done = command(*SWEEP, "seed=0,1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"rebuttal: the sweep ended early: OSError: the cluster is gone\n{INCOMPLETE}"
    assert table(done.stdout) == ({0: "done", 1: "not begun"}, "1 done, 1 not begun")


LONG = [*SWEEP, "training.epochs=200000", "training.stop_accuracy=null", "checkpoint=0.2", "seed=0,1,2"]
LOCAL, JOBLIB = (["hydra/launcher=local"], ["hydra/launcher=joblib"])


def until_trained(folder, process):
    """The status of the job in `folder` once it trains."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            if state_of(folder).get("step"):
                return state_of(folder)
        time.sleep(0.1)
    raise AssertionError(process.communicate(timeout=10))


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def parent_of(number):
    return int(Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [LOCAL, JOBLIB])
def test_workers_of_a_command_that_is_killed_save_a_checkpoint_and_stop(launcher, tmp_path):
    running = start(*LONG, *launcher, "hydra.launcher.n_jobs=2", "checkpoint=1000", cwd=tmp_path)
    job = until_trained(tmp_path / "sweep/0", running)["process"]
    worker = parent_of(job) if launcher is LOCAL else job
    assert not list((tmp_path / "outputs/store/fit").glob("*.checkpoint"))
    running.kill()
    running.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while (is_alive(job) or is_alive(worker)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(job) and not is_alive(worker)
    assert list((tmp_path / "outputs/store/fit").glob("*.checkpoint"))
    seen = status("--watch", "sweep", cwd=tmp_path)
    assert seen.returncode == 0
    states, _ = table(seen.stdout)
    assert states[0] == "cut short" and states[1] in ("cut short", "not begun") and states[2] == "not begun"


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "send", "number", "ended"), [
    (JOBLIB, os.kill, signal.SIGINT, 130),
    (LOCAL, os.killpg, signal.SIGINT, 130),  # as a terminal does
    (LOCAL, os.kill, signal.SIGTERM, -signal.SIGTERM),
])  # fmt: skip
def test_jobs_side_by_side_that_are_stopped_save_a_checkpoint_and_no_other_begins(
    launcher, send, number, ended, tmp_path
):
    running = start(*LONG, *launcher, "hydra.launcher.n_jobs=2", "checkpoint=1000", cwd=tmp_path)
    for job in (0, 1):
        until_trained(tmp_path / f"sweep/{job}", running)
    send(running.pid, number)
    printed, complaint = running.communicate(timeout=60)
    assert running.returncode == ended, complaint
    states, _ = table(printed)
    assert states == {0: "cut short", 1: "cut short", 2: "not begun"}
    assert table(status("sweep", cwd=tmp_path).stdout)[0] == states
    assert len(list((tmp_path / "outputs/store/fit").glob("*.checkpoint"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "number", "ended"), [
    ([*LOCAL, "hydra.launcher.n_jobs=1"], signal.SIGINT, 130),
    ([*LOCAL, "hydra.launcher.n_jobs=1"], signal.SIGTERM, -signal.SIGTERM),
    (["hydra/launcher=basic"], signal.SIGTERM, -signal.SIGTERM),
])  # fmt: skip
def test_a_sweep_that_is_stopped_leaves_no_job_waiting(number, ended, launcher, tmp_path):
    running = start(*LONG, *launcher, cwd=tmp_path)
    until_trained(tmp_path / "sweep/0", running)
    running.send_signal(number)
    printed, complaint = running.communicate(timeout=60)
    assert running.returncode == ended, complaint
    expected = {0: "cut short", 1: "not begun", 2: "not begun"}, "1 cut short, 2 not begun"
    assert table(printed) == expected
    assert table(status("sweep", cwd=tmp_path).stdout) == expected


def test_no_worker_stops_while_its_parent_lives():
    asked = (
        "import time\nfrom joblib.externals.loky import ProcessPoolExecutor\n"
        "from rebuttal.launch.stopping import stop_with_parent\n"
        "def work():\n    stop_with_parent()\n    time.sleep(2.5)\n    return 'worked'\n"
        "print(ProcessPoolExecutor(1).submit(work).result())\n"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60)
    assert done.stdout == "worked\n", done.stderr


def test_a_foreign_or_damaged_status_file_below_a_sweep_is_not_taken_for_a_job(tmp_path):
    for name, content in (("a", "{}"), ("b", "[]"), ("c", "{"), ("d", '{"job": 0, "state": 3}'), ("e", "null")):
        (tmp_path / "sweep/0" / name).mkdir(parents=True)
        (tmp_path / "sweep/0" / name / "status.json").write_text(content)
    done = command(*SWEEP, "seed=0,1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert table(done.stdout) == ({0: "done", 1: "done"}, "2 done")


def test_two_commands_in_one_folder_wait_for_each_other(tmp_path, capfd):
    first, second = Sweep(tmp_path / "sweep"), Sweep(tmp_path / "sweep")
    with first.running():
        asked = "from rebuttal.launch.sweep import Sweep\nwith Sweep('sweep').running(): print('has it')"
        waits = subprocess.Popen([sys.executable, "-c", asked], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert waits.stdout.readline().endswith("waiting for another command that runs a sweep there\n")
        assert second.is_running()
    assert waits.communicate(timeout=60)[0] == "has it\n"
    assert not second.is_running()


def test_only_jobs_of_slurm_wait_for_a_command_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("rebuttal.launch.cluster._queued", lambda: {"7"})
    (tmp_path / ".submitit/7_0").mkdir(parents=True)
    for launcher, state in (
        ("SlurmLauncher", "waiting"),
        ("JoblibLauncher", "not begun"),
        ("LocalLauncher", "not begun"),
    ):
        Sweep(tmp_path).begin([["seed=0"]], launcher)
        assert [job.state for job in Sweep(tmp_path).jobs()] == [state]


def test_the_launcher_of_a_command_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_command([*SWEEP, "hydra/launcher=slurm"]).launcher == "SlurmLauncher"
    assert read_command([*SWEEP, "hydra/launcher=submitit_local"]).launcher == "LocalLauncher"
    with pytest.raises(ConfigError, match=r"^hydra.launcher.n_jobs=0: "):
        read_command([*SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"])
