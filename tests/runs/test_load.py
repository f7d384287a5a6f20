"""A finished run, read back."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import rebuttal
from rebuttal.errors import ConfigError, UserError
from rebuttal.store.beside import SNAPSHOT, is_log_spaced, log_spaced, snapshot_identity
from rebuttal.store.entries import Artifact, Store
from rebuttal.training.evaluation import predict
from tests.command_line import ONE_NETWORK, ROOT, command
from tests.conftest import save_images

OWN = '''
from dataclasses import dataclass
from typing import Any

from rebuttal.stages.stage import Outcome
from rebuttal.training.evaluation import predict


@dataclass(frozen=True)
class Logits:
    """Keeps the logits of networks and functions as the run itself calls them."""

    functions: dict
    stages: dict

    def check(self, session): ...

    def identity(self, session):
        return [f.identity(session) for f in (*self.functions.values(), *self.stages.values())]

    def needs(self, session):
        return [*self.stages.values(), *(s for f in self.functions.values() for s in f.needs(session))]

    def work(self, session):
        return None

    def figures(self, session):
        return {}

    def run(self, session):
        fit = self.stages["teacher"]
        inputs = session.examples(fit.dataset, "test", fit.data_seed).inputs
        found = {name: f.function(session) for name, f in self.functions.items()}
        found |= {name: s.network(session) for name, s in self.stages.items()}
        return Outcome({"n": len(inputs)}, arrays={name: predict(f, inputs) for name, f in found.items()})
'''
FUNCTIONS = (
    *("hash", "linear", "fourier", "nearest_neighbour", "theorem1", "kernel"),
    *("untrained", "trained", "independent", "refitted"),
)
STAGES = ("teacher", "student", "student_logit", "hash_teacher")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A sweep of two runs that keep their own logits, by a stage of the user's."""
    place = tmp_path_factory.mktemp("load")
    (place / "mine_to_load.py").write_text(OWN)
    logits = ["+stages.logits._target_=mine_to_load.Logits"]
    logits += [f"+function@stages.logits.functions.{name}={name}" for name in FUNCTIONS]
    logits += [f"+stages.logits.stages.{name}=${{stages.{name}}}" for name in STAGES]
    sys.path.insert(0, str(place))
    try:
        words = ["-m", "debug=tiny", "device=cpu", "packages=[mine_to_load]", "seed=3,4", "hydra.sweep.dir=sweep"]
        done = command(*words, *logits, cwd=place)
    finally:
        sys.path.remove(str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return rebuttal.load("sweep/1", packages=["mine_to_load"])


@pytest.mark.parametrize("name", STAGES)
def test_a_network_gives_the_logits_of_the_run_bit_for_bit(run, name):
    network = run.network(name)
    assert isinstance(network, torch.nn.Module) and not network.training
    assert next(network.parameters()).device.type == "cpu"
    kept = torch.from_numpy(run.arrays[f"logits/{name}"])
    assert len(kept) == 60 and torch.equal(predict(network, run.inputs("test")[0]), kept)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_the_logits_of_the_run_bit_for_bit(run, name):
    inputs, _ = run.inputs("test")
    function = run.function(f"logits.functions.{name}")
    assert torch.equal(predict(function, inputs), torch.from_numpy(run.arrays[f"logits/{name}"]))
    assert isinstance(function, torch.nn.Module) == (name not in ("hash", "fourier", "nearest_neighbour"))


def test_a_job_of_a_sweep_has_its_own_networks_and_numbers(run):
    other = rebuttal.load("sweep/0", packages=["mine_to_load"])
    assert (other.config["seed"], run.config["seed"]) == (3, 4)
    weights = [r.network("teacher").state_dict()["body.1.weight"] for r in (other, run)]
    assert not torch.equal(*weights)


def test_numbers_are_those_of_the_folder(run):
    assert run.metrics == json.loads((run.folder / "metrics.json").read_text())
    assert run.config == json.loads((run.folder / "provenance.json").read_text())["config"]
    kept = [dict(row) for row in run.stages["student"].artifact(run._session()).record["history"]]
    found = run.history[run.history["stage"] == "student"].drop(columns="stage").dropna(axis=1)
    assert found.to_dict("records") == kept and len(kept) == 2
    assert set(run.arrays) == {f"logits/{name}" for name in (*FUNCTIONS, *STAGES)}
    assert np.array_equal(run.arrays["logits/trained"], run.arrays["logits/teacher"])


def test_inputs_are_those_of_the_run_and_training_labels_those_that_were_trained_on(run):
    inputs, labels = run.inputs("train")
    classes = predict(run.network("teacher"), inputs).argmax(dim=1)
    assert (classes == labels).double().mean().item() == run.metrics["teacher/train_accuracy"]
    students, _ = run.inputs("student", of="student")
    teacher, student = (predict(run.network(n), students).argmax(dim=1) for n in ("teacher", "student"))
    assert (teacher == student).double().mean().item() == run.metrics["student/train_agreement"]
    assert torch.equal(run.inputs("test", of="hash_teacher.teacher")[0], run.inputs("test")[0])
    teachers, _ = run.inputs("train", of="logits.functions.independent")
    assert not torch.equal(teachers, inputs)


def test_nothing_is_computed_or_written_to_the_store(run):
    def files():
        paths = run.folder.parent.parent.rglob("*")
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in paths if p.is_file()}

    before = files()
    for name in STAGES:
        run.network(name)
    run.function("logits.functions.refitted")
    assert files() == before


