"""The command line, as a user meets it: real processes, real folders."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

import rebuttal
from rebuttal import train
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.report.claims import read_claims
from rebuttal.runs.build import build_run
from rebuttal.stages.session import Session
from rebuttal.stages.stage import trainings
from rebuttal.store import written
from rebuttal.store.files import write_bytes
from tests import golden
from tests.command_line import ONE_NETWORK, ROOT, command
from tests.conftest import save_images
from tests.golden import EXPERIMENTS
from tests.parameters import some_slow


def runs(folder):
    return sorted(path.parent for path in folder.rglob("metrics.json"))


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    counts = {f"{split}/{name}": 80 for split in ("train", "test") for name in ("cat", "dog")}
    save_images(root, counts, size=(32, 32))
    return f"dataset.root={root}"


UNTRAINED = ("interpolation",)  # experiments without trained networks, and so without curves
SLOW = ("architectures", "leak", "map", "questions", "random_walk", "smoothness", "two_stage")


@pytest.mark.parametrize("experiment", some_slow(EXPERIMENTS, *SLOW))
def test_every_experiment_runs_in_debug_size_and_leaves_what_a_run_leaves(experiment, tmp_path, monkeypatch):
    images = golden.save_golden_images(tmp_path / "images")
    done = command(*golden.overrides(experiment, images), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "outputs")
    golden.assert_golden(experiment, run)
    metrics = metrics_of(run)
    stages = {name.split("/")[0] for name in metrics}
    trains = experiment not in UNTRAINED
    assert bool(stages & {"fit", "teacher", "true_labels"}) == trains
    assert all(value is None or isinstance(value, (int, float)) for value in metrics.values())
    shares = [v for name, v in metrics.items() if name.endswith(("accuracy", "agreement")) and v is not None]
    assert shares and all(0 <= value <= 1 for value in shares)
    for claim in (c for c in read_claims() if c.experiment == experiment):
        assert without_counts(claim.metrics) <= without_counts(metrics), claim.id
    config = OmegaConf.load(run / "config.yaml")
    assert (run / "history.csv").exists() == trains
    if trains:
        history = pd.read_csv(run / "history.csv")
        assert (history.groupby("stage")["epoch"].max() <= 2).all()
        first = next(stage for stage in config.stages.values() if "training" in stage)
        assert first.training.epochs == 2  # resolved
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["process"]["torch"] and set(provenance["stages"]) == set(config.stages)
    assert provenance["config"]["name"] == experiment
    assert provenance["config"] == OmegaConf.to_container(config)
    monkeypatch.chdir(tmp_path)
    settings, stages = build_run(OmegaConf.to_container(config))
    trained = {name for name in provenance["computed"] if name.startswith(("fit/", "mimic/"))}
    assert set(trainings(stages.values(), Session(settings))) == trained  # what plan=true would have told
    pictures = list((run / "figures").glob("*.png"))
    assert bool(pictures) == ("pictures: " in done.stdout) == trains and all(
        p.read_bytes().startswith(b"\x89PNG") for p in pictures
    )
    assert run.parent.name == experiment


def without_counts(names):
    """Names of metrics without the numbers of inputs in them, of which a debug run has fewer."""
    return {re.sub(r"(_\d+)+$", "", name) for name in names}


@pytest.mark.slow
def test_a_folder_that_holds_this_very_run_is_left_as_it_is_and_another_is_written_anew(tmp_path):
    at = [*ONE_NETWORK, "hydra.run.dir=run"]
    assert command(*at, cwd=tmp_path).returncode == 0
    assert command(*at, "training.lr=1e30", "training.optimizer=sgd", cwd=tmp_path).returncode == 2
    assert (tmp_path / "run" / "error.txt").exists()
    assert "0 results computed" in command(*at, cwd=tmp_path).stdout  # done again, and whole again
    assert not (tmp_path / "run" / "error.txt").exists()
    before = (tmp_path / "run" / "metrics.json").stat().st_mtime_ns
    again = command(*at, cwd=tmp_path)
    assert again.returncode == 0 and "nothing to do: " in again.stdout
    assert (tmp_path / "run" / "metrics.json").stat().st_mtime_ns == before
    other = command(*at, "seed=1", cwd=tmp_path)
    assert "nothing to do" not in other.stdout and (tmp_path / "run" / "metrics.json").stat().st_mtime_ns != before


@pytest.mark.slow
def test_a_run_that_dies_while_it_writes_into_the_folder_of_another_leaves_nothing_of_that_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def found(seed, folder):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return train.run(compose("train", [*ONE_NETWORK, f"seed={seed}"]), folder)

    first, other = found(0, "run"), found(1, "elsewhere")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(written, "write_bytes", dying_at("metrics.json"))
        found(1, "run")
    assert found(1, "run") == other != first


@pytest.mark.slow
def test_a_figure_that_fails_costs_no_number_and_is_drawn_by_a_rerun(tmp_path, monkeypatch):
    at = [*ONE_NETWORK, "hydra.run.dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr("rebuttal.figures.training.training_curves", None)
        done = command(*at, cwd=tmp_path)
    assert done.returncode == 0
    assert "the figures of stage fit failed (TypeError: " in done.stdout
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["state"] == "done" and status["figures_failed"] == ["fit"]
    assert metrics_of(tmp_path / "run") and (tmp_path / "run/history.csv").exists()
    assert not (tmp_path / "run/figures/fit_curves.png").exists()
    again = command(*at, cwd=tmp_path)
    assert "0 results computed" in again.stdout and (tmp_path / "run/figures/fit_curves.png").exists()
    assert "nothing to do" in command(*at, cwd=tmp_path).stdout


def dying_at(name):
    def write(path, content):
        if path.name == name:
            raise KeyboardInterrupt
        write_bytes(path, content)

    return write


@pytest.mark.slow
def test_pictures_and_tables_of_another_run_in_the_folder_are_not_taken_for_this_one_s(images, tmp_path):
    assert command("debug=tiny", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    baseline = ["experiment=baseline", "dataset=image_folder", images, "debug=tiny"]
    assert command(*baseline, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "run/figures").iterdir()] == ["fit_curves.png"]
    again = command("-m", *baseline, "hydra.sweeper.params=null", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert "1 from store" in again.stdout
    assert [path.name for path in (tmp_path / "sweep/0/figures").iterdir()] == ["fit_curves.png"]
    assert set(pd.read_csv(tmp_path / "sweep/0/history.csv")["stage"]) == {"fit"}


def pictures(run):
    return {path.name: path.read_bytes() for path in (run / "figures").iterdir()}


def test_the_second_run_trains_nothing_draws_nothing_and_gives_the_same_numbers(tmp_path, monkeypatch):
    first = command("debug=tiny", cwd=tmp_path)
    monkeypatch.setattr("rebuttal.figures.training.training_curves", None)
    second = command("debug=tiny", "device=cpu", f"hydra.run.dir={tmp_path / 'elsewhere'}", cwd=tmp_path)
    assert first.returncode == second.returncode == 0
    (first,) = runs(tmp_path / "outputs")
    assert metrics_of(first) == metrics_of(tmp_path / "elsewhere")
    assert pictures(first) == pictures(tmp_path / "elsewhere")
    assert "0 results computed" in second.stdout and "failed" not in second.stdout
    monkeypatch.setattr("rebuttal.runs.folder._drawing_code", lambda: "newer")
    again = command("debug=tiny", f"hydra.run.dir={tmp_path / 'newer'}", cwd=tmp_path)
    assert "the figures of stage teacher failed" in again.stdout


def test_another_setting_and_force_compute_anew_and_force_finds_the_same_numbers(tmp_path):
    first, changed, forced = (
        command(*ONE_NETWORK, *more, cwd=tmp_path) for more in ([], ["training.lr=0.002"], ["force=true"])
    )
    assert first.returncode == changed.returncode == forced.returncode == 0
    assert not any("0 results computed" in done.stdout for done in (first, changed, forced))
    one, other, again = (metrics_of(run) for run in sorted(runs(tmp_path / "outputs")))
    assert one == again != other


@pytest.mark.slow
def test_a_sweep_is_one_call_and_a_failing_job_does_not_stop_the_others(images, tmp_path):
    sweep = ["-m", "experiment=corruption", "model=linear", "dataset=image_folder", images, "debug=tiny"]
    done = command(*sweep, "seed=0,1", "corruption.fraction=0.5,2", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("rebuttal: the sweep is not complete; rerun the command to resume it\n")
    assert "2 done, 2 failed" in done.stdout
    for seed, job in ((0, 2), (1, 3)):
        why = "failed: corruption.fraction=2: input should be less than or equal to 1"
        assert re.search(rf"^job {job} \(\d of 4\): .*corruption.fraction=2 seed={seed} .*: {why}$", done.stdout, re.M)
    found = runs(tmp_path / "multirun")
    assert len(found) == 2
    failed = sorted((tmp_path / "multirun").rglob("error.txt"))
    assert len(failed) == 2
    assert all("corruption.fraction=2" in path.read_text().splitlines()[0] for path in failed)


@pytest.mark.slow
def test_on_failure_stop_begins_no_other_job_and_the_same_command_goes_on(tmp_path):
    sweep = [
        "-m",
        *ONE_NETWORK,
        "hydra.sweeper.params=null",
        "hydra.sweep.dir=sweep",
        "on_failure=stop",
        "training.lr=1e-3,-1,2e-3,3e-3",
    ]
    done = command(*sweep, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 done, 1 failed, 2 not begun" in done.stdout
    for job in "23":
        assert "on_failure=stop: not begun, because job 1 failed" in (tmp_path / f"sweep/{job}/error.txt").read_text()
    again = command(*sweep[:-1], "training.lr=1e-3,2e-3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "1 from store, 1 done" in again.stdout


@pytest.mark.slow
def test_a_failure_in_one_batch_of_jobs_does_not_keep_the_next_batch_from_beginning(tmp_path):
    sweep = ["-m", *ONE_NETWORK, "hydra.sweeper.params=null", "hydra.sweeper.max_batch_size=1"]
    done = command(*sweep, "training.lr=-1,1e-3", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 failed, 1 done" in done.stdout


@pytest.mark.slow
def test_status_tells_of_a_sweep_from_another_terminal(tmp_path):
    assert command("-m", *ONE_NETWORK, "hydra.sweeper.params=null", "seed=0,1", cwd=tmp_path).returncode == 0

    def status(*folders):
        asked = [sys.executable, "-m", "rebuttal.status", *folders]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        return subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True)

    told = status()
    assert told.returncode == 0 and "2 done" in told.stdout
    (sweep,) = (tmp_path / "multirun" / "baseline").iterdir()
    facts = json.loads((sweep / "1" / "status.json").read_text())
    half = facts | {"state": "running", "stage": "curve", "stage_number": 6, "stages": 8, "step": 3, "steps": 9}
    (sweep / "1" / "status.json").write_text(json.dumps(half))
    assert "cut short" in status("multirun").stdout  # nobody holds its lock
    with FileLock(sweep / "1" / ".running.lock"):
        assert "curve (6 of 8), step 3 of at most 9" in status("multirun").stdout
    (sweep / "1" / "status.json").unlink()
    assert "1 done, 1 unknown" in status(str(sweep)).stdout
    nowhere = status("nowhere")
    assert nowhere.returncode == 2 and nowhere.stderr.startswith("rebuttal: no sweep below nowhere; allowed: ")


BAD = {
    "seed=3,4": "seed=3,4: a sweep of several values needs -m; ",
    "training.epohcs=3": "training.epohcs=3: unknown key; allowed here: augmentation, batch_size, ",
    "modell=mlp": "modell=mlp: unknown key; allowed here: batch_size, checkpoint, corruption, dataset, device, ",
    "model=resnet19": "model=resnet19: no such option; allowed: airbench, alexnet_small, ",
    "training.epochs=many": "training.epochs=many: input should be a valid integer",
    "training.lr=0": "training.lr=0: input should be greater than 0",
    "training.batch_size=0": "training.batch_size=0: input should be greater than 0",
    "dataset.classes=0": "dataset.classes=0: input should be greater than or equal to 2",
    "dataset.train_size=-5": "dataset.train_size=-5: input should be greater than 0",
    "dataset.shape=[]": "dataset.shape=(): tuple should have at least 1 item after validation, not 0",
    "seed=-1": "seed=-1: input should be greater than or equal to 0",
    "device=tpu": "device=tpu: input should be 'auto', 'cpu' or 'cuda'",
    "model=resnet18": "model=resnet18: needs images, but the dataset's inputs have shape [100]; allowed here: mlp, ",
    "+answer=42": "answer=42: unknown key; allowed: name, seed, device, store, force, objective",
    "dataset=image_folder": "dataset.root is missing; give it as dataset.root=…",
    "stages.regions.teacher.seed=3": "stages.regions.teacher.seed=3: its parent has no keys of its own here; ",
    "stages.teacher.training.augmentation.padding=4": "stages.teacher.training.augmentation={'padding': 4}: allowed: "
    "an option of the group training/augmentation; choose one first: training/augmentation=alternating_flip",
    "stages.student.target=loud": "stages.student.target=loud: input should be 'hard', 'soft' or 'logit'",
    "training.epochs": "training.epochs: is not of the form key=value; allowed: ",
    "training.crop=None": "preprocess.crop=None: none is called null here; write preprocess.crop=null",
    "training.crop=none": "preprocess.crop=none: input should be a valid integer; none is called null here",
    "dataset.train_size=1e4": "dataset.train_size=10000.0: input should be a valid integer; write 10000",
    "store=~/store": f"store=~/store: Hydra's grammar does not take it; write store={Path.home()}/store",
    "experment=toy": "experment=toy: unknown key; allowed here: ",
    "packages=mine": "packages=mine: input should be a list; write 'packages=[mine]'",
    "objective=student/kapa": "objective=student/kapa: no such metric; allowed: student/agreement, ",
    "objective=studnt/kappa": "objective=studnt/kappa: no such metric; allowed: teacher/…, student/…, ",
    "objective=comparison/kappa": "objective=comparison/kappa: no such metric; allowed: teacher/…, ",
    "objective=none": "objective=none: no such metric; none is called null here: objective=null",
    "training.lr=${training.momentun}": "training.lr: refers to a key that is not there (Interpolation key 'training.",
    "+stages.comparison.students.x=${stages.techer}": "stages.comparison.students.x: refers to a key that is ",
}


@pytest.mark.parametrize("override", BAD)
def test_a_bad_override_ends_in_one_line_before_any_work(override, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["rebuttal-train", override])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"rebuttal: {BAD[override]}")
    assert not runs(tmp_path) and not list(tmp_path.rglob("*.safetensors"))


INTERPOLATED = [
    "debug=tiny",
    "+stages.comparison.students.teacher=${stages.teacher}",
    "training.lr=${training.weight_decay}",
]


@pytest.mark.slow
def test_an_interpolation_on_the_command_line(tmp_path):
    done = command(*INTERPOLATED, "training.weight_decay=0.01", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(tmp_path / "run/config.yaml")
    assert config.stages.comparison.students.teacher == config.stages.teacher
    assert config.stages.teacher.training.lr == 0.01
    assert (tmp_path / "run/figures/comparison_agreement.png").exists()
    assert json.loads((tmp_path / "run/status.json").read_text())["overrides"][:3] == INTERPOLATED
    again = command("from_run=run", "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "0 results computed" in again.stdout
    assert OmegaConf.load(tmp_path / "again/config.yaml") == config


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_an_interpolation_in_a_sweep(launcher, tmp_path):
    sweep = [
        "-m",
        *INTERPOLATED,
        "training.weight_decay=0.01,0.02",
        "hydra.sweeper.params=null",
        "hydra.sweep.dir=sweep",
    ]
    done = command(*sweep, f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rates = [OmegaConf.load(tmp_path / f"sweep/{job}/config.yaml").stages.teacher.training.lr for job in "01"]
    assert rates == [0.01, 0.02]
    wrong = command(*sweep, "seed=${nix}", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert wrong.returncode == 2  # no job can run
    (line,) = wrong.stderr.splitlines()
    assert line.startswith("rebuttal: seed: refers to a key that is not there")


@pytest.mark.slow
def test_an_objective_that_no_run_has_is_refused_of_a_finished_sweep_too(tmp_path):
    sweep = ["-m", "debug=tiny", "seed=0", "hydra.sweeper.params=null"]
    assert command(*sweep, "objective=student/kappa", cwd=tmp_path).returncode == 0
    again = command(*sweep, "objective=student/kapa", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("rebuttal: objective=student/kapa: no such metric; allowed: student/agreement, ")


GONE = "the working directory has been deleted; allowed: to run in one that exists"


@pytest.mark.parametrize(
    "asked",
    [
        *("rebuttal.train debug=tiny", "rebuttal.status", "rebuttal.report"),
        *("rebuttal.store list", "rebuttal.store size", "rebuttal.store import {there}/mine.tar"),
    ],
)
def test_a_deleted_working_directory(asked, tmp_path):
    words = asked.format(there=tmp_path)
    script = f'mkdir gone; cd gone; rmdir ../gone; "{sys.executable}" -m {words}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"rebuttal: {GONE}\n")


def test_a_working_directory_that_is_deleted_before_or_after_the_import_from_python(tmp_path, monkeypatch):
    script = f'mkdir gone; cd gone; rmdir ../gone; "{sys.executable}" -c "import rebuttal; rebuttal.run(\'toy\')"'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"rebuttal.errors.ConfigError: {GONE}"
    run, load, replicate = rebuttal.run, rebuttal.load, rebuttal.run_baseline_replication
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (lambda: run("toy"), lambda: load("runs/1"), replicate):
        with pytest.raises(ConfigError, match=f"^{re.escape(GONE)}$"):
            call()


def test_corruption_out_of_range(images, tmp_path):
    done = command("experiment=corruption", "dataset=image_folder", images, "corruption.fraction=1.5", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "rebuttal: corruption.fraction=1.5: input should be less than or equal to 1\n"


def test_a_diverging_run_says_what_to_try_and_leaves_no_metrics(tmp_path):
    done = command(*ONE_NETWORK, "training.lr=1e30", "training.optimizer=sgd", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "the loss became" in line and "training.lr (now 1e+30)" in line
    assert not runs(tmp_path)
    (error,) = (tmp_path / "outputs").rglob("error.txt")
    assert error.read_text().splitlines()[0] in line


def test_cuda_where_there_is_none(tmp_path):
    done = command("device=cuda", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stderr == "rebuttal: device=cuda: no CUDA device is visible here; allowed: auto, cpu\n"


def test_help_shows_the_groups_the_experiments_and_commands_to_copy(tmp_path):
    text = command("--help", cwd=tmp_path).stdout
    for group in ("model", "dataset", "corruption", "training", "stage", "experiment"):
        assert f"{group}: " in text
    assert all(name in text for name in EXPERIMENTS)
    assert text.count("python -m rebuttal.train ") == 3


@pytest.mark.parametrize("question", ["--help", "--cfg"])
def test_questions_are_answered_without_importing_torch(question, tmp_path):
    asked = [question] if question == "--help" else ["--cfg", "job"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rebuttal.train", *asked],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "hydra.main" in imported
    assert not imported & {"torch", "torchvision", "pandas", "matplotlib"}


@pytest.mark.parametrize("folder", some_slow(["run", "another"], "another"))
def test_a_run_that_is_stored_imports_nothing_that_only_computing_needs(folder, tmp_path):
    assert command("debug=tiny", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    code = "import atexit, sys; atexit.register(lambda: print('imported', *sys.modules)); from rebuttal import train"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; train.main()", "debug=tiny", f"hydra.run.dir={folder}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.partition("imported ")[2].split())
    assert "torch" in imported
    heavy = {"scipy.stats", "scipy.sparse", "matplotlib", "torchvision", "statsmodels", "torch._dynamo", "joblib"}
    assert not imported & (heavy | ({"pandas"} if folder == "run" else set()))


def test_a_single_run_composes_its_config_once_and_records_what_hydra_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed, compose = [], ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda *args, **kinds: composed.append(1) or compose(*args, **kinds)
    )
    for place, flags in (("ours", []), ("hydra_s", ["--config-dir", "."])):
        monkeypatch.setattr(sys, "argv", ["train", *ONE_NETWORK, f"hydra.run.dir={place}", *flags])
        train.main()
    assert len(composed) == 1 + 3
    records = (Path(place, ".hydra/hydra.yaml").read_text() for place in ("ours", "hydra_s"))
    ours, hydra_s = nodes = [yaml.safe_load(record)["hydra"] for record in records]
    for node in nodes:
        assert node.pop("run")["dir"] == node["runtime"].pop("output_dir")
        del node["overrides"], node["runtime"]["config_sources"], node["searchpath"]
    assert ours == hydra_s


def test_a_user_s_own_config_folder_is_found(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text("_target_: rebuttal.models.MLP\nhidden: [4]\n")
    done = command(*ONE_NETWORK, f"hydra.searchpath=[file://{tmp_path / 'mine'}]", "model=tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "outputs")
    assert metrics_of(run)["fit/parameters"] == 8 * 4 + 4 + 4 * 10 + 10


def test_a_config_file_cannot_have_anything_imported(tmp_path):
    """Only whoever gives the command says from which packages classes may come."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    stage = "stages: {x: {_target_: subprocess.Popen, args: [touch, harm]}}"
    (tmp_path / "mine/experiment/strange.yaml").write_text(
        f"# @package _global_\nname: strange\npackages: [subprocess]\n{stage}\n"
    )
    at = [f"hydra.searchpath=[file://{tmp_path / 'mine'}]", "experiment=strange"]
    done = command(*at, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "rebuttal: packages=['subprocess']: a config file lists them; allowed: to list them on the command line, as "
        "packages=[name], or in the project's rebuttal.yaml\n"
    )
    assert not (tmp_path / "harm").exists()
    plan = command(*at, "plan=true", cwd=tmp_path)
    assert plan.returncode == 2 and not (tmp_path / "harm").exists()


@pytest.mark.slow
def test_the_student_may_have_another_architecture(tmp_path):
    done = command("experiment=two_stage", "debug=tiny", "model@stages.student.model=linear", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path / "outputs")
    assert metrics_of(run)["student/parameters"] == 3072 * 10 + 10
    assert metrics_of(run)["teacher/parameters"] == 3072 * 512 + 2 * 512 * 512 + 3 * 512 + 512 * 10 + 10


@pytest.mark.parametrize(("first", "told"), [("last", True), ("every", False)])
def test_accuracies_of_every_epoch_that_the_store_does_not_have_are_said_to_be_missing(first, told, tmp_path):
    sweep = [*ONE_NETWORK, "training.epochs=5"]
    assert command(*sweep, f"evaluate={first}", "hydra.run.dir=first", cwd=tmp_path).returncode == 0
    done = command(*sweep, "evaluate=every", "hydra.run.dir=second", cwd=tmp_path)
    assert done.returncode == 0
    assert ("evaluate=every: fit/" in done.stdout) == told
    assert ("is stored with the accuracies of fewer epochs; force=true trains it again" in done.stdout) == told
