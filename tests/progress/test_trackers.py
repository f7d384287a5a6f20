"""Each tracker is written by a real run and read back with its own reader."""

import contextlib
import json
import signal
import sqlite3
import struct
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest

from rebuttal.progress.trackers import Forwarder
from tests.command.test_stored_sweep import SWEEP
from tests.command_line import command, start
from tests.test_train import metrics_of

RUN = [override for override in SWEEP if "," not in override and override != "-m"]
RUN = [override for override in RUN if not override.startswith("hydra")] + ["model=linear", "hydra.run.dir=run"]


def run(tracker, cwd, *more):
    done = command(*RUN, f"tracker={tracker}", *more, cwd=cwd)
    assert done.returncode == 0, done.stderr
    history = pd.read_csv(cwd / "run/history.csv")
    numbers = {name: value for name, value in metrics_of(cwd / "run").items() if value is not None}
    return history, numbers


def in_tensorboard(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "run/tensorboard"))
        events.Reload()
        return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_has_the_history_and_the_metrics_also_of_what_came_from_the_store(tmp_path):
    history, numbers = run("tensorboard", tmp_path)
    told = in_tensorboard(tmp_path)
    for name in ("loss", "train_accuracy", "test_accuracy"):
        assert told[f"fit/{name}"] == [(r.step, pytest.approx(getattr(r, name))) for r in history.itertuples()]
    assert {name.removeprefix("metrics/") for name in told if name.startswith("metrics/")} == set(numbers)
    (tmp_path / "run/metrics.json").unlink()
    for file in (tmp_path / "run/tensorboard").iterdir():
        file.unlink()
    run("tensorboard", tmp_path)
    assert in_tensorboard(tmp_path) == told


@pytest.mark.slow
def test_mlflow_has_one_run_for_a_folder_with_settings_history_and_metrics(tmp_path):
    history, numbers = run("mlflow", tmp_path)
    (tmp_path / "run/metrics.json").unlink()
    run("mlflow", tmp_path)  # as a run that was queued again
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        assert base.execute("select status from runs").fetchall() == [("FINISHED",)]
        settings = dict(base.execute("select key, value from params"))
        losses = base.execute(
            "select distinct step, value from metrics where key = 'fit/loss' order by step"
        ).fetchall()
        latest = dict(base.execute("select key, value from latest_metrics"))
    base.close()
    assert settings["training.epochs"] == "2" and settings["name"] == "baseline"
    assert losses == [(r.step, r.loss) for r in history.itertuples()]
    assert {name: latest[name] for name in numbers} == numbers


def test_wandb_has_the_history_and_the_metrics_offline(tmp_path):
    history, numbers = run("wandb", tmp_path)
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    rows, summary = in_wandb(file)
    assert [(row["fit/step"], row["fit/loss"]) for row in rows] == [(r.step, r.loss) for r in history.itertuples()]
    assert {name: summary[name] for name in numbers} == numbers


def trackio_rows(folder):
    """The steps and values in order, and the settings, of the only Trackio run."""
    with sqlite3.connect(folder / "trackio/rebuttal.db") as base:
        found = base.execute("select step, metrics from metrics order by id").fetchall()
        ((settings,),) = base.execute("select config from configs").fetchall()
        names = base.execute("select distinct run_id from metrics").fetchall()
    base.close()
    assert len(names) == 1
    return [(step, json.loads(values)) for step, values in found], json.loads(settings)


