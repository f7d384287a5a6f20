"""Real runs in real processes, killed, starved and crowded."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from rebuttal.store.entries import read_entry
from tests.command_line import process as command
from tests.command_line import start
from tests.test_train import metrics_of, runs

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("REBUTTAL_KILLS", "5"))
# The toy with a training of some seconds, and then a stack of two, long enough to be hit in the middle of either with a
# checkpoint there.
RUN = ["debug=tiny", "training.epochs=300", "dataset.train_size=300", "dataset.student_size=300", "checkpoint=0.1"]
RUN += ["stack=always", "stages.student.target=soft"]  # as the other student learns logits, so that both are one stack
RUN += [f"~stages.{stage}" for stage in ("untrained_teacher", "hash_teacher", "curve", "comparison", "regions")]


def entries(root):
    """What was trained: the recorded facts and the bytes of the weights by fingerprint."""
    found = {}
    for record in sorted((root / "outputs" / "store").glob("*/*/record.json")):
        read_entry(record.parent)
        name = f"{record.parent.parent.name}/{record.parent.name}"
        if record.parent.parent.name != "run":  # which is kept of others, and not trained
            found[name] = json.loads(record.read_text())["record"], (record.parent / "weights.safetensors").read_bytes()
    return found


def await_checkpoint(store):
    """Wait until a training wrote its first checkpoint."""
    deadline = time.monotonic() + 60
    while not list(store.glob("*/*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    done = command(*RUN, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, time.monotonic() - began


def test_a_run_killed_at_a_random_moment_ends_with_the_same_weights_and_metrics(undisturbed, tmp_path):
    whole, seconds = undisturbed
    chance = random.Random(0)
    resumed = 0
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        folder.mkdir()
        process = start(*RUN, "hydra.run.dir=run", cwd=folder)
        in_its_middle = kill % 2 == 0
        if in_its_middle:  # by what is there and not by the clock: how long it takes differs from run to run
            await_checkpoint(folder / "outputs" / "store")
        else:
            time.sleep(chance.uniform(0.2, 0.95) * seconds)
        process.kill()
        process.communicate()
        there = list((folder / "outputs" / "store").glob("*/*.checkpoint"))
        done = command(*RUN, "hydra.run.dir=run", cwd=folder)
        assert done.returncode == 0, done.stderr
        goes_on = "resuming from step" in done.stdout
        assert goes_on if in_its_middle else there or not goes_on
        resumed += goes_on
        assert metrics_of(folder / "run") == metrics_of(whole / "run")
        assert (folder / "run" / "history.csv").read_text() == (whole / "run" / "history.csv").read_text()
        assert entries(folder) == entries(whole)
        left = [path.name for path in (folder / "outputs" / "store").glob("[fm]*/*") if path.suffix != ".lock"]
        assert sorted(left) == sorted(name.split("/")[1] for name in entries(whole))  # nothing half written stays
    print(f"{KILLS} kills, after {resumed} of which a training resumed in its middle")


def test_interrupted_from_the_keyboard_it_says_how_to_go_on(tmp_path):
    process = start(*RUN, "hydra.run.dir=run", cwd=tmp_path)
    await_checkpoint(tmp_path / "outputs" / "store")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "rebuttal: interrupted; rerun the command to resume\n"


def test_eight_processes_with_one_command_train_once_and_agree(undisturbed, tmp_path):
    processes = [start(*RUN, f"hydra.run.dir={n}", cwd=tmp_path, OMP_NUM_THREADS="1") for n in range(8)]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    folders = [tmp_path / str(n) for n in range(8)]
    computed = [json.loads((folder / "provenance.json").read_text())["computed"] for folder in folders]
    made = [name for names in computed for name in names]
    assert sorted(made) == sorted(set(made)) == sorted(entries(tmp_path))  # each by one process
    assert all(metrics_of(folder) == metrics_of(folders[0]) for folder in folders)


def test_damaged_store_entries_never_change_a_result(undisturbed, tmp_path):
    whole, _ = undisturbed
    shutil.copytree(whole / "outputs", tmp_path / "outputs")
    chance = random.Random(1)
    damaged = sorted((tmp_path / "outputs" / "store").glob("*/*/"))
    for entry in damaged:
        file = chance.choice([entry / "record.json", entry / "weights.safetensors"])
        content = bytearray(file.read_bytes())
        at = chance.randrange(len(content))
        content[at] ^= 1 << chance.randrange(8)
        file.write_bytes(content if chance.random() < 0.5 else content[:at])
    done = command(*RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("damaged store entry") == len(damaged) == len(entries(whole)) + 1  # the run as a whole
    assert metrics_of(tmp_path / "run") == metrics_of(whole / "run")
    assert entries(tmp_path) == entries(whole)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_named_and_the_run_goes_on_from_the_checkpoint_before(undisturbed, small_disk, tmp_path):
    whole, _ = undisturbed
    run = [*RUN, f"store={small_disk}/store", "hydra.run.dir=run"]
    process = start(*run, cwd=tmp_path)
    await_checkpoint(small_disk / "store")
    with contextlib.suppress(OSError):  # full, as it should be
        (small_disk / "filler").write_bytes(bytes(16 << 20))
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no checkpoint written" in said and "No space left on device" in said
    assert complaint.startswith("rebuttal: ") and "No space left on device; finished results are kept" in complaint
    assert len(complaint.splitlines()) == 1
    assert "No space left" in (tmp_path / "run" / "error.txt").read_text()
    assert list(small_disk.glob("store/fit/*.checkpoint"))
    (small_disk / "filler").unlink()
    again = command(*run, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming from step" in again.stdout
    assert metrics_of(tmp_path / "run") == metrics_of(whole / "run")


def test_a_store_that_can_only_be_read_serves_what_it_has_and_says_what_it_cannot(undisturbed, small_disk, tmp_path):
    whole, _ = undisturbed
    shutil.copytree(whole / "outputs" / "store", small_disk / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = command(*RUN, f"store={small_disk}/store", "hydra.run.dir=run", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert metrics_of(tmp_path / "run") == metrics_of(whole / "run")
    missing = command(*RUN, "seed=1", f"store={small_disk}/store", cwd=tmp_path)
    assert missing.returncode == 2
    assert missing.stderr == (
        f"rebuttal: store={small_disk}/store: cannot be written (Read-only file system); allowed: a writable folder\n"
    )


def test_a_run_folder_that_cannot_be_written_ends_in_one_line(small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = command("debug=tiny", f"hydra.run.dir={small_disk}/run", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "Read-only file system" in done.stderr
    assert not runs(tmp_path)
