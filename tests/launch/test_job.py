"""One job, where a sweeper learns from its result: a sweeper of that kind, by Hydra's own interface."""

import json
from statistics import fmean

import pytest
from omegaconf import OmegaConf

from tests.command_line import ONE_NETWORK, ROOT, command, process
from tests.launch.test_watch import INCOMPLETE, MINE, ODD, table

LEARNER = """
from dataclasses import dataclass
from typing import Any
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

@dataclass
class Config:
    _target_: str = "hydra_plugins.learner.Learner"
    max_failure_rate: float = 0.0
    params: Any = None

ConfigStore.instance().store(group="hydra/sweeper", name="learner", node=Config)

class Learner(Sweeper):
    def __init__(self, max_failure_rate, params):
        self.max_failure_rate = max_failure_rate

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function)

    def sweep(self, arguments):
        key, _, values = next(word for word in arguments if "," in word).partition("=")
        fixed = [word for word in arguments if "," not in word]
        for number, value in enumerate(values.split(",")):
            (ret,) = self.launcher.launch([[*fixed, f"{key}={value}"]], initial_job_idx=number)
            try:
                print("LEARNT", float(ret.return_value), flush=True)
            except Exception as error:
                print("TRIAL", error, flush=True)
                if self.max_failure_rate == 0:
                    raise
"""

RARE = """
from pathlib import Path
from torch import nn
from rebuttal.config import checked

@checked
class Rare:
    fails: bool

    def network(self, shape, classes):
        if self.fails and Path("sweep/0/seed_1").exists():
            raise ValueError("no more")
        return nn.Sequential(nn.Flatten(), nn.Linear(8, classes))
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/learner.py").write_text(LEARNER)
    (tmp_path / "mine.py").write_text(MINE)
    asked = ["-m", *ONE_NETWORK, "hydra.sweeper.params=null", "hydra/sweeper=learner", "hydra.sweep.dir=sweep"]

    def run(*overrides):
        return process(*asked, *overrides, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")

    return run


def lines(done):
    return [line for line in done.stdout.splitlines() if line.startswith(("LEARNT", "TRIAL"))]


@pytest.mark.slow
def test_a_metric_that_is_undefined_fails_its_trial_and_the_study_goes_on(study, tmp_path):
    done = study("objective=fit/epochs_to_fit", "training.epochs=1,2")
    undefined = "objective=fit/epochs_to_fit: undefined in this run"
    assert lines(done) == [f"TRIAL {undefined}"] * 2
    assert done.returncode == 1 and done.stderr.endswith(INCOMPLETE)
    assert table(done.stdout) == ({0: "failed", 1: "failed"}, "2 failed")
    assert (tmp_path / "sweep/1/error.txt").read_text().splitlines()[0] == undefined


@pytest.mark.slow
def test_a_metric_that_is_defined_is_learnt_and_a_failed_trial_is_not(study, tmp_path):
    done = study("objective=fit/train_accuracy", "training.lr=1e-3,-1,2e-3")
    accuracies = [
        json.loads((tmp_path / f"sweep/{job}/metrics.json").read_text())["fit/train_accuracy"] for job in "02"
    ]
    wrong = "training.lr=-1: input should be greater than 0"
    assert lines(done) == [f"LEARNT {accuracies[0]}", f"TRIAL {wrong}", f"LEARNT {accuracies[1]}"]
    assert table(done.stdout) == ({0: "done", 1: "failed", 2: "done"}, "2 done, 1 failed")


@pytest.mark.slow
def test_a_study_that_is_to_stop_names_why(study):
    done = study("objective=fit/epochs_to_fit", "training.epochs=1,2", "hydra.sweeper.max_failure_rate=0.0")
    assert done.returncode == 1 and len(lines(done)) == 1
    reason = "rebuttal: the sweep ended early: objective=fit/epochs_to_fit: undefined in this run\n"
    assert done.stderr.endswith(reason + INCOMPLETE)


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_not_learnt(study):
    done = study("objective=fit/train_accuracy", *ODD, "+model.what=go,die", "hydra/launcher=local")
    assert [line.partition(" ")[0] for line in lines(done)] == ["LEARNT", "TRIAL"]
    assert lines(done)[1] == "TRIAL its process died without an error message"
    assert table(done.stdout) == ({0: "done", 1: "cut short"}, "1 done, 1 cut short")


def metric(folder, name="fit/train_accuracy"):
    return json.loads((folder / "metrics.json").read_text())[name]


@pytest.mark.slow
def test_the_objective_of_a_trial_is_the_mean_over_its_seeds(study, tmp_path):
    done = study("objective=fit/train_accuracy", "training.lr=1e-2,-1", "seeds_per_trial=3", "seed=7")
    runs = [tmp_path / "sweep/0", tmp_path / "sweep/0/seed_8", tmp_path / "sweep/0/seed_9"]
    accuracies = [metric(run) for run in runs]
    assert len(set(accuracies)) > 1
    assert lines(done) == [
        f"LEARNT {fmean(accuracies)}", "TRIAL training.lr=-1: input should be greater than 0"
    ]  # fmt: skip
    assert table(done.stdout) == ({0: "done", 1: "failed"}, "1 done, 1 failed")
    assert json.loads((tmp_path / "sweep/0/status.json").read_text())["computed"] == 3
    again = command("from_run=sweep/0/seed_8", "store=other", "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert metric(tmp_path / "again") == accuracies[1]


@pytest.mark.slow
def test_a_trial_fails_with_any_of_its_seeds_and_the_study_goes_on(study, tmp_path):
    (tmp_path / "rare.py").write_text(RARE)
    rare = ["packages=[rare]", "model._target_=rare.Rare", "~model.hidden", "~model.dropout"]
    done = study("objective=fit/train_accuracy", *rare, "+model.fails=true,false", "seeds_per_trial=2")
    assert [line.partition(" ")[0] for line in lines(done)] == ["TRIAL", "LEARNT"]
    assert table(done.stdout) == ({0: "failed", 1: "done"}, "1 failed, 1 done")
    assert (tmp_path / "sweep/0/metrics.json").exists() and not (tmp_path / "sweep/0/seed_1/metrics.json").exists()


def test_optuna_searches_the_rate_and_reports_no_seed(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    asked = ["-m", *ONE_NETWORK, "training.optimizer=sgd", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1"]
    asked += [
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.sampler.seed=0",
        "objective=fit/train_accuracy",
        "training.lr=choice(1e-3,1e30)",
    ]
    done = process(*asked, "seeds_per_trial=2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # because a trial failed
    states, counts = table(done.stdout)
    assert set(states) == {0, 1, 2, 3} and set(states.values()) == {"done", "failed"}, counts
    good = next(job for job, state in states.items() if state == "done")
    best = OmegaConf.load(tmp_path / "sweep/optimization_results.yaml")
    assert best.best_params == {"training.lr": 0.001}
    runs = [tmp_path / f"sweep/{good}", tmp_path / f"sweep/{good}/seed_1"]
    assert best.best_value == fmean(metric(run) for run in runs)


def test_without_a_sweeper_that_learns_an_undefined_objective_is_no_error(tmp_path):
    asked = [*ONE_NETWORK, "objective=fit/epochs_to_fit", "training.epochs=1"]
    assert command(*asked, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["fit/epochs_to_fit"] is None
