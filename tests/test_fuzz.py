"""Whatever is thrown at the program, it ends in one clear line or in a correct run.

REBUTTAL_FUZZ=1000 throws more, each time something else. What is thrown is bounded so that a correct run of it is over
in a second: see `small`.
"""

import json
import logging
import math
import os
import random
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rebuttal import train
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import as_one_line
from rebuttal.progress.status_file import StatusFile
from rebuttal.runs.build import build_run, resolve
from rebuttal.runs.folder import RunFolder
from rebuttal.stages.session import Session

LONGER = "REBUTTAL_FUZZ" in os.environ
EXAMPLES = int(os.environ.get("REBUTTAL_FUZZ", "100"))
CHANCE = random.Random(None if LONGER else 0)
# A failing example is short as it is; to shrink it may take five minutes.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + LONGER * [Phase.shrink]
THROWN = settings(
    max_examples=EXAMPLES,
    phases=PHASES,
    deadline=None,
    derandomize=not LONGER,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 30  # for a run of less than one, also on a machine that does much else
SMALL = ["experiment=baseline", "dataset=uniform_noise", "model=mlp_toy", "device=cpu"]
# Not by debug=tiny, which a thrown debug=none would take away: a correct run, but a minute long.
SIZES = {
    "dataset.shape": "[6]",
    "dataset.train_size": 60,
    "dataset.student_size": 60,
    "dataset.test_size": 60,
    "model.hidden": "[8]",
    "training.epochs": 3,
    "training.batch_size": 30,
}


class Endless(BaseException):
    """Nothing in the program catches it."""


@contextmanager
def soon_over():
    def late(number, frame):
        raise Endless

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    except Endless:
        pytest.fail(f"not over after {SECONDS} s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def composed(overrides, sizes=SIZES):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", [*SMALL, *(f"{key}={value}" for key, value in sizes.items()), *overrides])


def outcome(make, store):
    """The metrics of a run of the config that `make` gives, or the one line that it ends in."""
    threads = torch.get_num_threads()
    try:
        with soon_over():
            cfg = make()
            cfg.store = str(store)
            return train.run(cfg)
    except Exception as error:
        line = as_one_line(error)
        if line is None:
            raise
        assert line.strip() and len(line.splitlines()) == 1 and len(line) < 2000
        return line
    finally:
        torch.set_num_threads(threads)  # threads=… is for the whole process, which here has other tests to run


def check_outcome(make):
    """A line, or a correct run, which the store then gives again."""
    with tempfile.TemporaryDirectory() as store:
        found = outcome(make, store)
        if isinstance(found, str):
            return
        for name, value in found.items():
            assert value is None or math.isfinite(value), name
            if "accuracy" in name:
                assert 0 <= value <= 1, name
            if name.endswith("/train_accuracy"):
                assert found[f"{name}_low"] <= value <= found[f"{name}_high"]
        entries = sorted(Path(store).rglob("record.json"))
        before = [entry.stat().st_mtime_ns for entry in entries]
        assert outcome(make, store) == found
        if not make().force:
            assert [entry.stat().st_mtime_ns for entry in entries] == before


# --- commands


GROUPS = {
    "model": [
        "linear",
        "mlp",
        "mlp_1x512",
        "mlp_toy",
        "resnet18",
        "vgg11",
        "alexnet_small",
        "inception_small",
        "wrn28_1",
    ],
    "dataset": ["gaussian_noise", "mixture", "noise_like", "random_walk", "image_folder"],
    "training": ["adam", "fast", "zhang"],
    "corruption": ["none", "partial", "permuted", "random"],
    "experiment": ["toy", "nonsense", "null"],
    "debug": ["none", "tiny", "null"],
    "size": ["full", "study", "usual"],
    "measuring": ["default", "null"],
}
KEYS = [
    *("seed", "device", "force", "objective", "checkpoint", "batch_size", "threads", "jobs_per_gpu", "on_failure"),
    "snapshots",
    *("packages", "name", "model.hidden", "model.dropout", "model._target_", "dataset.shape", "dataset.classes"),
    *("dataset.train_size", "dataset.test_size", "dataset._target_", "corruption._target_", "training.optimizer"),
    *("training.lr", "training.momentum", "training.epochs", "training.weight_decay", "training.schedule"),
    *("training.decay", "training.warmup_epochs", "training.batch_size", "training.stop_accuracy"),
    *(
        "training.stop_loss",
        "preprocess.crop",
        "preprocess.normalisation",
        "training.precision",
        "stages",
        "stages.fit",
    ),
    *("stages.fit.seed", "stages.fit.model", "stages.fit._target_", "stages.fit.initialisation", "+stages.a/b"),
    *("+nonsense", "+training.nonsense", "hydra.sweep.dir", "~seed", "model@stages.fit.model", "training+", "@", ""),
]
# Counts are small, or larger than any computer counts: what lies between are correct runs that nobody waits for, or
# sizes of which it is the machine that says whether it holds them (for these see HUGE).
COUNTS = st.one_of(st.integers(-3, 200), st.sampled_from([2**63, 10**20, -(10**20)])).map(str)
NUMBERS = st.sampled_from(["-1e400", "1e400", "nan", "inf", "-inf", "1e-30", "1e30", "1e308", "0.0", "0.5", "1.0"])
NODES = st.sampled_from(
    ["null", "true", "false", "''", "[]", "{}", "[1,2]", "[0]", "[-1]", "{a:1}", "[[3]]", "[a,b]", "???", "[null]"]
)
REFERENCES = st.sampled_from(
    ["${seed}", "${model}", "${nonsense}", "${training.lr}", "${oc.env:HOME}", "${stages.fit}", "${", "${oc.env:NOT}"]
)
WORDS = st.sampled_from(
    ["mlp", "adam", "sgd", "auto", "whole", "random", "none", "../../x", "/etc/passwd", "os.system", "torch.nn.Linear"]
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
VALUES = st.one_of(COUNTS, NUMBERS, NODES, REFERENCES, WORDS, TEXTS)


def small(override):
    """Without what is a correct run that takes long: more threads than cores wait for each other at every step."""
    key, value = override
    return not (key == "threads" and value.isdecimal() and 4 < int(value) <= 1024)


def values_of(key):
    return st.one_of(st.sampled_from(GROUPS[key]), VALUES) if key in GROUPS else VALUES


ONE = st.sampled_from([*GROUPS, *KEYS]).flatmap(lambda key: st.tuples(st.just(key), values_of(key)))
OVERRIDES = st.lists(ONE.filter(small).map("=".join), min_size=1, max_size=3)


@pytest.mark.slow
@THROWN
@given(overrides=OVERRIDES)
def test_commands(overrides):
    check_outcome(lambda: composed(overrides))


HUGE = {
    "model.hidden=[1000000000,1000000000]": "model: its weights take 3.725e+09 GiB; allowed: at most this machine's ",
    "model.hidden=[4611686018427387904,4611686018427387904]": "out of memory",
    "dataset.train_size=1000000000000": "dataset.train_size=1000000000000: the inputs take 2.235e+04 GiB; allowed: ",
    "dataset=random_walk dataset.train_size=1000000000000000": "out of memory",
    "dataset=random_walk dataset.train_size=4611686018427387904": "out of memory",
    "dataset.classes=4611686018427387904": "out of memory",
    "dataset.shape=[4294967296,4294967296,4294967296]": "out of memory",
    "dataset.shape=[1000000000000000000000]": "dataset.shape[0]=1000000000000000000000: allowed: whole numbers below ",
    "seed=1000000000000000000000": "seed=1000000000000000000000: input should be less than 9223372036854775808",
    "training.epochs=1000000000000000000000": "training.epochs=1000000000000000000000: allowed: whole numbers ",
    "threads=100000": "threads=100000: input should be less than or equal to 1024",
}


@pytest.mark.parametrize("override", HUGE)
def test_what_no_machine_can_hold(override, tmp_path):
    assert outcome(lambda: composed(override.split()), tmp_path).startswith(HUGE[override])


# --- a user's own files


OURS = ["model", "dataset", "training", "corruption", "experiment", "stage"]
NAMES = [
    *("_target_", "defaults", "hydra", "_args_", "_partial_", "name", "seed", "model", "dataset", "corruption"),
    *("training", "stages", "fit", "hidden", "dropout", "shape", "classes", "like", "kind", "new", "towards", "share"),
    *("start", "fraction", "lr", "optimizer", "packages", "teacher", "student", "functions", "measures", "students"),
    *("in_features", "out_features", "a/b", "", "${seed}", "sweeper", "params"),
]
TARGETS = [
    *("rebuttal.models.MLP", "rebuttal.models.VGG11", "rebuttal.data.UniformNoise", "rebuttal.data.NoiseLike"),
    *("rebuttal.data.Mixture", "rebuttal.data.RandomWalk", "rebuttal.data.labels.true_labels", "rebuttal.stages.Fit"),
    *("rebuttal.data.RandomLabels", "rebuttal.stages.Mimic", "rebuttal.stages.Judge", "rebuttal.stages.Measure"),
    *("rebuttal.stages.AgreementChart", "rebuttal.functions.Trained", "rebuttal.functions.independent"),
    *("rebuttal.functions.Matched", "rebuttal.measures.GradientNorms", "rebuttal.training.Recipe", "torch.nn.Linear"),
    *("rebuttal.training.predict", "torch.nn.Identity", "torch.nn.GroupNorm", "rebuttal.data", "rebuttal.models.Nix"),
    *("os.system", "builtins.eval", "rebuttal.train.main", "rebuttal..data.x", ".x", "", "a\nb"),
]
INTERPOLATIONS = [
    *("${model}", "${.}", "${..}", "${.hidden}", "${stages}", "${stages.fit}", "${seed}", "${nix}", "${oc.env:NOT}"),
    *("${hydra:job.num}", "${now:%Y}", "${oc.create:${model}}", "${oc.select:a,b}", "${nix:1}", "${", "${${seed}}"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(),
    st.sampled_from([2**63, "", "a\nb", "mlp", *INTERPOLATIONS, *TARGETS]),
    st.dates(),
    st.binary(max_size=4),
    TEXTS,
)
IN_DEFAULTS = ["_self_", "mine", "mlp", {"/model": "mine"}, {"override /model": "mlp"}, {"/stage@stages.a": "fit"}, 3]
DEFAULTS = st.lists(st.sampled_from(IN_DEFAULTS), max_size=3)


def few(values):
    """With names that mean something, so that it is not the first of them at which all ends."""
    names = st.lists(st.sampled_from(NAMES), max_size=5, unique=True)
    target = st.one_of(st.sampled_from(TARGETS), values)

    def described(chosen):
        special = {"_target_": target, "defaults": st.one_of(DEFAULTS, values)}
        return st.fixed_dictionaries({name: special.get(name, values) for name in chosen})

    return names.flatmap(described)


NODE = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), few(inner)), max_leaves=12)
WITH_TARGET = st.tuples(st.sampled_from(TARGETS), few(NODE)).map(lambda both: both[1] | {"_target_": both[0]})
VALID = {
    "model": "_target_: rebuttal.models.MLP\nhidden: [4, 3]\ndropout: 0.5\n",
    "dataset": "_target_: rebuttal.data.GaussianNoise\nshape: [6]\ntrain_size: 60\nmean: 0.5\n",
    "training": (CONFIG_DIR / "training/adam.yaml").read_text(),
    "corruption": "_target_: rebuttal.data.RandomLabels\nfraction: 0.5\n",
    "experiment": "# @package _global_\ndefaults:\n  - /stage@stages.fit: fit\n  - _self_\nname: mine\nseed: 3\n",
    "stage": (CONFIG_DIR / "stage/fit.yaml").read_text(),
}


