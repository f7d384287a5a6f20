import json
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock

from rebuttal import status
from rebuttal.launch.sweep import Job, Sweep
from rebuttal.launch.table import job_table, time_left
from rebuttal.progress import console
from rebuttal.progress.status_file import StatusFile, read_status

SHARED = ["packages=[mine]", "dataset.shape=[8]", "+note=':x: [bold]'"]


@pytest.fixture
def shown(monkeypatch, capsys):
    """What `python -m rebuttal.status …` prints, without folding."""
    monkeypatch.setattr(console.wide_console, "_width", 200)

    def ask(*arguments):
        monkeypatch.setattr("sys.argv", ["rebuttal-status", *map(str, arguments)])
        code = 0
        try:
            status.main()
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return ask


def sweep_of(folder, states):
    """A sweep over seeds whose jobs have the given states; None: not begun."""
    sweep = Sweep(folder)
    sweep.begin([[*SHARED, f"seed={seed}"] for seed in range(len(states))])
    for number, state in enumerate(states):
        if state is not None:
            run = StatusFile(folder / str(number))
            with run.alive([*SHARED, f"seed={number}"], number, sweep.id()):
                sweep.register(number, folder / str(number), [*SHARED, f"seed={number}"])
                run.ended(state, computed=1)
    return sweep


def test_what_all_jobs_share_is_said_once_and_as_it_was_typed(tmp_path, shown):
    sweep_of(tmp_path / "out[1]", ["done", "failed"])
    code, printed, _ = shown(tmp_path)
    *title, _, _, first, second, line = printed.splitlines()
    assert (
        code == 0 and " ".join(" ".join(title).split()) == "Jobs: packages=[mine] dataset.shape=[8] +note=':x: [bold]'"
    )
    assert [cell.strip() for cell in first.split("│")] == ["0", "seed=0", "done", "1 results computed in 0 s"]
    assert [cell.strip() for cell in second.split("│")][:3] == ["1", "seed=1", "failed"]
    assert line == f"{tmp_path}/out[1]: 1 done, 1 failed"


def test_a_sweep_that_is_over_has_no_job_waiting_and_one_that_runs_says_how_long_it_takes(tmp_path, shown, monkeypatch):
    sweep = sweep_of(tmp_path, ["done", None, None])
    assert shown(tmp_path)[1].splitlines()[-1] == f"{tmp_path}: 1 done, 2 not begun"
    monkeypatch.setattr(status.time, "time", lambda: sweep.record().began + 30)
    with sweep.running():
        assert shown(tmp_path)[1].splitlines()[-1] == f"{tmp_path}: 1 done, 2 waiting; about 60 s left"


