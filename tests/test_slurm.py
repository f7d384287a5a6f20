"""Sweeps on a real SLURM: the one that SLURM_CONF names, whose partition `urgent` pre-empts the default one."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.command_line import process as command
from tests.command_line import start
from tests.test_train import metrics_of

pytestmark = pytest.mark.slow

# Some 30 seconds of training in one stage, with a checkpoint every half second; one thread, for equal bits.
LONG = ["experiment=baseline", "dataset=uniform_noise", "dataset.shape=[100]", "dataset.train_size=2000"]
LONG += ["dataset.test_size=100", "model=mlp_toy", "training=adam", "training.epochs=1200", "checkpoint=0.5"]
SMALL = [*LONG, "training.epochs=20"]
ONE = ["-m", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
ONE += ["hydra.sweep.dir=sweep", "hydra.sweeper.params=null"]
THREADS = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    if shutil.which("sbatch") is None or not os.environ.get("SLURM_CONF"):
        pytest.skip("no SLURM here: sbatch is not on the PATH, or SLURM_CONF is not set")
    yield
    subprocess.run(["scancel", "--me"], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the long run finds where nothing disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = command(*LONG, "hydra.run.dir=run", cwd=folder, **THREADS)
    assert done.returncode == 0, done.stderr
    return metrics_of(folder / "run")


def status(folder):
    try:
        return json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def until_step(folder, step, seconds=120):
    """Wait until the run in `folder` has come to `step`; gives its state."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (facts := status(folder)).get("step") and facts["step"] >= step:
            return facts
        time.sleep(0.1)
    raise AssertionError(f"{folder} has not come to step {step}: {status(folder)}")


def job_of(folder):
    """SLURM's number of the only job, or array of jobs, of the sweep in `folder`."""
    names = {path.name.partition("_")[0] for path in (folder / ".submitit").iterdir()}
    (job,) = {name for name in names if name.isdigit()}
    return job


def resumed(folder):
    return [int(step) for step in re.findall(r"resuming from step (\d+) of", (folder / "train.log").read_text())]


def check(process, folder, expected, seen):
    """It ended well, with the right numbers, having gone on from where it was, within a checkpoint's interval."""
    said, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, said + complaint
    assert metrics_of(folder / "0") == expected
    check_resumed(folder / "0", seen)


def check_resumed(run, seen):
    (step,) = resumed(run)
    rate = seen["step"] / (seen["now"] - seen["began"])  # steps a second, the start of the process included
    assert step >= seen["step"] - 3 * rate, (step, seen)


def test_six_jobs(tmp_path):
    done = command(*ONE, *SMALL, "seed=0,1,2,3,4,5", cwd=tmp_path, **THREADS)
    assert done.returncode == 0, done.stderr
    assert "6 done" in done.stdout
    here = command("-m", *SMALL, "seed=0,5", "store=here", "hydra.sweep.dir=here", cwd=tmp_path, **THREADS)
    assert here.returncode == 0, here.stderr
    assert metrics_of(tmp_path / "sweep/0") == metrics_of(tmp_path / "here/0")
    assert metrics_of(tmp_path / "sweep/5") == metrics_of(tmp_path / "here/1")


def test_a_failing_job_and_one_that_is_killed_do_not_stop_the_others(tmp_path):
    sweep = start(*ONE, *LONG, "training.epochs=400", "training.lr=1e-3,-1,2e-3,3e-3", cwd=tmp_path, **THREADS)
    until_step(tmp_path / "sweep/0", 1)
    os.kill(status(tmp_path / "sweep/0")["process"], signal.SIGKILL)
    said, complaint = sweep.communicate(timeout=600)
    assert sweep.returncode == 1, said + complaint
    assert "2 done" in said and "1 failed" in said and "1 cut short" in said
    assert "training.lr=-1: input should be greater than 0" in said
    assert complaint.endswith("rerun the command to resume it\n")


def test_a_job_that_overruns_its_time_limit_goes_on(undisturbed, tmp_path):
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45"]
    sweep = start(*ONE, *LONG, *limit, cwd=tmp_path, **THREADS)
    seen = until_step(tmp_path / "sweep/0", 100)
    while not resumed(tmp_path / "sweep/0") and sweep.poll() is None:
        seen = status(tmp_path / "sweep/0") or seen
        time.sleep(0.1)
    steps = resumed(tmp_path / "sweep/0")
    said, complaint = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, said + complaint
    assert metrics_of(tmp_path / "sweep/0") == undisturbed
    assert steps and resumed(tmp_path / "sweep/0") == sorted(resumed(tmp_path / "sweep/0"))


def test_a_job_that_is_requeued_goes_on(undisturbed, tmp_path):
    sweep = start(*ONE, *LONG, cwd=tmp_path, **THREADS)
    seen = until_step(tmp_path / "sweep/0", 5000)
    subprocess.run(["scontrol", "requeue", job_of(tmp_path / "sweep")], check=True)
    check(sweep, tmp_path / "sweep", undisturbed, seen)


def test_a_job_that_a_higher_partition_preempts_goes_on(undisturbed, tmp_path):
    sweep = start(*ONE, *LONG, "hydra.launcher.cpus_per_task=2", cwd=tmp_path, **THREADS)
    seen = until_step(tmp_path / "sweep/0", 5000)
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--mem=100", "--output=/dev/null", "--wrap=sleep 3"]
    subprocess.run(urgent, check=True, capture_output=True)
    check(sweep, tmp_path / "sweep", undisturbed, seen)