def typing_mistakes(text):
    """One character more, less or other."""
    marks = st.sampled_from([*"\t\n :-#[]{},&*!|>'\"%@`?$\\\0\x85\u2028é", "- ", ": ", "\n  ", "!!python/name:x "])
    at = st.integers(0, len(text))
    return st.tuples(at, st.integers(0, 2), st.one_of(st.just(""), marks)).map(
        lambda m: text[: m[0]] + m[2] + text[m[0] + m[1] :]
    )


def other_values(text):
    """One value other, or one key more."""
    node = yaml.safe_load(text)
    key = st.one_of(st.sampled_from(sorted(node)), st.sampled_from(NAMES))
    return st.tuples(key, NODE).map(lambda change: node | {change[0]: change[1]})


def dumped(node):
    return yaml.safe_dump(node, allow_unicode=True)


FILES = st.sampled_from(OURS).flatmap(
    lambda group: st.tuples(
        st.just(group),
        st.one_of(
            typing_mistakes(VALID[group]),
            other_values(VALID[group]).map(dumped),
            few(NODE).map(dumped),
            WITH_TARGET.map(dumped),
            st.one_of(few(NODE), WITH_TARGET).map(lambda node: "# @package _global_\n" + dumped(node)),
            NODE.map(dumped),
            TEXTS,
        ),
    )
)
CHOSEN = {group: f"{group}=mine" for group in OURS} | {"stage": "stage@stages.fit=mine"}


