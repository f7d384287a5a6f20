import re

import pytest

from rebuttal.command.plan import _in_short, _size, _time, forecast, is_wanted
from rebuttal.errors import ConfigError
from tests.command_line import ONE_NETWORK, command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def counts(found):
    networks = found.networks.values()
    return len(networks), sum(n.in_store for n in networks), sum(n.jobs > 1 for n in networks)


def test_jobs_and_networks_of_a_sweep_are_counted_before_and_after_half_of_it_has_run(here):
    sweep = ["-m", *ONE_NETWORK, "corruption=none,random", "seed=0,1,2"]
    found = forecast(sweep)
    assert (found.jobs, found.finished, counts(found)) == (6, 0, (6, 0, 0))
    assert (
        command("-m", *ONE_NETWORK, "corruption=random", "seed=0,1,2", "hydra.sweep.dir=half", cwd=here).returncode == 0
    )
    found = forecast(sweep)
    assert (found.jobs, found.finished, counts(found)) == (6, 3, (6, 3, 0))
    again = forecast([*sweep, "force=true"])
    assert (again.jobs, again.finished, counts(again)) == (6, 0, (6, 0, 0))


def test_networks_that_serve_several_jobs_are_counted_once(here):
    """toy: a teacher, four students, and a curve of four sizes for two of them, the largest being the student."""
    alone = forecast(["experiment=toy", "debug=tiny"])
    kinds = sorted(network.kind for network in alone.networks.values())
    assert kinds == ["fit"] + ["mimic"] * 10 and alone.others == {"curve", "comparison", "regions"}
    # Another target of one student: that student and its curve are others, all else is the same.
    two = forecast(
        ["-m", "experiment=toy", "debug=tiny", "stages.student.target=hard,soft", "hydra.sweeper.params=null"]
    )
    assert two.jobs == 2 and counts(two) == (11 + 4, 0, 11 - 4)
    # Runs of two seeds share no network, not even the independent teacher.
    seeds = forecast(["-m", "experiment=two_stage", "debug=tiny", "seed=0,1"])
    assert counts(seeds)[2] == 0


def test_the_command_tells_what_it_would_take_and_leaves_nothing(here):
    done = command("-m", *ONE_NETWORK, "seed=0,1", "hydra.sweeper.params=null", "plan=true", "threads=1", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "jobs: 2, of which 0 are completely stored" in done.stdout
    weights = 8 * 256 + 256 * 128 + 128 * 64 + 64 * 10 + 256 + 128 + 64 + 10
    assert re.search(rf"fit: MLP .* 60 .* 2 .* 2 .* 0 .* 0 .* {weights:,} ", done.stdout)
    told = (
        rf"networks to train: 2, .* FLOP, .* of memory .*, {_size(2 * 4 * (weights + 2))} of disk, .* on 1 CPU thread,"
    )
    assert re.search(told, done.stdout)
    assert not list(here.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "told"), [("basic", False), ("slurm", True)])
def test_what_only_the_jobs_can_decide_is_said(launcher, told, here):
    """The precision: machines of a cluster are others than this one."""
    sweep = ["-m", *ONE_NETWORK, "training.precision=auto", "seed=0,1", f"hydra/launcher={launcher}", "threads=1"]
    done = command(*sweep, "plan=true", cwd=here)
    assert done.returncode == 0, done.stderr
    assert ("training.precision=auto: each job decides where it runs" in done.stdout) == told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("plan=maybe", "rebuttal: plan=maybe: allowed: true, false"),
        ("training.epochs=0", "rebuttal: training.epochs=0: input should be greater than 0"),
        ("training.epohcs=3", "rebuttal: training.epohcs=3: unknown key; allowed here: "),
        ("--info", "rebuttal: plan=true: allowed beside it: overrides, -m, --config-dir"),
    ],
)
def test_what_is_wrong_ends_in_one_line(override, message, here):
    done = command("plan=true", override, cwd=here)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)
    assert not list(here.rglob("*"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["training.optimizer.name=LBFGS"], "training.optimizer=TorchOptimizer: TypeError: LBFGS.step() missing 1 req"),
        (
            ["training.optimizer.name=SGD", "training.optimizer.arguments={momentum: nan}"],
            "training.optimizer.arguments=",
        ),
        (
            ["training.optimizer.name=SGD", "training.optimizer.arguments={a: [{b: inf}]}"],
            "training.optimizer.arguments=",
        ),
    ],
)
def test_a_recipe_that_cannot_work_ends_in_one_line(asked, message, here):
    done = command(
        *ONE_NETWORK, "training/optimizer=torch", "training.weight_decay=0", *asked, "plan=true", "threads=1", cwd=here
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rebuttal: {message}")


def test_it_is_asked_for_by_one_word():
    assert is_wanted(["plan=true"]) and is_wanted(["plan=false", "plan=true"])
    assert not is_wanted(["seed=1"]) and not is_wanted(["plan=true", "plan=false"])
    with pytest.raises(ConfigError):
        is_wanted(["plan="])


def test_sizes_and_times_are_told_in_units_that_fit():
    assert [_size(n) for n in (12, 4 * 1024, 3.5 * 2**20, 7 * 2**30)] == ["12 B", "4 KiB", "3.5 MiB", "7 GiB"]
    assert [_time(s) for s in (0.25, 60, 240, 7200)] == ["0.25 s", "60 s", "4 min", "2.0 h"]


def test_a_class_among_the_settings_of_a_model_has_its_name():
    assert _in_short({"kind": "mine.nets.Wide", "source": "0123"}) == "mine.nets.Wide"
    assert _in_short([64, 8]) == [64, 8] and _in_short({"width": 3}) == {"width": 3}
