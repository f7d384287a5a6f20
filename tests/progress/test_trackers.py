"""Each tracker is written by a real run and read back with its own reader."""

import json
import sqlite3
import struct
import warnings
from pathlib import Path

import pandas as pd
import pytest

from rebuttal.progress.trackers import Forwarder
from tests.command.test_stored_sweep import SWEEP
from tests.command_line import command
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