def with_file(folder, group, content):
    path = Path(folder) / group / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sizes = {key: value for key, value in SIZES.items() if not key.startswith(f"{group}.")}  # it may not have them
    return lambda: composed([f"hydra.searchpath=[file://{folder}]", CHOSEN[group]], sizes)


@pytest.mark.parametrize("group", OURS)
def test_a_good_file_is_run(group, tmp_path):
    found = outcome(with_file(tmp_path, group, VALID[group]), tmp_path / "store")
    assert found["fit/train_size"] == 60


@pytest.mark.slow
@THROWN
@given(file=FILES)
def test_files(file):
    with tempfile.TemporaryDirectory() as folder:
        check_outcome(with_file(folder, *file))


LOOP = "_target_: rebuttal.models.MLP\nhidden: ${model.dropout}\ndropout: ${model.hidden}\n"
STRANGE = {
    "loop": LOOP,
    "loop of parents": "_target_: rebuttal.models.MLP\nhidden: ${..model}\n",
    "itself": "_target_: rebuttal.models.MLP\nhidden: &a [*a]\n",
    "defaults itself": "defaults: [mine]\n",
    "deep": "_target_: rebuttal.models.MLP\nhidden: " + "[" * 60 + "]" * 60,
    "deeper": "_target_: rebuttal.models.MLP\nhidden: " + "[" * 200 + "]" * 200,
    "deepest": "_target_: rebuttal.models.MLP\nhidden: " + "[" * 5000 + "]" * 5000,
    "digits": "_target_: rebuttal.models.MLP\nhidden: [" + "9" * 5000 + "]\n",
    "other bytes": b"\xff\xfe_target_",
    "UTF-16": "_target_: rebuttal.models.MLP\n".encode("utf-16"),
    "two documents": "--- {}\n--- {}\n",
    "a list": "- _target_\n",
    "a word": "mlp",
    "nothing": "",
    "twice": "hidden: [1]\nhidden: [2]\n",
    "code": "!!python/object/apply:os.system ['false']\n",
}