def test_the_store_may_be_elsewhere(place, run, monkeypatch, tmp_path):
    kept = predict(run.network("student"), run.inputs()[0])
    shutil.copytree(place / "outputs/store", tmp_path / "moved")
    shutil.copytree(place / "sweep/1", tmp_path / "of a colleague")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = rebuttal.load(tmp_path / "of a colleague", store=tmp_path / "moved", packages=["mine_to_load"])
    assert torch.equal(predict(moved.network("student"), moved.inputs()[0]), kept)
    found = rebuttal.load(place / "sweep/1", packages=["mine_to_load"])  # its store, from where the run was started
    assert torch.equal(predict(found.network("student"), found.inputs()[0]), kept)


@pytest.mark.parametrize("damage", ["missing", "damaged", "no store"])
@pytest.mark.parametrize("path", ["teacher", "curve.students.hard"])
def test_a_network_that_is_not_stored_is_one_line(place, run, tmp_path, damage, path):
    store = tmp_path / "store"
    run.network(path)
    (name,) = run._session().store.used
    if damage != "no store":
        shutil.copytree(place / "outputs/store", store)
    if damage == "missing":
        shutil.rmtree(store / name)
    if damage == "damaged":
        (store / name / "weights.safetensors").write_bytes(b"")
    lacking = rebuttal.load("sweep/1", store=store, packages=["mine_to_load"])
    with pytest.raises(UserError) as error:
        lacking.network(path)
    missing = (
        f"there is no store {store}" if damage == "no store" else f"{name} is not, or not whole, in the store {store}"
    )
    assert str(error.value) == (
        f"{path}: {missing}; to train it: python -m rebuttal.train "
        f"from_run=sweep/1 store={store} 'packages=[mine_to_load]'"
    )
    assert store.exists() == (damage != "no store")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda r: r.network("nix"), r"^nix: the run has no nix there; allowed: teacher, student, "),
        (lambda r: r.network("teacher.nix"), r"^teacher\.nix: the run has no nix there; allowed: model, dataset, "),
        (lambda r: r.function("comparison"), r"^comparison: is no network or function; allowed: teacher, student, "),
        (lambda r: r.function("teacher.model"), r"^teacher\.model: is no network or function; allowed: teacher, "),
        (lambda r: r.network("hash_teacher.teacher"), r"^hash_teacher\.teacher: is a function without a network; use "),
        (lambda r: r.inputs("validation"), r"^split=validation: allowed: train, student, test$"),
        (lambda r: r.inputs("test", of="comparison"), r"^comparison: has no data of its own; allowed: "),
        (lambda r: r.network(5), r"^5: allowed: the path of a stage or function, such as 'teacher'$"),
        (lambda r: r.logits(None), r"^None: allowed: the path of a stage or function, such as 'teacher'$"),
        (lambda r: r.function(("teacher",)), r"^\('teacher',\): allowed: the path of a stage or function, such as "),
        (lambda r: r.inputs(of=5), r"^5: allowed: the path of a stage or function, such as 'teacher'$"),
        (lambda r: r.network("teacher", step=[1]), r"^teacher: step=\[1\]: allowed: a whole number$"),
        (
            lambda r: r.network("teacher", device=["cpu"]),
            r"^teacher: device=\['cpu'\]: input should be 'auto', 'cpu' or ",
        ),
        (lambda r: rebuttal.load(r.folder, store=3, packages="mine_to_load"), r"^store=3: allowed: a path$"),
        (lambda r: rebuttal.load(r.folder, root=3), r"^root=3: allowed: a path$"),
        (lambda r: rebuttal.load(r.folder, device=3, packages="mine_to_load"), r"^device=3: input should"),
        (lambda r: rebuttal.load(r.folder, packages=[3]), r"^packages=\[3\]: allowed: a list of names of packages$"),
        (lambda r: r.network("teacher", device="tpu"), r"^teacher: device=tpu: "),
    ],
)
def test_what_cannot_be_given_is_one_line(run, call, line):
    with pytest.raises(ConfigError, match=line):
        call(run)


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        (
            "nix",
            "nix: there is no provenance.json; allowed: the folder of a finished run, or of a finished job of a sw",
        ),
        ("sweep", "sweep: is a sweep; allowed: the folder of one of its jobs, such as sweep/0"),
        (
            "failed",
            "failed: its run failed, see error.txt; allowed: the folder of a finished run, or of a fini",
        ),
        ("unfinished", "unfinished: there is no metrics.json; allowed: "),
        ("cut", "cut/provenance.json: cannot be read ("),
        ("foreign", "foreign/provenance.json: lacks 'stages'; allowed: what a run of rebuttal wrote"),
        ("list", "list/provenance.json: is not what a run writes; allowed: "),
    ],
)
def test_a_folder_without_a_finished_run_is_one_line(place, run, folder, line):
    changes = {
        "failed": {"error.txt": "why"},
        "unfinished": {"metrics.json": None},
        "cut": {"provenance.json": '{"config": '},
        "foreign": {"provenance.json": '{"config": {"store": "s"}}'},
        "list": {"provenance.json": "[]"},
    }
    if folder in changes:
        shutil.copytree(place / "sweep/1", place / folder, dirs_exist_ok=True)
        for name, content in changes[folder].items():
            (place / folder / name).unlink(missing_ok=True) if content is None else None
            (place / folder / name).write_text(content) if content is not None else None
    with pytest.raises(ConfigError) as error:
        rebuttal.load(folder, packages=["mine_to_load"])
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_folder_makes_nothing_importable(place, monkeypatch, tmp_path):
    """Neither by the packages that its config lists, nor by code that lies in it."""
    strange = tmp_path / "strange"
    shutil.copytree(place / "sweep/1", strange)
    (strange / "mine_to_load.py").write_text("raise SystemExit('imported')")
    monkeypatch.delitem(sys.modules, "mine_to_load", raising=False)
    monkeypatch.chdir(strange)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(place))])
    with pytest.raises(ConfigError, match=r"^stages\.logits\._target_=mine_to_load\.Logits: allowed: .*packages=\["):
        rebuttal.load(strange)
    with pytest.raises(ConfigError, match=r"^stages\.logits\._target_=mine_to_load\.Logits: no such class"):
        rebuttal.load(strange, packages=["mine_to_load"])
    config = json.loads((strange / "provenance.json").read_text())
    config["config"]["stages"] = {"teacher": {"_target_": "os.system", "command": "touch ran"}}
    (strange / "provenance.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"^stages\.teacher\._target_=os\.system: allowed: "):
        rebuttal.load(strange)
    assert not (strange / "ran").exists()


def test_a_run_from_python_is_loaded_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rebuttal.run("baseline", [*ONE_NETWORK[1:], "device=cpu"], folder="run")
    run = rebuttal.load("run")
    labels = run.inputs("train")[1]
    assert (predict(run.network("fit"), run.inputs("train")[0]).argmax(1) == labels).double().mean().item() == (
        run.metrics["fit/train_accuracy"]
    )
    with pytest.raises(UserError, match=r"^fit: there is no store nix; to train it: python -m rebuttal.train "):
        rebuttal.load("run", store="nix").network("fit")
    assert not (tmp_path / "nix").exists()


def test_importing_rebuttal_stays_quick():
    code = "import sys, rebuttal; assert not {'torch', 'pandas', 'rebuttal.api'} & set(sys.modules); rebuttal.load"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_run_on_images_is_loaded_from_elsewhere_and_after_the_images_were_moved(tmp_path, monkeypatch):
    counts = {f"{split}/{c}": 60 for split in ("train", "test") for c in "ab"}
    save_images(tmp_path / "began" / "images", counts, size=(8, 8))
    (tmp_path / "elsewhere").mkdir()
    words = ["experiment=baseline", "debug=tiny", "device=cpu", "model=mlp_toy", "corruption=random"]
    words += ["dataset=image_folder", "dataset.root=images", "hydra.run.dir=run"]
    done = command(*words, cwd=tmp_path / "began")
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = rebuttal.load("../began/run")
    inputs, labels = run.inputs("train")
    logits = predict(run.network("fit"), inputs)
    assert inputs.dtype == torch.uint8 and inputs.shape[1:] == (3, 8, 8)
    assert (logits.argmax(1) == labels).double().mean().item() == run.metrics["fit/train_accuracy"]
    (tmp_path / "began/images").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"^fit: dataset\.root=images: no such folder or archive"):
        rebuttal.load("../began/run").network("fit")
    moved = rebuttal.load("../began/run", root=tmp_path / "moved")
    assert torch.equal(predict(moved.network("fit"), moved.inputs("train")[0]), logits)
    with pytest.raises(UserError, match=r"^fit: there is no store nix; to train it: "):
        rebuttal.load("../began/run", store="nix", root=tmp_path / "moved").network("fit")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_on_arrays_is_loaded_from_elsewhere_and_after_they_were_moved(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "began").mkdir()
    (tmp_path / "elsewhere").mkdir()
    np.savez(tmp_path / "began/data.npz", x=rng.random((300, 6), dtype=np.float32), y=np.arange(300) % 3)
    (tmp_path / "began/split.txt").write_text("train\n" * 200 + "test\n" * 100)
    words = ["experiment=baseline", "debug=tiny", "device=cpu", "model=mlp_toy", "dataset=arrays"]
    words += ["dataset.path=data.npz", "dataset.split=split.txt", "hydra.run.dir=run"]
    done = command(*words, cwd=tmp_path / "began")
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path / "elsewhere")
    inputs, labels = rebuttal.load("../began/run").inputs("test")
    (tmp_path / "began/data.npz").rename(tmp_path / "moved.npz")
    moved = rebuttal.load("../began/run", root=tmp_path / "moved.npz").inputs("test")
    assert torch.equal(inputs, moved[0]) and torch.equal(labels, moved[1]) and len(labels) > 0