def test_progress_has_the_loss_and_the_time_left(tmp_path, shown, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("rebuttal.progress.status_file.time.time", lambda: clock[0])
    monkeypatch.setattr("rebuttal.progress.status_file.SECONDS_BETWEEN_UPDATES", -1)
    run = StatusFile(tmp_path / "run")
    with run.alive(["seed=3"]):
        run.stage("fit", 1, 2)
        run.epoch({"loss": 0.12345, "step": 100})
        run.step(100, 400)  # resumed there
        assert read_status(tmp_path / "run").seconds_left is None
        clock[0] += 10
        run.step(200, 400)
        assert read_status(tmp_path / "run").seconds_left == pytest.approx(20)
        _, printed, _ = shown(tmp_path)
        facts = "fit (1 of 2), step 200 of at most 400, loss 0.123, at most 20 s left of this training, for 10 s"
        assert facts in printed and f"{tmp_path}/run: running" in printed
        run.step(1, 50)  # the next training of the stage has a pace of its own
        assert read_status(tmp_path / "run").seconds_left is None
        run.epoch({"loss": float("nan")})
        run.stage("mimic", 2, 2)
        assert read_status(tmp_path / "run").loss is None
        run.ended("done", computed=2)
    assert "2 results computed in 10 s" in shown(tmp_path / "run")[1]


def test_single_runs_and_sweeps_are_found_by_what_began_last(tmp_path, shown, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep_of(tmp_path / "multirun/toy/1", ["done"])
    assert shown()[1].splitlines()[-1] == "multirun/toy/1: 1 done"
    with (run := StatusFile(tmp_path / "outputs/runs/toy/2")).alive(["seed=7"]):
        run.ended("failed", why="out of [memory]")
    assert "seed=7" in (printed := shown()[1]) and "out of [memory]" in printed
    assert printed.splitlines()[-1] == "outputs/runs/toy/2: failed"
    assert shown("multirun/toy/1/0")[1].splitlines()[-1] == "multirun/toy/1/0: done"  # one job of a sweep


def ended(folder, began, *overrides):
    """A single run that began at that time and is done."""
    with (run := StatusFile(folder)).alive(list(overrides)):
        run.ended("done", computed=1)
    said = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(said | {"began": began}))


def lines_of(printed, root):
    return [line.removeprefix(f"{root}/") for line in printed.splitlines() if line.startswith(str(root))]


@pytest.mark.parametrize("flags", [[], ["--watch"]])
def test_each_folder_that_is_named_is_shown_in_the_order_of_the_command(flags, tmp_path, shown):
    ended(tmp_path / "runs/b", 2000, "seed=1")
    ended(tmp_path / "runs/a", 1000, "seed=0")
    sweep_of(tmp_path / "sweep", ["done", "failed"])
    named = [tmp_path / name for name in ("runs/a", "sweep", "runs/b", "runs/a")]
    code, printed, complaint = shown(*flags, *named)
    assert (code, complaint) == (0, "")
    assert lines_of(printed, tmp_path) == ["runs/a: done", "sweep: 1 done, 1 failed", "runs/b: done"]
    assert [printed.count(f"seed={seed}") for seed in (0, 1)] == [2, 2]
    code, printed, complaint = shown(*flags, tmp_path / "runs/a", tmp_path / "nix", tmp_path / "runs/b")
    assert (
        code == 2 and complaint.startswith(f"rebuttal: no sweep below {tmp_path}/nix; ") and complaint.count("\n") == 1
    )
    assert lines_of(printed, tmp_path) == ["runs/a: done", "runs/b: done"]


def test_of_a_folder_of_several_runs_what_began_last_is_shown_even_beside_a_job_that_is_named(tmp_path, shown):
    ended(tmp_path / "runs/a", 2000)
    ended(tmp_path / "runs/b", 1000)
    sweep_of(tmp_path / "sweep", ["done", "done"])
    assert lines_of(shown(tmp_path / "runs")[1], tmp_path) == ["runs/a: done"]
    assert lines_of(shown(tmp_path / "sweep/1", tmp_path / "runs")[1], tmp_path) == ["sweep/1: done", "runs/a: done"]
    assert status.latest([tmp_path / "runs/b", tmp_path / "runs/a"]) == tmp_path / "runs/a"
    code, printed, complaint = shown(tmp_path / "nix", tmp_path / "nought")
    assert (code, printed) == (2, "") and complaint.startswith(
        f"rebuttal: no sweep below {tmp_path}/nix, {tmp_path}/nought"
    )


@pytest.mark.parametrize("put", [shutil.move, shutil.copytree])
def test_a_sweep_that_was_moved_or_copied_shows_its_own_jobs(put, tmp_path, shown):
    sweep_of(tmp_path / "sweep", ["done", "failed", None])
    put(tmp_path / "sweep", tmp_path / "kept")
    assert lines_of(shown(tmp_path / "kept")[1], tmp_path) == ["kept: 1 done, 1 failed, 1 not begun"]
    sweep_of(tmp_path / "sweep", ["failed", "failed", "failed"])
    assert lines_of(shown(tmp_path / "kept")[1], tmp_path) == ["kept: 1 done, 1 failed, 1 not begun"]


def test_a_job_s_folder_that_another_sweep_has_taken_does_not_speak_for_it(tmp_path, shown):
    for name, state in (("first", "done"), ("second", "failed")):
        sweep = Sweep(tmp_path / name)
        sweep.begin([["seed=0"]])
        with (run := StatusFile(tmp_path / "elsewhere")).alive(["seed=0"], 0, sweep.id()):
            sweep.register(0, tmp_path / "elsewhere", ["seed=0"])
            run.ended(state, computed=1)
    assert lines_of(shown(tmp_path / "second")[1], tmp_path) == ["second: 1 failed"]
    printed = shown(tmp_path / "first")[1]
    assert lines_of(printed, tmp_path) == ["first: 1 unknown"] and "elsewhere: holds another run; rerun" in printed


def test_sweeps_and_runs_behind_links_are_found(tmp_path, shown):
    ended(tmp_path / "elsewhere/run", 1000, "seed=1")
    for folder in ("runs", "sweeps"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "loop").symlink_to(tmp_path / folder)
    (tmp_path / "runs/linked").symlink_to(tmp_path / "elsewhere/run")
    assert lines_of(shown(tmp_path / "runs")[1], tmp_path) == ["runs/linked: done"]
    sweep_of(tmp_path / "elsewhere/sweep", ["done", "failed"])
    (tmp_path / "sweeps/linked").symlink_to(tmp_path / "elsewhere/sweep")
    assert lines_of(shown(tmp_path / "sweeps")[1], tmp_path) == ["sweeps/linked: 1 done, 1 failed"]


@pytest.mark.parametrize("content", ["{}", "[]", "{", "null", '{"state": 3}', "\xff\xfe"])
def test_a_foreign_or_damaged_file_is_named_once_and_left_out(content, tmp_path, shown):
    sweep_of(tmp_path / "sweep", ["done"])
    for name in ("status.json", "sweep.json"):
        (tmp_path / "other" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_bytes(content.encode("latin-1"))
    code, printed, complaint = shown(tmp_path)
    assert code == 0 and printed.splitlines()[-1] == f"{tmp_path}/sweep: 1 done"
    assert [f"{name}.json: " in line for name, line in zip(("sweep", "status"), complaint.splitlines())] == [True, True]
    code, printed, complaint = shown(tmp_path / "other")
    assert code == 2 and "Traceback" not in complaint


def test_nothing_that_only_computing_needs_is_imported():
    code = "import sys; from rebuttal import status; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "rebuttal.status" in done.stdout.split(), done.stderr
    assert not {*done.stdout.split()} & {"torch", "numpy", "pandas"}


def test_where_there_is_nothing_one_line_says_so(tmp_path, shown):
    code, printed, complaint = shown(tmp_path / "nowhere")
    assert (code, printed) == (2, "") and complaint.startswith(
        f"rebuttal: no sweep below {tmp_path}/nowhere; allowed: "
    )


def test_watch_prints_each_change_until_all_has_ended(tmp_path, shown, monkeypatch):
    sweep = sweep_of(tmp_path, ["done", None])
    looks = []

    def sleep(seconds):  # what happens between two looks
        looks.append(seconds)
        if len(looks) == 3:
            with (run := StatusFile(tmp_path / "1")).alive([*SHARED, "seed=1"], 1, sweep.id()):
                sweep.register(1, tmp_path / "1", [*SHARED, "seed=1"])
                run.ended("failed", why="because")
        if len(looks) == 5:
            lock.release()

    monkeypatch.setattr(status.time, "sleep", sleep)
    monkeypatch.setattr(status.time, "time", lambda: sweep.record().began)
    lock = FileLock(tmp_path / ".sweep.lock")
    lock.acquire()
    code, printed, _ = shown("--watch", tmp_path)
    ends = [line.removeprefix(f"{tmp_path}: ") for line in printed.splitlines() if line.startswith(str(tmp_path))]
    assert code == 0 and len(looks) == 5
    assert ends == ["1 done, 1 waiting; about 0 s left", "1 done, 1 failed"]


def test_of_many_jobs_those_that_did_not_end_well_are_listed():
    jobs = [Job(n, ("a=1", f"seed={n}"), "failed" if n == 70 else "done", "why") for n in range(80)]
    table = job_table(jobs)
    assert table.title == "Jobs that did not end well: a=1" and table.row_count == 1
    assert list(table.columns[1].cells) == ["seed=70"]


@pytest.mark.parametrize(
    ("states", "left"),
    [(["done", "running"], "; about 50 s left"), (["running"], ""), (["done"], ""), ([], "")],
)
def test_the_time_left_is_that_of_the_jobs_at_the_rate_so_far(states, left):
    assert time_left([Job(n, (), state) for n, state in enumerate(states)], 50) == left


def test_what_a_status_file_says_is_read_back(tmp_path):
    with (run := StatusFile(tmp_path)).alive(["seed=1"], 4, "id"):
        run.ended("done", computed=2)
    found = read_status(tmp_path)
    assert (found.job, found.sweep, found.overrides, found.state, found.computed) == (4, "id", ("seed=1",), "done", 2)
    assert json.loads((tmp_path / "status.json").read_text())["now"] == found.now