@pytest.fixture
def in_trackio(tmp_path):
    """Run with Trackio; its folder is set before it is imported."""
    pytest.importorskip("trackio")

    def run_there(*more):
        done = command(*RUN, "tracker=trackio", *more, cwd=tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
        return done, *trackio_rows(tmp_path)

    return run_there


def test_trackio_has_one_run_for_a_folder_with_settings_history_metrics_and_ends(in_trackio, tmp_path):
    done, rows, settings = in_trackio(*DIVERGING)
    assert done.returncode == 2 and rows[-1][1] == {"end": "failed"}
    done, rows, settings = in_trackio()
    assert done.returncode == 0, done.stderr
    history = pd.read_csv(tmp_path / "run/history.csv")
    losses = [(step, values["fit/loss"]) for step, values in rows if "fit/loss" in values]
    assert losses[-len(history) :] == [(r.step, r.loss) for r in history.itertuples()]
    numbers = {name: value for name, value in metrics_of(tmp_path / "run").items() if value is not None}
    assert rows[-1][1] == {**numbers, "end": "finished"}
    assert settings["training.epochs"] == 2 and settings["name"] == "baseline"


def in_wandb(file):
    from wandb.proto import wandb_internal_pb2

    def values(items):
        return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

    rows, summary = [], {}
    for content in leveldb_log(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            rows.append(values(record.history.item))
        elif record.WhichOneof("record_type") == "summary":
            summary |= values(record.summary.update)
    return rows, summary


def leveldb_log(raw):
    """Its records: after seven bytes of W&B's own, blocks of 32 KiB of pieces (checksum, length, which piece)."""
    at, whole = 7, b""
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, piece = struct.unpack_from("<IHB", raw, at)
        whole += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if piece in (1, 4):  # the only or the last one
            yield whole
            whole = b""


def test_where_the_tracker_is_not_installed_one_line_says_how(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'wandb' else find(name, *more)\n"
    )
    done = command(*RUN, "tracker=wandb", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}")
    assert done.returncode == 2
    assert done.stderr == "rebuttal: tracker=wandb: is not installed here; pip install 'rebuttal[wandb]'\n"


SGD = ["model=mlp_toy", "training.optimizer=sgd"]
DIVERGING = [*SGD, "training.lr=1e30"]


def mlflow_at(folder):
    """MLflow keeps open what it has opened once, by its address, which is therefore absolute."""
    return f"tracker.uri=sqlite:///{folder}/mlflow.db"


def in_mlflow(folder, query):
    with sqlite3.connect(folder / "mlflow.db") as base:
        found = base.execute(query).fetchall()
    base.close()
    return found


def ends_in_wandb(folder):
    """The exit code of each run in a folder, and the losses in it."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        records = [wandb_internal_pb2.Record.FromString(content) for content in leveldb_log(file.read_bytes())]
        codes = [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]
        found.append((codes, len(in_wandb(file)[0])))
    return found


def test_after_a_job_that_failed_the_next_one_has_a_wandb_run_of_its_own(tmp_path):
    sweep = ["-m", *RUN[:-1], *SGD, "tracker=wandb", "hydra.sweeper.params=null", "hydra.sweep.dir=sweep"]
    done = command(*sweep, "training.lr=1e-3,1e30,2e-3", cwd=tmp_path)
    assert done.returncode == 1 and "2 done, 1 failed" in done.stdout
    rows = len(pd.read_csv(tmp_path / "sweep/0/history.csv"))
    assert ends_in_wandb(tmp_path / "sweep/0") == [([0], rows)]
    (failed,) = ends_in_wandb(tmp_path / "sweep/1")
    assert failed[0] == [1]
    assert ends_in_wandb(tmp_path / "sweep/2") == [([0], rows)]


def test_an_mlflow_run_has_the_end_of_the_run_also_after_it_was_repeated(tmp_path):
    status = "select status from runs"
    uri = mlflow_at(tmp_path)
    assert command(*RUN, "tracker=mlflow", uri, *DIVERGING, cwd=tmp_path).returncode == 2
    assert in_mlflow(tmp_path, status) == [("FAILED",)]
    run("mlflow", tmp_path, uri)
    assert in_mlflow(tmp_path, status) == [("FINISHED",)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_is_killed_for_its_tracker(number, tmp_path):
    long = [*RUN, "tracker=mlflow", "training.epochs=200000", "training.stop_accuracy=null"]
    running = start(*long, cwd=tmp_path)
    told, deadline = tmp_path / "run/status.json", time.monotonic() + 120
    while not (told.exists() and json.loads(told.read_text()).get("step")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_mlflow(tmp_path, "select status from runs") == [("RUNNING",)]
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
    assert in_mlflow(tmp_path, "select status from runs") == [("KILLED",)]
    assert json.loads(told.read_text())["state"] == "cut short"


def test_tensorboard_says_how_a_run_ended(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert command(*RUN, "tracker=tensorboard", *DIVERGING, cwd=tmp_path).returncode == 2
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    (end,) = events.Tensors("end/text_summary")
    assert end.tensor_proto.string_val == [b"failed"]


class Closed:
    """A tracker's log that fails while the run goes on."""

    def __init__(self, fails):
        self.fails, self.ends = fails, []

    def at(self, training, step, values):
        if self.fails:
            raise ConnectionError("no route")

    def end(self, metrics, how="finished"):
        self.ends.append((metrics, how))


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(
    ("stop", "how"), [(None, "finished"), (ValueError, "failed"), (KeyboardInterrupt, "killed"), (SystemExit, "killed")]
)
def test_a_log_is_closed_once_with_the_run_s_end_even_if_it_failed_before(stop, how, fails):
    log = Closed(fails)
    forwarder = Forwarder(lambda: log)
    with pytest.raises(stop) if stop else contextlib.nullcontext(), forwarder.closed_at_end():
        forwarder.watcher("fit/1")({"step": 1, "loss": 0.5})
        if stop:
            raise stop
        forwarder.end({"fit/x": 1.0, "fit/y": None})
    assert log.ends == [({"fit/x": 1.0} if stop is None else {}, how)]


class Interrupting:
    """What a library may leave to be destroyed at any time; a destructor swallows what a signal's handler raises."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


class Interrupted(Closed):
    def at(self, training, step, values):
        Interrupting(signal.SIGTERM)
        self.written = step


def test_a_signal_that_comes_while_a_tracker_writes_is_handled_after_it():
    log = Interrupted(fails=False)
    forwarder = Forwarder(lambda: log)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), forwarder.closed_at_end():
            forwarder.watcher("fit/1")({"step": 1, "loss": 0.5})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert log.written == 1 and log.ends == [({}, "killed")]


def test_an_mlflow_run_that_cannot_be_opened_does_not_stay_running(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    def refuse(*arguments):
        raise ConnectionError("no route")

    monkeypatch.setattr(MlflowClient, "log_param", refuse)
    done = command(*RUN, "tracker=mlflow", mlflow_at(tmp_path), cwd=tmp_path)
    assert done.returncode == 0 and "the tracker failed (ConnectionError: no route)" in done.stdout
    assert in_mlflow(tmp_path, "select status from runs") == [("FAILED",)]


class Broken:
    def at(self, training, step, values):
        raise ConnectionError("no route")


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(caplog):
    forwarder = Forwarder(Broken)
    for _ in range(2):
        forwarder.watcher("fit/1")({"step": 1, "loss": 0.5})
    forwarder.end({"fit/x": 1.0})
    assert caplog.text.count("the tracker failed (ConnectionError: no route); the run continues without it") == 1
    assert "failed" in caplog.text
    caplog.clear()
    Forwarder(lambda: 1 / 0).end({})
    assert "ZeroDivisionError" in caplog.text


class Recorded:
    def __init__(self):
        self.rows = []

    def at(self, training, step, values):
        self.rows.append((training, step, values))


def test_trainings_are_logged_once_by_their_stage_s_name_or_their_own():
    log = Recorded()
    forwarder = Forwarder(lambda: log, {"fit/1": "teacher"})
    forwarder.watcher("fit/1")({"step": 1, "loss": 0.5})
    forwarder.watcher("mimic/2")({"step": 3, "loss": 0.25})
    forwarder.stage_ended("teacher", [{"step": 1, "loss": 0.5}])
    forwarder.stage_ended("student", [{"step": 7, "loss": 0.1}])
    assert log.rows == [("teacher", 1, {"loss": 0.5}), ("mimic/2", 3, {"loss": 0.25}), ("student", 7, {"loss": 0.1})]