def test_a_cancelled_sweep_goes_on_with_the_same_command(undisturbed, tmp_path):
    first = start(*ONE, *LONG, "seed=0,1", cwd=tmp_path, **THREADS)
    seen = [until_step(tmp_path / "sweep" / job, 5000) for job in "01"]
    subprocess.run(["scancel", job_of(tmp_path / "sweep")], check=True)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode in (1, 130)  # whichever it noticed first
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True).stdout.strip():
        time.sleep(0.5)
    again = start(*ONE, *LONG, "seed=0,1", cwd=tmp_path, **THREADS)
    check(again, tmp_path / "sweep", undisturbed, seen[0])
    check_resumed(tmp_path / "sweep/1", seen[1])


def test_where_there_is_no_slurm_one_line_says_so(tmp_path):
    done = command(*ONE, *SMALL, cwd=tmp_path, PATH="/usr/bin/nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("rebuttal: hydra/launcher=slurm: sbatch and srun are not on this machine's PATH; ")
    assert len(done.stderr.splitlines()) == 1


# Small jobs, eight in a task; of those that train for long, one is killed and one is in a task that is requeued.
PACKED = ["-m", "hydra/launcher=slurm", "hydra.launcher.jobs_per_task=8", "hydra.launcher.cpus_per_task=2"]
PACKED += ["hydra.launcher.mem_gb=2", "hydra.sweep.dir=sweep", "hydra.sweeper.params=null", "experiment=baseline"]
PACKED += ["dataset=uniform_noise", "dataset.shape=[8]", "model=mlp_toy", "debug=tiny", "training.optimizer=sgd"]
FAILING, KILLED, REQUEUED = 9, 16, 56  # the numbers of such jobs; the last is the first of the last task
CASES = ",".join(f"case{number:02}" for number in range(64))
SEVERAL_MINUTES = 1800


def write_cases(folder):
    """64 options of a group `case`."""
    folder.mkdir(parents=True)
    special = {FAILING: "training: {lr: 1.0e+30, epochs: 50}"}
    # Long enough to be seen at work: where they are is written every 10 seconds.
    special |= {KILLED: "training: {epochs: 10000, stop_accuracy: null}"}
    special |= {REQUEUED: "training: {epochs: 20000, stop_accuracy: null}"}
    for number, name in enumerate(CASES.split(",")):
        lines = ["# @package _global_", f"seed: {number}", special.get(number, "")]
        (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def result_times(folder, jobs):
    return {job: (folder / str(job) / "metrics.json").stat().st_mtime_ns for job in jobs}


def test_64_jobs_in_8_tasks_one_killed_one_failing_and_one_task_requeued(tmp_path):
    write_cases(tmp_path / "conf/case")
    asked = [f"--config-dir={tmp_path}/conf", *PACKED, f"+case={CASES}", "checkpoint=0.5"]
    sweep, folder = start(*asked, cwd=tmp_path, **THREADS), tmp_path / "sweep"
    while not status(folder / str(KILLED)).get("step"):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    os.kill(status(folder / str(KILLED))["process"], signal.SIGKILL)
    seen = until_step(folder / str(REQUEUED), 100, SEVERAL_MINUTES)
    while not (finished := [n for n in range(57, 64) if status(folder / str(n)).get("state") == "done"]):
        assert sweep.poll() is None and status(folder / str(REQUEUED))["state"] == "running"
        time.sleep(0.1)
    before = result_times(folder, finished)
    subprocess.run(["scontrol", "requeue", f"{job_of(folder)}_7"], check=True)
    said, complaint = sweep.communicate(timeout=SEVERAL_MINUTES)
    assert sweep.returncode == 1 and complaint.endswith("rerun the command to resume it\n"), said + complaint
    (counts,) = re.findall(r"^sweep: (.*)$", said, re.M)
    ended = {state: int(count) for count, _, state in (part.partition(" ") for part in counts.split(", "))}
    assert ended.pop("cut short") == ended.pop("failed") == 1
    # A job of the requeued task that was stopped when its results were stored takes them from there.
    assert set(ended) <= {"done", "from store"} and sum(ended.values()) == 62 and ended.get("from store", 0) < 8
    states = {number: status(folder / str(number))["state"] for number in range(64)}
    assert states.pop(FAILING) == "failed" and states.pop(KILLED) == "running"  # its process had no time to say more
    assert set(states.values()) == {"done"}
    assert result_times(folder, finished) == before  # the requeued task left them
    check_resumed(folder / str(REQUEUED), seen)
    tasks = {path.name.split("_")[1] for path in (folder / ".submitit").glob("[0-9]*_[0-9]*") if path.is_dir()}
    assert tasks == {str(number) for number in range(8)}

    done = result_times(folder, states)
    again = start(*asked, cwd=tmp_path, **THREADS)
    said, complaint = again.communicate(timeout=SEVERAL_MINUTES)
    (counts,) = re.findall(r"^sweep: (.*)$", said, re.M)
    assert again.returncode == 1 and sorted(counts.split(", ")) == ["1 done", "1 failed", "62 from store"]
    assert result_times(folder, states) == done and status(folder / str(KILLED))["state"] == "done"
