import json
import threading

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import rebuttal
from rebuttal.errors import ConfigError
from tests.command_line import ONE_NETWORK
from tests.conftest import save_images

ONE = ONE_NETWORK[1:]  # `rebuttal.run` has the experiment's name


def test_run_gives_a_row_a_metric(tmp_path):
    frame = rebuttal.run("two_stage", ["debug=tiny", "model=mlp_toy", f"store={tmp_path}"])
    assert list(frame.columns) == ["stage", "measure", "value"]
    found = frame.set_index(["stage", "measure"])["value"]
    assert found["student", "student_size"] == 60
    assert 0 <= found["student", "agreement"] <= 1
    with pytest.raises(ConfigError, match=r"^training\.epochs=0: "):
        rebuttal.run("toy", ["training.epochs=0", f"store={tmp_path}"])


def test_the_run_s_files_are_left_where_asked(tmp_path):
    rebuttal.run("baseline", [*ONE, f"store={tmp_path / 'store'}"], folder=tmp_path / "run")
    assert OmegaConf.load(tmp_path / "run/config.yaml").stages.fit.training.epochs == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["fit/epochs"] == 2


def test_a_run_with_a_relative_store_is_loaded_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rebuttal.run("baseline", ONE, folder="run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    network = rebuttal.load(tmp_path / "run").network("fit")
    assert isinstance(network, torch.nn.Module) and not list((tmp_path / "elsewhere").iterdir())


def test_the_baseline_replication_is_a_row_a_network(tmp_path, capsys):
    save_images(tmp_path / "images", {f"{s}/{c}": 60 for s in ("train", "test") for c in "ab"}, size=(32, 32))
    overrides = ["debug=tiny", "dataset=image_folder", f"dataset.root={tmp_path / 'images'}", f"store={tmp_path}"]
    frame = rebuttal.run_baseline_replication(["linear", "mlp_toy"], [4, 5], epochs=3, overrides=overrides)
    assert list(zip(frame["architecture"], frame["labels"], frame["seed"]))[:3] == [
        ("linear", "none", 4),
        ("linear", "none", 5),
        ("linear", "random", 4),
    ]
    assert len(frame) == 8
    assert (frame["epochs"] == 3).all()
    assert (frame.groupby("labels")["label_noise"].max() > 0).tolist() == [False, True]
    assert capsys.readouterr().out.count("train ") == 8


def test_a_program_that_uses_hydra_and_has_other_settings_gets_the_same_numbers_and_keeps_its_own(tmp_path):
    usual = rebuttal.run("baseline", [*ONE, f"store={tmp_path / 'usual'}"])
    (tmp_path / "mine.yaml").write_text("a: 3\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        instance, resolvers = GlobalHydra.instance(), dict(BaseContainer._resolvers)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
                found = [rebuttal.run("baseline", [*ONE, f"store={tmp_path / name}"]) for name in ("one", "two", "two")]
                with pytest.raises(ConfigError):
                    rebuttal.run("baseline", [*ONE, "training.lr=-1"])
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        assert GlobalHydra.instance() is instance and dict(BaseContainer._resolvers) == resolvers
        assert compose("mine").a == 3
    assert all(frame.equals(usual) for frame in found)


def test_runs_of_several_threads_give_the_numbers_of_single_ones(tmp_path):
    found = {}

    def run(job):
        found[job] = rebuttal.run("baseline", [*ONE, f"seed={job % 2}", f"store={tmp_path / str(job)}"])

    threads = [threading.Thread(target=run, args=(job,)) for job in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [rebuttal.run("baseline", [*ONE, f"seed={seed}", f"store={tmp_path / 'alone'}"]) for seed in (0, 1)]
    assert all(found[job].equals(alone[job % 2]) for job in range(4))
    assert not alone[0].equals(alone[1])


REFUSED = {
    "training.lrr=3": "training.lrr=3: unknown key; allowed here: augmentation, ",
    "model=resnet81": "model=resnet81: no such option; allowed: airbench, alexnet_small, ",
    "training.lr=${nix}": "training.lr: refers to a key that is not there ",
    "dataset.root=/a(b)": "dataset.root=/a(b): Hydra's grammar does not take it; write 'dataset.root=\"/a(b)\"'",
    "seed=1 debug=tiny": "seed=1 debug=tiny: Hydra's grammar does not take it; write 'seed=1' 'debug=tiny'",
    "seed": 'seed: is not of the form key=value; allowed from Python: overrides, e.g. "seed=0"',
    "-m": "-m: is not of the form key=value; allowed from Python: ",
    "training.crop=None": "preprocess.crop=None: none is called null here; write 'preprocess.crop=null'",
    "hydra.run.dir=x": "hydra.run.dir=x: has no effect from Python; allowed: the argument folder= of rebuttal.run",
    "++hydra.output_subdir=.h": "++hydra.output_subdir=.h: has no effect from Python; allowed: the argument folder= ",
    "hydra.sweep.dir=x": "hydra.sweep.dir=x: has no effect from Python; allowed: one run a call; for a sweep python -m",
    "hydra.launcher.n_jobs=2": "hydra.launcher.n_jobs=2: has no effect from Python; allowed: one run a call; for a ",
    "hydra/launcher=slurm": "hydra/launcher=slurm: has no effect from Python; allowed: one run a call; for a sweep ",
    "hydra/sweeper@hydra.sweeper=basic": "hydra/sweeper@hydra.sweeper=basic: has no effect from Python; allowed: one ",
    "hydra.mode=MULTIRUN": "hydra.mode=MULTIRUN: has no effect from Python; allowed: one run a call; for a sweep ",
    "~hydra.sweeper.params": "~hydra.sweeper.params: has no effect from Python; allowed: one run a call; for a sweep ",
    "hydra.job_logging.root.level=DEBUG": "hydra.job_logging.root.level=DEBUG: has no effect from Python; allowed: of ",
    "hydra/job_logging=none": "hydra/job_logging=none: has no effect from Python; allowed: of Hydra's settings hydra.",
    "+hydra.job.env_set.A=1": "+hydra.job.env_set.A=1: has no effect from Python; allowed: of Hydra's settings hydra.",
    "hydra.verbose=true": "hydra.verbose=true: has no effect from Python; allowed: of Hydra's settings hydra.",
    "experiment=baseline": "experiment=baseline: the run is one of toy; allowed: the experiment as the first argument",
    "seed=0,1": "seed=0,1: several values, and each call is one run; allowed: one, or a list as in key=[1,2]",
    "seeds_per_trial=3": "seeds_per_trial=3: is for a sweeper that learns, such as hydra/sweeper=optuna; ",
    "plan=true": "plan=true: is for commands; allowed: python -m rebuttal.train plan=true",
    "from_run=runs/1": "from_run=runs/1: is for commands; allowed: python -m rebuttal.train from_run=runs/1",
    "objective=student/kapa": "objective=student/kapa: no such metric; ",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_wrong_is_a_config_error_with_the_line(override):
    for given in ([override], override):
        with pytest.raises(ConfigError) as caught:
            rebuttal.run("toy", given)
        assert str(caught.value).startswith(REFUSED[override])


@pytest.mark.parametrize("overrides", [None, {"seed": 1}, 3.5, [1], [None], 7])
def test_overrides_of_a_wrong_type(overrides):
    with pytest.raises(ConfigError, match="allowed: "):
        rebuttal.run("toy", overrides)


def test_folders_of_the_user_s_configs_are_for_python_too(tmp_path):
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("defaults: [mlp]\nhidden: [3]\n")
    overrides = [
        *ONE,
        "model=mine",
        f"hydra.searchpath=[file://{tmp_path}/conf]",
        f"store={tmp_path / 'store'}",
    ]
    rebuttal.run("baseline", overrides, folder=tmp_path / "run")
    assert OmegaConf.load(tmp_path / "run/config.yaml").model.hidden == [3]


def replicate(**given):
    return rebuttal.run_baseline_replication(**given)


WRONG = {
    "folder": [(lambda value: rebuttal.run("toy", folder=value)), [3, b"x", ["a"], 0.5, True, {}]],
    "folder of load": [rebuttal.load, [5, None, b"x", ["a"]]],
    "packages": [(lambda value: rebuttal.load(".", packages=value)), [3, None, b"x", [3], {"a": 1}]],
    "architectures": [(lambda value: replicate(architectures=value)), [None, 0.5, b"mlp", {"mlp": 1}, []]],
    "seeds": [(lambda value: replicate(seeds=value)), [None, 0.5, b"1", {1: 1}, []]],
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_a_wrong_type_is_named_in_words(name):
    call, values = WRONG[name]
    for value in values:
        with pytest.raises(ConfigError) as caught:
            call(value)
        assert str(caught.value).startswith(f"{name.split()[0]}={value!r}: allowed: ")


def test_a_home_that_is_not_there_is_one_line(tmp_path):
    for call in (lambda: rebuttal.run("toy", folder="~nobody-at-all/x"), lambda: rebuttal.load("~nobody-at-all/x")):
        with pytest.raises(ConfigError, match=r"^folder='~nobody-at-all/x': Could not determine home directory"):
            call()


def test_a_single_value_is_taken_where_a_list_is_meant(tmp_path):
    save_images(tmp_path / "images", {f"{s}/{c}": 60 for s in ("train", "test") for c in "ab"}, size=(8, 8))
    overrides = ["debug=tiny", "dataset=image_folder", f"dataset.root={tmp_path / 'images'}", f"store={tmp_path}"]
    frame = rebuttal.run_baseline_replication("linear", 4, epochs=1, verbose=False, overrides=overrides)
    assert frame[["architecture", "labels", "seed"]].values.tolist() == [["linear", "none", 4], ["linear", "random", 4]]
    with pytest.raises(ConfigError, match=r"^model=lineer: no such option; .*; nearest: linear$"):
        rebuttal.run_baseline_replication("lineer", 4, overrides=overrides)
    with pytest.raises(ConfigError, match=r"^training\.epochs=10\.0: input should be a valid integer; write 10$"):
        rebuttal.run_baseline_replication("linear", 4, epochs=1e1, overrides=overrides)
