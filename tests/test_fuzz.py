"""Whatever is thrown at the program, it ends in one clear line or in a correct run."""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebuttal import train
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import as_one_line

EXAMPLES = int(os.environ.get("REBUTTAL_FUZZ", "150"))
THROWN = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SMALL = ["experiment=baseline", "dataset=uniform_noise", "dataset.shape=[6]", "model=mlp_toy", "debug=tiny"]
KEYS = [
    *("seed", "device", "force", "objective", "checkpoint", "batch_size", "threads", "jobs_per_gpu", "on_failure"),
    *("packages", "name", "model", "model.hidden", "model.dropout", "model._target_", "dataset", "dataset.shape"),
    *("dataset.classes", "dataset.train_size", "dataset.test_size", "dataset._target_", "corruption", "size"),
    *("corruption._target_", "training", "training.optimizer", "training.lr", "training.momentum", "training.epochs"),
    *("training.weight_decay", "training.schedule", "training.decay", "training.warmup_epochs", "training.batch_size"),
    *("training.stop_accuracy", "training.stop_loss", "training.crop", "training.normalisation", "training.precision"),
    *("stages", "stages.fit", "stages.fit.seed", "stages.fit.model", "stages.fit._target_", "+stages.a/b", "+nonsense"),
    *(
        "experiment",
        "debug",
        "measuring",
        "hydra.sweep.dir",
        "stages.fit.initialisation",
        "+training.nonsense",
        "~seed",
    ),
]
VALUES = st.one_of(
    st.integers(-3, 200).map(str),
    st.sampled_from(
        ["-1e400", "nan", "inf", "-inf", "1e-30", "1e30", "0.0", "0.5", "1.0", "-0.5", "99999999999999999999"]
    ),
    st.sampled_from(
        ["null", "true", "false", "''", "[]", "{}", "[1,2]", "[0]", "[-1]", "{a:1}", "[[3]]", "[a,b]", "???"]
    ),
    st.sampled_from(["${seed}", "${model}", "${nonsense}", "${training.lr}", "${oc.env:HOME}", "${stages.fit}", "${"]),
    st.sampled_from(["mlp", "adam", "sgd", "auto", "whole", "random", "none", "../../x", "/etc/passwd", "os.system"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
)
ENDLESS = "training.epochs=99999999999999999999"  # a correct run, but nobody can wait for it
ONE = st.tuples(st.sampled_from(KEYS), VALUES).map("=".join).filter(lambda override: override != ENDLESS)
OVERRIDES = st.lists(ONE, min_size=1, max_size=3)


def outcome(overrides, store):
    """The metrics of a run in this process, or the one line that it ends in."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = compose("train", [*SMALL, f"store={store}", *overrides])
        return train.run(cfg)
    except Exception as error:
        line = as_one_line(error)
        if line is None:
            raise
        assert line.strip() and "\n" not in line
        return line


def check_right(metrics):
    for name, value in metrics.items():
        assert value is None or math.isfinite(value), name
        if "accuracy" in name:
            assert 0 <= value <= 1, name
    assert metrics["fit/train_accuracy_low"] <= metrics["fit/train_accuracy"] <= metrics["fit/train_accuracy_high"]


@THROWN
@given(overrides=OVERRIDES)
def test_overrides(overrides):
    with tempfile.TemporaryDirectory() as store:
        found = outcome(overrides, store)
        if not isinstance(found, str):
            check_right(found)


HUGE = {
    "model.hidden=[1000000000,1000000000]": "out of memory",
    "dataset.train_size=1000000000000": "out of memory",
    "dataset.shape=[1000000000000000000000]": "dataset.shape",
}


@pytest.mark.parametrize("override", HUGE)
def test_what_no_machine_can_hold(override, tmp_path):
    assert HUGE[override] in outcome([override], tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = tmp_path_factory.mktemp("finished") / "store"
    return store, outcome([], store)


def entries(store):
    return sorted(path for path in store.glob("fit/*") if path.is_dir())


@THROWN
@given(data=st.data())
def test_damaged_stores(data, finished):
    whole, expected = finished
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        shutil.copytree(whole, store)
        (entry,) = entries(store)
        file = entry / data.draw(st.sampled_from(["record.json", "weights.safetensors"]))
        content = file.read_bytes()
        at = data.draw(st.integers(0, len(content) - 1))
        damage = data.draw(st.sampled_from(["byte", "cut", "gone", "folder", "swap", "junk", "no entry", "more"]))
        if damage == "byte":
            changed = bytearray(content)
            changed[at] ^= data.draw(st.integers(1, 255))
            file.write_bytes(changed)
        elif damage == "cut":
            file.write_bytes(content[:at])
        elif damage == "gone":
            file.unlink()
        elif damage == "folder":
            file.unlink()
            file.mkdir()
        elif damage == "swap":
            other = entry / ({"record.json", "weights.safetensors"} - {file.name}).pop()
            file.write_bytes(other.read_bytes())
        elif damage == "junk":
            file.write_bytes(data.draw(st.binary(max_size=64)))
        elif damage == "no entry":
            shutil.rmtree(entry)
            entry.write_bytes(b"a file where the entry should be")
        else:
            (entry / "more").write_text("a file more")
            (store / "fit" / f"{entry.name}.checkpoint").write_bytes(content[:at])
        assert outcome([], store) == expected
        (entry,) = entries(store)
        assert json.loads((entry / "record.json").read_text())["record"]["metrics"]