OWN_DATA = """
from pathlib import Path

import numpy as np
import torch

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet, digest_of_tensors


@checked
class Bytes(ImageSet):
    root: str

    def read(self, cache):
        x = torch.from_numpy(np.fromfile(Path(self.root) / "x", dtype=np.uint8)).reshape(-1, 1, 4, 4)
        y = torch.arange(len(x)) % 2
        return Images(x[:130], y[:130], x[130:], y[130:], ("a", "b"), digest_of_tensors(x, y))
"""


def test_a_run_on_data_of_the_user_s_own_is_loaded_and_repeated_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "began/bytes").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine_of_bytes.py").write_text(OWN_DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    np.random.default_rng(0).integers(0, 256, (200, 4, 4), dtype=np.uint8).tofile(tmp_path / "began/bytes/x")
    words = [*ONE_NETWORK[:1], *ONE_NETWORK[3:], "device=cpu", "packages=[mine_of_bytes]", "corruption=none"]
    option = "{_target_: mine_of_bytes.Bytes, root: bytes, train_size: 60, student_size: 60}"
    (tmp_path / "began/conf/dataset").mkdir(parents=True)
    (tmp_path / "began/conf/dataset/bytes.yaml").write_text(option)
    at = f"hydra.searchpath=[file://{tmp_path}/began/conf]"
    done = command(*words, at, "dataset=bytes", "hydra.run.dir=run", cwd=tmp_path / "began")
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = rebuttal.load("../began/run", packages=["mine_of_bytes"])
    inputs, labels = run.inputs("train")
    assert (predict(run.network("fit"), inputs).argmax(1) == labels).double().mean().item() == (
        run.metrics["fit/train_accuracy"]
    )
    again = command("from_run=../began/run", "packages=[mine_of_bytes]", "hydra.run.dir=again", cwd=Path.cwd())
    assert again.returncode == 0, again.stderr
    assert f"dataset.root={tmp_path}/began/bytes, seen from where that run was started" in again.stderr
    assert rebuttal.load("again", packages=["mine_of_bytes"]).metrics == run.metrics
    monkeypatch.chdir(tmp_path / "began")
    kept = rebuttal.load("run", packages=["mine_of_bytes"]).stages["fit"].dataset
    assert kept.root == "bytes"  # which may be part of what a dataset of the user's is
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "began/bytes").rename(tmp_path / "moved")
    moved = rebuttal.load("../began/run", root=tmp_path / "moved", packages=["mine_of_bytes"])
    assert torch.equal(moved.inputs("train")[0], inputs)