@pytest.mark.parametrize("content", STRANGE)
def test_strange_files(content, tmp_path):
    assert isinstance(outcome(with_file(tmp_path, "model", STRANGE[content]), tmp_path / "store"), str)


# --- damaged files


KILLED_AT = 4  # of 6 steps: between two epochs' ends


class Killed(BaseException):
    """Nothing in the program catches it."""


@pytest.fixture(scope="module")
def config():
    return composed([])


def run(config, store):
    return outcome(lambda: OmegaConf.merge(config), store)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run's store, and its metrics."""
    folder = tmp_path_factory.mktemp("finished")
    return folder / "store", outcome_in(config, folder / "store", folder / "run")


@pytest.fixture(scope="module")
def cut_short(config, tmp_path_factory):
    """The store of the same run, warned by SLURM in the middle of its training."""
    store = tmp_path_factory.mktemp("cut_short") / "store"

    def warn(running, step, steps):
        if step == KILLED_AT:
            signal.raise_signal(signal.SIGUSR2)

    def requeue(number, frame):
        raise Killed

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(StatusFile, "step", warn)
            run(config, store)
    finally:
        signal.signal(signal.SIGUSR2, before)
    return store


def outcome_in(config, store, folder):
    cfg = OmegaConf.merge(config, {"store": str(store)})
    return train.run(cfg, folder)


def only(paths):
    (path,) = paths
    return path


def entry(store, kind="fit"):
    return only(path for path in (store / kind).iterdir() if path.is_dir() and not path.name.startswith("."))


def checkpoint(store):
    return only((store / "fit").glob("*.checkpoint"))


def damages(content, count):
    """`count` times another byte somewhere, or an end that is missing."""
    for number in range(count):
        at = CHANCE.randrange(len(content))
        if number % 2:
            yield f"cut at {at}", content[:at]
        else:
            byte = CHANCE.choice([value for value in range(256) if value != content[at]])
            yield f"byte {at} is {byte}", content[:at] + bytes([byte]) + content[at + 1 :]


def same_json(damaged, whole):
    """Whether the damage is to blanks between values, which mean nothing."""
    try:
        return json.loads(damaged) == json.loads(whole)
    except ValueError:
        return False


