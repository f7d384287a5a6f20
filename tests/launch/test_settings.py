"""What a sweeper that learns from results is given to search: what was asked, never seeds or what -m compares."""

import pytest
from hydra.core.config_store import ConfigStore

from rebuttal.errors import ConfigError
from rebuttal.launch.expand import read_command

SWEEPER = {"_target_": "mine.Learner", "max_failure_rate": 0.0, "search_space": None, "params": None}
ConfigStore.instance().store(group="hydra/sweeper", name="learner", node=SWEEPER)
STUDY = ["-m", "hydra/sweeper=learner", "hydra.sweep.dir=sweep", "objective=fit/train_accuracy"]
LR = "training.lr=interval(1e-4,1e-1)"
NOT_SEARCHED = "hydra/sweeper=learner does not search what the experiment compares by default: "
TOLERATED = "hydra.sweeper.max_failure_rate=1.0"


def asked_of(*overrides):
    """What Hydra is given besides the command line itself."""
    arguments = [*STUDY, *overrides]
    return list(read_command(arguments).arguments[len(arguments) :])


@pytest.fixture
def own(tmp_path):
    """Write an experiment of one's own."""

    def write(text):
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\n" + text)
        return f"--config-dir={tmp_path}", "experiment=mine"

    return write


@pytest.mark.parametrize(("experiment", "compared"), [
    (["experiment=toy"], "seed=0,1,2,3,4"),
    (["experiment=baseline"], "corruption=none,random, seed=0,1,2"),
    (["experiment=corruption"], "corruption.fraction=0,0.25,0.5,0.75,1, seed=0,1,2"),
    (["experiment=toy", "size=study"], "seed=0,1,2,3,4,5,6,7,8,9,10"),
])  # fmt: skip
def test_what_an_experiment_compares_by_default_is_not_searched(experiment, compared, capsys):
    assert asked_of(*experiment, LR) == ["hydra.sweeper.params=null", TOLERATED, "hydra.sweep.dir='sweep'"]
    assert capsys.readouterr().out == f"{NOT_SEARCHED}{compared}\n"


def test_what_the_command_line_gives_as_params_is_searched(capsys):
    given = "hydra.sweeper.params.corruption='none,random'"
    kept = "++hydra.sweeper.params={corruption:'none,random'}"
    assert asked_of("experiment=baseline", given) == [
        "hydra.sweeper.params=null", kept, TOLERATED, "hydra.sweep.dir='sweep'"
    ]  # fmt: skip
    assert capsys.readouterr().out == f"{NOT_SEARCHED}seed=0,1,2\n"


def test_ranges_and_single_values_of_an_experiment_stay(own, capsys):
    """No comparison can be meant by a range, and a single value is no sweep."""
    params = "{seed: '0,1', training.lr: 'interval(1e-4,1e-1)', model: linear}"
    asked = own(f"hydra: {{sweeper: {{params: {params}}}}}\nname: mine\n")
    kept = "++hydra.sweeper.params={training.lr:'interval(1e-4,1e-1)',model:'linear'}"
    assert kept in asked_of(*asked)
    assert capsys.readouterr().out == f"{NOT_SEARCHED}seed=0,1\n"


def test_an_experiment_that_chooses_the_sweeper_says_what_it_searches_but_no_seeds(own):
    defaults = "defaults: [override /hydra/sweeper: learner]\nname: mine\n"
    params = "{seed: '0,1', stages.fit.seeds.order: '0,1', training.epochs: '1,2'}"
    place, experiment = own(f"{defaults}hydra: {{sweeper: {{params: {params}}}}}\n")
    arguments = [place, "-m", "hydra.sweep.dir=sweep", "objective=fit/x", experiment]
    fixed = read_command(arguments).arguments[len(arguments) :]
    assert fixed[:2] == ("hydra.sweeper.params=null", "++hydra.sweeper.params={training.epochs:'1,2'}")


@pytest.mark.parametrize(
    "seeds",
    ["seed=0,1", "seed=range(0,3)", "seed=interval(0,9)", "hydra.sweeper.params.seed='0,1'", "+stages.fit.seed=0,1",
     "hydra.sweeper.params={seed:'0,1'}", "+stages.fit.seeds.data=choice(0,1)"],
)  # fmt: skip
def test_a_search_over_seeds_is_refused(seeds):
    with pytest.raises(ConfigError) as refused:
        asked_of("experiment=toy", LR, seeds)
    assert str(refused.value) == (
        f"{seeds}: hydra/sweeper=learner would search for the luckiest seed; allowed: one seed, and seeds_per_trial=3 "
        "for the mean over several"
    )


def test_a_single_seed_is_no_search():
    assert asked_of("experiment=toy", LR, "seed=3")[0] == "hydra.sweeper.params=null"


REFUSED = {
    ("experiment=toy",): "hydra/sweeper=learner: there is nothing to search but what the experiment compares by "
    "default (seed=0,1,2,3,4); allowed: at least one key with a range, as in training.lr=interval(1e-4,1e-1)",
    ("experiment=toy", LR, "objective=null"): "objective=null: hydra/sweeper=learner learns from a number; allowed: a "
    "metric, as in objective=student/kappa",
    ("hydra/sweeper=basic", "seeds_per_trial=2"): "seeds_per_trial=2: is for a sweeper that learns, such as "
    "hydra/sweeper=optuna; allowed here: 1, with -m seed=0,1,2 for several seeds",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_study_that_could_learn_nothing_is_refused(overrides):
    with pytest.raises(ConfigError) as refused:
        asked_of(*overrides)
    assert str(refused.value) == REFUSED[overrides]


def test_values_that_belong_together_are_cases_of_a_group(tmp_path):
    """The recipe of docs/howto/sweeps.md, with the architecture as a condition of one case."""
    (tmp_path / "case").mkdir()
    few = "# @package _global_\nseed: 0\ndataset: {train_size: 100}\n"
    many = "# @package _global_\ndefaults: [override /model: linear]\nseed: 1\ndataset: {train_size: 200}\n"
    (tmp_path / "case/few.yaml").write_text(few)
    (tmp_path / "case/many.yaml").write_text(many)
    sweep = ["-m", f"--config-dir={tmp_path}", "experiment=toy", "debug=tiny", "hydra.sweep.dir=sweep"]
    request = read_command([*sweep, "hydra.sweeper.params=null", "+case=few,many", "training.lr=1e-3,2e-3"])
    found = [(cfg.seed, cfg.dataset.train_size, len(cfg.model.hidden)) for cfg in request.configs()]
    assert found == [(0, 100, 3)] * 2 + [(1, 200, 0)] * 2