def test_root_for_a_run_whose_data_lie_nowhere_is_one_line(run, tmp_path):
    with pytest.raises(ConfigError, match=rf"^root={tmp_path}: no dataset of this run has a key root or path; allowed"):
        rebuttal.load(run.folder, root=tmp_path, packages=["mine_to_load"])


def test_the_store_of_the_run_is_preferred_to_one_of_the_same_name_here(place, monkeypatch, tmp_path):
    (tmp_path / "outputs/store").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(place))
    found = rebuttal.load(place / "sweep/0", packages="mine_to_load")
    kept = torch.from_numpy(found.arrays["logits/teacher"])
    assert torch.equal(predict(found.network("teacher"), found.inputs()[0]), kept)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """A run with snapshots, of trainings of 2 to 24 steps, and one that found its networks in the store."""
    place = tmp_path_factory.mktemp("snapshots")
    words = ["debug=tiny", "device=cpu", "training.batch_size=20"]
    for run, more in (("without", []), ("late", ["snapshots=log"]), ("with", ["snapshots=log", "store=own"])):
        done = command(*words, *more, f"hydra.run.dir={run}", cwd=place)
        assert done.returncode == 0, done.stdout + done.stderr
        (place / f"{run}.txt").write_text(done.stdout + done.stderr)
    return place