DAMAGES = {  # 200 in all
    "record.json": max(60, EXAMPLES // 4),
    "weights.safetensors": max(60, EXAMPLES // 4),
    "checkpoint": max(80, EXAMPLES // 4),
}


def what_was_made(folder):
    """An entry's content but for its origin, which has a date."""
    record = json.loads((folder / "record.json").read_text())
    kept = {key: record[key] for key in ("identity", "record", "weights_sha256")}
    return kept, (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
def test_each_damaged_byte_of_an_entry_is_noticed_or_means_nothing(name, config, finished, tmp_path, caplog):
    whole, expected = finished
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    files = {path.name: path.read_bytes() for path in entry(whole).iterdir()}
    made = what_was_made(entry(whole))
    for damage, content in damages(files[name], DAMAGES[name]):
        (entry(store) / name).write_bytes(content)
        caplog.clear()
        assert run(config, store) == expected, damage
        if "damaged store entry" in caplog.text:
            assert what_was_made(entry(store)) == made, damage  # again
        else:
            assert name == "record.json" and same_json(content, files[name]), damage


def test_each_damaged_byte_of_a_checkpoint_is_noticed(config, finished, cut_short, tmp_path, caplog):
    whole, expected = finished
    state, weights = checkpoint(cut_short).read_bytes(), (entry(whole) / "weights.safetensors").read_bytes()
    store = tmp_path / "store"
    kept = store / "fit" / checkpoint(cut_short).name
    caplog.set_level(logging.INFO, logger="rebuttal")
    for damage, content in [("none", state), *damages(state, DAMAGES["checkpoint"])]:
        shutil.rmtree(store, ignore_errors=True)
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
        caplog.clear()
        assert run(config, store) == expected, damage
        assert (entry(store) / "weights.safetensors").read_bytes() == weights, damage
        assert (f"resuming from step {KILLED_AT} of 6" in caplog.text) == (damage == "none"), damage
        assert ("damaged checkpoint" in caplog.text) == (damage != "none"), damage
        assert not kept.exists()


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
def test_a_damaged_run_is_not_found_again(name, config, finished, tmp_path, caplog):
    whole, expected = finished
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    cfg = resolve(OmegaConf.merge(config, {"store": str(store)}))
    file = entry(store, "run") / name
    content = file.read_bytes()
    for damage, changed in [("none", content), *damages(content, 20)]:
        file.write_bytes(changed)
        caplog.clear()
        settings, stages = build_run(cfg)
        found = RunFolder(tmp_path / "again").restore(cfg, stages, Session(settings))
        harmless = damage == "none" or (name == "record.json" and same_json(changed, content))
        assert found == (expected if harmless else None), damage
        assert ("damaged store entry" in caplog.text) != harmless, damage


FILES_KEPT = ["record.json", "weights.safetensors", "checkpoint"]
OTHERWISE = [(name, damage) for name in FILES_KEPT for damage in ("gone", "the other", "junk", "empty", "a folder")]


@pytest.mark.parametrize(("name", "damage"), OTHERWISE)
def test_files_that_are_no_longer_themselves(name, damage, config, finished, cut_short, tmp_path):
    whole, expected = finished
    store = tmp_path / "store"
    if name == "checkpoint":
        shutil.copytree(cut_short, store)
        file, other = checkpoint(store), entry(whole) / "weights.safetensors"
    else:
        shutil.copytree(whole, store)
        file = entry(store) / name
        other = entry(store) / ({"record.json", "weights.safetensors"} - {name}).pop()
    content = {"the other": other.read_bytes(), "junk": CHANCE.randbytes(64), "empty": b""}
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage in content:
        file.write_bytes(content[damage])
    assert run(config, store) == expected
    assert run(config, store) == expected


STORES = ["a file for the entry", "a folder for the lock", "a file for the kind", "a file more"]


@pytest.mark.parametrize("damage", STORES)
def test_a_store_that_is_no_longer_itself(damage, config, finished, tmp_path):
    whole, expected = finished
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    found = entry(store)
    if damage == "a file more":
        (found / "more").write_text("")
    else:
        shutil.rmtree(found)
        if damage == "a file for the entry":
            found.write_text("")
        elif damage == "a folder for the lock":
            found.with_suffix(".lock").unlink(missing_ok=True)
            found.with_suffix(".lock").mkdir()
        else:
            shutil.rmtree(store / "fit")
            (store / "fit").write_text("")
    told = run(config, store)
    assert told == expected or told.startswith(f"store={store}: ")
