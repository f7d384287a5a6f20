"""`hydra/launcher=stacked`: what all jobs need is trained as one, and each job is what it is elsewhere."""

import json

import pandas as pd
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from rebuttal.launch.stacked import train_networks_of
from rebuttal.store import prune
from rebuttal.store.catalogue import entries
from rebuttal.store.needs import runs_below
from tests.command_line import ONE_NETWORK, command
from tests.launch.test_watch import FAILING, table
from tests.test_train import metrics_of

SWEEP = ["-m", *ONE_NETWORK]
SWEEP += ["hydra.sweeper.params=null", "hydra.sweep.dir=sweep", "stack=always"]


def stacked(*overrides, cwd):
    # In this process, where `command` starts one for other launchers.
    return command(
        *SWEEP, *overrides, "hydra.launcher._target_=hydra_plugins.rebuttal_stacked.StackedLauncher", cwd=cwd
    )


@pytest.mark.slow
def test_each_job_is_what_it_is_alone_trains_nothing_itself_and_is_composed_once(stacks, tmp_path, monkeypatch):
    composed, compose = [], ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_sweep_config", lambda *args, **kinds: composed.append(1) or compose(*args, **kinds)
    )
    done = stacked("seed=0,1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(composed) == 2
    assert stacks == [2] and table(done.stdout) == ({0: "from store", 1: "from store"}, "2 from store")
    alone = command(*SWEEP, "hydra.sweep.dir=alone", "seed=1", "stack=never", "store=apart", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    mine, theirs = metrics_of(tmp_path / "sweep/1"), metrics_of(tmp_path / "alone/0")
    assert mine.keys() == theirs.keys()
    assert mine["fit/train_loss"] == pytest.approx(theirs["fit/train_loss"], rel=1e-3)
    same = ("fit/label_noise", "fit/steps", "fit/epochs", "fit/parameters", "fit/test_size")
    assert [mine[name] for name in same] == [theirs[name] for name in same]
    histories = (pd.read_csv(tmp_path / folder / "history.csv") for folder in ("sweep/1", "alone/0"))
    assert len({tuple(history.columns) for history in histories}) == 1


@pytest.mark.slow
def test_what_was_trained_for_jobs_that_have_not_begun_is_needed_until_they_are_done(stacks, tmp_path, monkeypatch):
    def needed():
        assert stacks == [2]
        runs, store = runs_below([tmp_path / "sweep"], tmp_path / "outputs/store"), entries(tmp_path / "outputs/store")
        assert {entry.name for entry in store} == prune.needed(runs, store)[0] & {entry.name for entry in store}
        return [str(run.folder.relative_to(tmp_path)) for run in runs if run.known]

    def killed(*arguments):
        train_networks_of(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rebuttal.launch.stacked.train_networks_of", killed)
        assert stacked("seed=0,1", cwd=tmp_path).returncode == 130
    assert needed() == ["sweep"] and not (tmp_path / "sweep/0").exists()
    trained = json.loads((tmp_path / "sweep/sweep_needs.json").read_text())["entries"]
    assert stacked("seed=0,1", cwd=tmp_path).returncode == 0
    assert needed() == ["sweep/0", "sweep/1"] and not (tmp_path / "sweep/sweep_needs.json").exists()
    for job in ("0", "1"):
        provenance = json.loads((tmp_path / "sweep" / job / "provenance.json").read_text())
        assert {*provenance["needs"]["entries"]} <= {*trained}


@pytest.mark.slow
def test_a_job_that_fails_and_one_that_is_refused_say_so_and_the_others_are_done(stacks, tmp_path):
    done = stacked("training.lr=1e-3,1e30,-1", "seed=0,1", *FAILING[1:], cwd=tmp_path)
    assert done.returncode == 1 and stacks == [4]
    states, counts = table(done.stdout)
    assert states == {0: "from store", 1: "from store"} | dict.fromkeys(range(2, 6), "failed")
    assert counts == "2 from store, 4 failed"
    for job, why in {2: "the loss became", 4: "training.lr=-1: input should be greater than 0"}.items():
        assert why in (tmp_path / f"sweep/{job}/error.txt").read_text()


@pytest.mark.slow
def test_force_trains_each_job_s_own(stacks, tmp_path):
    done = stacked("force=true", "seed=0,1", cwd=tmp_path)
    assert done.returncode == 0 and stacks == []