@pytest.fixture
def kept(snapshots, monkeypatch):
    monkeypatch.chdir(snapshots)
    return rebuttal.load("with")


@pytest.mark.slow
def test_snapshots_are_the_weights_of_the_training_from_its_first_step_to_its_last(kept):
    inputs, _ = kept.inputs("test")
    fit, session = kept.stages["teacher"], kept._session()
    final, last = kept.network("teacher"), kept.history.query("stage == 'teacher'")["step"].max()
    assert torch.equal(predict(kept.network("teacher", step=last), inputs), predict(final, inputs))
    initial = fit.initial_network(session).eval()
    assert torch.equal(predict(kept.network("teacher", step=0), inputs), predict(initial, inputs))
    steps = [step for step in (0, 1, 2, 4, 8, 16) if step < last]
    logits = [predict(kept.network("teacher", step=step), inputs) for step in (*steps, last)]
    assert len(steps) >= 4 and not any(torch.equal(a, b) for a, b in pairwise(logits))
    for step in (-1, 3, 10**6):
        with pytest.raises(ConfigError, match=rf"^teacher: step={step}: is not kept; allowed: 0, 1, 2, 4.*, {last}$"):
            kept.network("teacher", step=step)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student", "curve.students.hard"])
def test_students_have_snapshots_too(kept, name):
    inputs, _ = kept.inputs("test")
    assert not torch.equal(predict(kept.network(name, step=1), inputs), predict(kept.network(name), inputs))


@pytest.mark.slow
def test_snapshots_change_no_number_and_train_nothing_again(snapshots, monkeypatch):
    monkeypatch.chdir(snapshots)
    without, late, with_ = (rebuttal.load(name) for name in ("without", "late", "with"))
    assert without.metrics == late.metrics == with_.metrics
    for name in ("teacher", "student"):
        final = [run.network(name).state_dict() for run in (without, with_)]
        assert all(torch.equal(final[0][key], final[1][key]) for key in final[1])
    told = "is stored without any; force=true trains it again, and computes all else anew"
    assert told in (snapshots / "late.txt").read_text() and told not in (snapshots / "with.txt").read_text()
    assert not (snapshots / "outputs/store/snapshot").exists()
    last = without.history.query("stage == 'teacher'")["step"].max()
    with pytest.raises(ConfigError) as error:
        late.network("teacher", step=1)
    assert str(error.value) == (
        f"teacher: step=1: is not kept; allowed: {last}; for others to train it: python -m rebuttal.train "
        "from_run=late, with snapshots=log force=true"
    )
    again = command("from_run=without", "snapshots=log", "force=true", "hydra.run.dir=again", cwd=snapshots)
    assert again.returncode == 0, again.stdout + again.stderr
    first, second = rebuttal.load("again"), rebuttal.load("with")
    for step in (0, 1, last):
        found = [run.network("teacher", step=step).state_dict() for run in (first, second)]
        assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    shutil.rmtree("outputs/store")
    shutil.rmtree("again")


def test_a_resumed_training_has_the_snapshots_of_an_uninterrupted_one(tmp_path):
    """Those of before the interruption were kept when it came."""
    store = Store(tmp_path)
    for step, value in ((2, 1.0), (2, 2.0)):
        store.keep(SNAPSHOT, snapshot_identity("net", step), Artifact({}, {"w": torch.tensor(value)}), anew=True)
    assert store.get(SNAPSHOT, snapshot_identity("net", 2)).tensors["w"].item() == 2.0
    assert log_spaced(0) == [] and log_spaced(1) == [0] and log_spaced(8) == [0, 1, 2, 4]
    assert [step for step in range(20) if is_log_spaced(step)] == [*log_spaced(20)] == [0, 1, 2, 4, 8, 16]


@pytest.mark.slow
def test_logits_are_kept_beside_the_network_on_request(kept, snapshots):
    inputs, _ = kept.inputs("test")
    for name in ("teacher", "student", "hash_teacher.teacher"):
        assert torch.equal(kept.logits(name), predict(kept.function(name), inputs))
    assert torch.equal(kept.logits("teacher", step=1), predict(kept.network("teacher", step=1), inputs))
    assert not (snapshots / "own/logits").exists()
    logits = kept.logits("student", keep=True)
    assert torch.equal(kept.logits("student"), logits) and torch.equal(rebuttal.load("with").logits("student"), logits)
    kept.logits("student", step=1, keep=True)
    assert len([*Path("own/logits").glob("*/weights.safetensors")]) == 2
    with pytest.raises(ConfigError, match=r"^hash_teacher\.teacher: keep=True: is made of no network; allowed: "):
        kept.logits("hash_teacher.teacher", keep=True)
    with pytest.raises(ConfigError, match=r"^comparison: is no network or function; allowed: "):
        kept.logits("comparison")
    with pytest.raises(ConfigError, match=r"^hash_teacher\.teacher: is a function without a network; use "):
        kept.network("hash_teacher.teacher", step=0)


@pytest.mark.slow
def test_what_is_kept_beside_a_network_stays_and_goes_with_it(kept, snapshots, monkeypatch, tmp_path):
    kept.logits("teacher", keep=True)
    shutil.copytree("own", tmp_path / "own")
    shutil.copytree("with", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)

    def found(*kinds):
        return {path for kind in kinds for path in Path("own", kind).glob("*/record.json")}

    before = found("fit", "mimic", "snapshot", "logits")
    listed = subprocess.run(
        [sys.executable, "-m", "rebuttal.store", "list", "--store=own", "runs"], capture_output=True, text=True
    ).stdout
    assert "weights after 1 step" in listed and "logits of " in listed and "no run found" not in listed
    prune = ["-m", "rebuttal.store", "prune", "--store=own", "--idle=0", "--yes", "runs"]
    subprocess.run([sys.executable, *prune], check=True)
    assert found("fit", "mimic", "snapshot", "logits") == before and len(found("snapshot")) > 10
    shutil.rmtree("runs")
    Path("runs").mkdir()
    subprocess.run([sys.executable, *prune, "--all"], check=True)
    assert found("fit", "mimic", "snapshot", "logits") == set()
