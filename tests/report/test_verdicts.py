from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from rebuttal.config import CONFIG_DIR
from rebuttal.report.claims import Claim
from rebuttal.report.gather import Run
from rebuttal.report.tables import format_verdict
from rebuttal.report.verdicts import judge
from tests.parameters import some_slow

DEFAULTS = {
    "id": "c",
    "statement": "s",
    "source": "t",
    "experiment": "e",
    "value": "fit/x",
    "comparison": "at_least",
    "threshold": 0.5,
    "command": "run",
}
CONFIG = {"model": {}, "dataset": {}, "training": {}}


def claim(**changes):
    return Claim(**DEFAULTS | changes)


def run(seed=0, configuration="k", config=CONFIG, **metrics):
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return Run(Path(f"{configuration}{seed}"), "e", seed, configuration, f"{configuration}{seed}", config, named)


def runs_of(values, **metrics):
    return [run(seed, fit__x=value, **metrics) for seed, value in enumerate(values)]


def verdict(found, **changes):
    return judge([claim(**changes)], found)[0].verdict


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.8, 0.81, 0.82, 0.83, 0.84, 0.85], "supported"),
        ([0.1, 0.12, 0.11, 0.1, 0.12, 0.11], "refuted"),
        ([0.2, 0.9, 0.5, 0.2, 0.9, 0.5], "inconclusive"),
        ([0.998, 0.9981, 0.9982, 0.9983, 0.9984], "inconclusive"),  # however close: a sixth may lie anywhere
        ([0.9], "inconclusive"),
        ([0.9, 0.91], "inconclusive"),  # two seeds show nothing about a third
        ([1.0] * 5, "inconclusive"),
        ([1.0] * 6, "supported"),  # 2 / 2^6 < 0.05
        ([0.4] * 6, "refuted"),
        ([0.5] * 20, "inconclusive"),  # neither above nor below
        ([0.9] * 9 + [0.1], "supported"),
        ([0.9] * 8 + [0.1] * 2, "inconclusive"),  # p = 0.11
    ],
)
def test_the_test_decides(values, expected):
    assert verdict(runs_of(values)) == expected
    opposite = {"supported": "refuted", "refuted": "supported"}.get(expected, expected)
    assert verdict(runs_of(values), comparison="at_most") == opposite


def test_equal_values_never_give_a_verdict_from_few_seeds():
    """Two seeds at .991 do not support ≥ .99, nor three correlations at -1 support ≤ -.85."""
    (found,) = judge([claim(threshold=0.99)], runs_of([0.991, 0.991]))
    assert found.verdict == "inconclusive" and found.p is None and found.remarks == "at least 6 seeds needed"
    levels = [run(s, f"p{level}", fit__x=-level, fit__level=float(level)) for s in range(3) for level in range(4)]
    (found,) = judge([claim(against="fit/level", comparison="at_most", threshold=-0.85)], levels)
    assert found.values == (-1.0,) * 3 and (found.verdict, found.p) == ("inconclusive", None)


def test_the_seeds_needed_are_those_with_which_a_verdict_is_reached():
    for claims in (1, 2, 5, 28):
        ledger = [claim(id=f"c{i}") for i in range(claims)]
        needed = judge(ledger, runs_of([0.9] * 3))[0].needed
        assert {v.verdict for v in judge(ledger, runs_of([0.9] * needed))} == {"supported"}
        assert {v.verdict for v in judge(ledger, runs_of([0.9] * (needed - 1)))} == {"inconclusive"}


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_what_has_too_few_seeds_for_a_test_takes_no_share_of_the_error(seeds):
    runs = [run(seed, fit__x=1.0, **({"fit__few": 1.0} if seed < seeds else {})) for seed in range(6)]
    of_few = [claim(id=f"y{i}", where={"fit/few": (1.0, 1.0)}) for i in range(20)]
    whole, *others = judge([claim(), *of_few], runs)
    assert whole.verdict == "supported" and whole.p == pytest.approx(2 / 2**6)
    assert {(other.verdict, other.n, other.p) for other in others} == {("inconclusive", seeds, None)}
    # If all of them had more seeds, each would take its part of the error.
    assert others[0].needed == judge([claim(id=f"d{i}") for i in range(21)], runs)[0].needed == 10


def test_a_claim_without_runs_is_not_run():
    (found,) = judge([claim()], [])
    assert found.verdict == "not run" and found.median is None and found.remarks == ""


def test_a_claim_is_judged_within_its_scope_only():
    resnet = yaml.safe_load((CONFIG_DIR / "model/resnet18.yaml").read_text())
    random = {"_target_": "rebuttal.data.RandomLabels", "fraction": 1.0}
    mlp = [run(s, "mlp", CONFIG, fit__x=0.4 + s / 1000) for s in range(8)]
    assert verdict(mlp) == "refuted" and verdict(mlp, models=("resnet18",)) == "not run"
    both = mlp + [run(s, "r", CONFIG | {"model": resnet}, fit__x=0.9 + s / 1000) for s in range(8)]
    (found,) = judge([claim(models=("resnet18",))], both)
    assert found.verdict == "supported" and {r.configuration for r in found.runs} == {"r"}
    both = mlp + [run(s, "n", CONFIG | {"corruption": random}, fit__x=0.9 + s / 1000) for s in range(8)]
    assert {v.configuration: v.verdict for v in judge([claim(labels="random")], both)} == {"n": "supported"}
    assert {v.configuration: v.verdict for v in judge([claim(labels="true")], both)} == {"mlp": "refuted"}


def test_an_experiment_or_a_model_that_nothing_is_called_is_named_with_the_nearest():
    mlp = yaml.safe_load((CONFIG_DIR / "model/mlp.yaml").read_text())
    runs = [replace(one, config=CONFIG | {"model": mlp}) for one in runs_of([0.9, 0.91, 0.92, 0.93, 0.94, 0.95])]

    def remarks(**changes):
        (found,) = judge([claim(**changes)], runs)
        return found.verdict, found.remarks

    assert remarks(experiment="tooy") == ("not run", "no experiment is called tooy; nearest: toy")
    assert remarks(experiment="zzz") == ("not run", "no experiment is called zzz")
    assert remarks(experiment="toy") == ("not run", "")  # there is one, of which there are no runs
    assert remarks(models=("resnet19",)) == ("not run", "no model is called resnet19; nearest: resnet18")
    assert remarks(models=("MLP",)) == ("not run", "no model is called MLP; nearest: mlp")
    assert remarks(models=("resnet18",)) == ("not run", "")
    assert remarks(models=("mlp", "resnet19")) == ("supported", "no model is called resnet19; nearest: resnet18")
    assert remarks(models=("mlp", "vgg11")) == ("supported", "")
    assert remarks(value="fit/y") == ("not run", "no run has the metric fit/y; nearest: fit/x")


def test_the_user_s_own_experiments_and_models_are_known(tmp_path):
    for group, text in (("experiment", "name: called_so\n"), ("model", "defaults: [mlp]\nhidden: [3]\n")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "own.yaml").write_text(text)
    runs = [replace(one, places=(tmp_path,)) for one in runs_of([0.9, 0.91, 0.92, 0.93, 0.94, 0.95])]
    for changes in ({"experiment": "called_so"}, {"models": ("own",)}):
        (found,) = judge([claim(**changes)], runs)
        assert (found.verdict, found.remarks) == ("not run", "")
    (found,) = judge([claim(models=("ownn",))], runs)
    assert found.remarks == "no model is called ownn; nearest: own"


def test_configurations_are_judged_separately():
    runs = [run(s, "high", fit__x=0.8 + s / 100) for s in range(8)] + [run(s, "low", fit__x=s / 100) for s in range(8)]
    assert {v.configuration: v.verdict for v in judge([claim()], runs)} == {"high": "supported", "low": "refuted"}


def test_undefined_values_count_against_both_sides_and_are_shown():
    (found,) = judge([claim()], runs_of([0.9, 0.91, None, None]))
    assert (found.verdict, found.n, found.undefined, found.p) == ("inconclusive", 4, 2, None)
    assert found.low is found.high is None and found.remarks == "2 undefined; at least 6 seeds needed"
    assert verdict(runs_of([0.9] * 6 + [None])) == "inconclusive"  # six of seven: p = 0.125
    assert verdict(runs_of([0.9] * 8 + [None])) == "supported"  # eight of nine: p = 0.039
    (found,) = judge([claim()], runs_of([None] * 7))
    assert (found.verdict, found.n, found.median) == ("inconclusive", 7, None)
    absent = [*runs_of([0.9] * 5), run(5), run(6)]  # of one configuration, without the metric
    assert judge([claim()], absent)[0].undefined == 2


def test_what_a_number_is_computed_from_may_be_undefined_too():
    parts = [(0.9, None, 1.0), (0.9, 0.1, None), (0.9, 0.1, 0.0), (0.9, 0.1, 1.0)]
    runs = [run(s, fit__x=x, fit__y=y, fit__z=z) for s, (x, y, z) in enumerate(parts)]
    (found,) = judge([claim(minus="fit/y", over="fit/z")], runs)
    assert found.values == pytest.approx((0.8,)) and found.undefined == 3


def test_differences_are_paired_by_run():
    runs = [run(s, fit__x=10.0 * s + 1, fit__y=10.0 * s) for s in range(1, 7)]
    (found,) = judge([claim(minus="fit/y", threshold=0.5)], runs)
    assert found.values == (1.0,) * 6 and found.verdict == "supported"


def test_a_bound_counts_for_the_side_that_it_proves_only():
    slow = [run(s, fit__x=None, fit__steps=100.0, fit__y=10.0) for s in range(6)]
    times = {"over": "fit/y", "lower_bound": "fit/steps"}
    (found,) = judge([claim(**times, threshold=1)], slow)
    assert found.values == (10.0,) * 6 and found.censored == 6 and found.verdict == "supported"
    (found,) = judge([claim(**times, threshold=1, comparison="at_most")], slow)
    assert found.verdict == "refuted"
    (found,) = judge([claim(**times, threshold=20)], slow)  # at least 10 is no evidence about 20
    assert found.undefined == 6 and found.verdict == "inconclusive"
    ratios = [run(s, fit__x=None, fit__most=2.0) for s in range(6)]
    assert verdict(ratios, upper_bound="fit/most", threshold=10) == "refuted"
    assert verdict(ratios, upper_bound="fit/most", threshold=1) == "inconclusive"
    (found,) = judge([claim(over="fit/y", threshold=1)], slow)
    assert found.verdict == "inconclusive" and found.values == ()  # run, but the time is censored


def test_a_bound_of_the_divisor_counts_for_the_side_that_it_proves_only():
    """Noise that is never fitted took more steps than it had: the walk's are less than that many times as many."""
    runs = [run(s, fit__x=100.0, fit__y=None, fit__steps=1000.0) for s in range(6)]
    ratio = {"over": "fit/y", "over_lower_bound": "fit/steps"}
    (found,) = judge([claim(**ratio, threshold=1)], runs)
    assert (found.values, found.censored, found.verdict) == ((0.1,) * 6, 6, "refuted")
    (found,) = judge([claim(**ratio, threshold=0.05)], runs)  # at most 0.1 is no evidence about 0.05
    assert (found.undefined, found.verdict) == (6, "inconclusive")
    (found,) = judge([claim(**ratio, minus=600.0, threshold=-1)], runs)  # −500 over more than 1,000 is above −0.5
    assert (found.values, found.bounds, found.verdict) == ((-0.5,) * 6, (1,) * 6, "supported")
    (found,) = judge([claim(**ratio, minus=600.0, threshold=0)], runs)
    assert (found.undefined, found.verdict) == (6, "inconclusive")
    neither = [run(s, fit__x=None, fit__most=100.0, fit__y=None, fit__steps=1000.0) for s in range(6)]
    assert judge([claim(**ratio, lower_bound="fit/most", threshold=1)], neither)[0].undefined == 6


def test_a_median_that_rests_on_bounds_is_shown_as_one():
    """Three of seven walks were never fitted: they took at least ten times as long."""
    times = [20.0, None, 30.0, None, 40.0, None, 50.0]
    runs = [run(s, fit__x=time, fit__steps=100.0, fit__y=10.0) for s, time in enumerate(times)]
    ratio = {"over": "fit/y", "lower_bound": "fit/steps", "threshold": 1}
    (found,) = judge([claim(**ratio)], runs)
    assert (found.median, found.bound, found.censored, found.effect) == (5.0, 0, 3, None)
    assert 2 < found.low < 3 and found.high == np.inf
    assert format_verdict(found) == f"5.0 ({found.low:.1f} to ∞)"
    (found,) = judge([claim(**ratio)], [*runs[:2], *runs[3:]])  # 2, 4, 5 and three of 10 or more
    assert (found.median, found.bound, found.high) == (7.5, 1, np.inf) and format_verdict(found).startswith("≥ 7.5 (")
    assert format_verdict(judge([claim(**ratio)], runs[:3])[0]) == "2, 3, ≥ 10"


@pytest.mark.parametrize(
    ("values", "threshold", "shown"),
    [
        ([0.89996], 0.9, "0.89996"),
        ([0.99998], 0.99, "0.99998"),
        ([0.9], 0.9, "0.9"),
        ([0.1 + 0.2], 0.3, "0.3"),
        ([1999.7], 2000, "1,999.7"),
        ([0.7, 0.8, 0.8003, 0.8403, 0.9, 0.95], 0.82, "0.8203 (0.7357 to 0.9321)"),
    ],
)
def test_no_number_is_rounded_to_the_threshold_or_across_it(values, threshold, shown):
    text = format_verdict(judge([claim(threshold=threshold)], runs_of(values))[0])
    assert text == shown


def test_runs_whose_networks_did_not_fit_are_excluded_and_listed():
    runs = [run(s, fit__x=0.9 + s / 100, fit__fitted=1.0) for s in range(3)] + [run(9, fit__x=0.0, fit__fitted=0.0)]
    (found,) = judge([claim(fitted=("fit/fitted",))], runs)
    assert found.n == 3 and [r.seed for r in found.left_out] == [9] and "1 not fitted" in found.remarks
    (found,) = judge([claim(fitted=("fit/fitted",))], runs[3:])
    assert found.verdict == "inconclusive" and found.remarks.startswith("1 not fitted")


def test_a_claim_may_be_about_runs_of_some_settings_and_their_distance_from_a_number():
    plain, decay = (CONFIG | {"training": {"weight_decay": decay}} for decay in (0.0, 0.1))
    runs = [run(s, "p", plain, fit__x=0.9 + s / 1000) for s in range(6)]
    runs += [run(s, "d", decay | {"model": {"hidden": [3]}}, fit__x=0.5 + s / 1000) for s in range(6)]
    for settings in ({"training.weight_decay": 0.1}, {"model.hidden": (3,)}):
        (found,) = judge([claim(settings=settings, minus=0.6, threshold=-0.05)], runs)
        assert found.values == pytest.approx([-0.1 + s / 1000 for s in range(6)]) and found.verdict == "refuted"
    assert verdict(runs, settings={"training.weight_decay": 0.2}) == "not run"


@pytest.mark.parametrize("value", [0.1, None])
def test_a_setting_that_no_run_has_is_named_with_the_nearest_and_is_not_null(value):
    runs = [run(s, "p", CONFIG | {"training": {"weight_decay": 0.1}}, fit__x=0.9 + s / 1000) for s in range(3)]
    (found,) = judge([claim(settings={"training.wieght_decay": value})], runs)
    assert found.verdict == "not run"
    assert found.remarks == "no run has the key training.wieght_decay; nearest: training.weight_decay"
    (found,) = judge([claim(settings={"training.weight_decay.of": value})], runs)  # a part that no run has chosen
    assert found.verdict == "not run" and found.remarks == ""


def test_a_claim_may_be_about_some_data_sets():
    noise, walk = ({"dataset": {"_target_": f"rebuttal.data.{name}"}} for name in ("UniformNoise", "RandomWalk"))
    runs = [run(s, "n", CONFIG | noise, fit__x=0.9) for s in range(3)]
    runs += [run(s, "w", CONFIG | walk, fit__x=0.5) for s in range(3)]
    (found,) = judge([claim(datasets=("random_walk", "cifar10"))], runs)
    assert found.values == (0.5, 0.5, 0.5)
    (found,) = judge([claim(datasets=("cifar",))], runs)
    assert found.verdict == "not run" and found.remarks == "no data set is called cifar; nearest: cifar10"


def test_only_runs_within_the_claims_ranges_count():
    runs = [run(s, fit__x=0.9, fit__r=r) for s, r in enumerate((0.0, 0.0, 0.9, None))]
    (found,) = judge([claim(where={"fit/r": (0.0, 0.01)})], runs)
    assert found.n == 2


def test_a_metric_that_no_run_has_is_named_with_the_nearest():
    runs = [run(s, student__kappa=0.9, student__kappa_low=0.8, hash__kappa=0.0, fit__fitted=1.0) for s in range(6)]
    for changes, name, nearest in [
        ({"value": "student/kapa"}, "student/kapa", "student/kappa"),
        ({"value": "student/kappa", "minus": "hsh/kappa"}, "hsh/kappa", "hash/kappa"),
        ({"value": "student/kappa", "fitted": ("fit/fited",)}, "fit/fited", "fit/fitted"),
        ({"value": "student/kappa", "control": "hash_kappa"}, "hash_kappa", "hash/kappa"),
        ({"value": "student/kappa", "against": "fit/fitte"}, "fit/fitte", "fit/fitted"),
        ({"value": "student/kappa", "where": {"hash/kapp": (0.0, 1.0)}}, "hash/kapp", "hash/kappa"),
    ]:
        (found,) = judge([claim(**changes)], runs)
        assert found.verdict == "not run" and found.remarks == f"no run has the metric {name}; nearest: {nearest}"
    (found,) = judge([claim(value="xyz")], runs)
    assert found.remarks == "no run has the metric xyz"


def test_rank_correlation_is_computed_within_each_seed():
    runs = [
        run(seed, f"p{level}", fit__x=seed - level, fit__level=float(level)) for seed in range(6) for level in range(4)
    ]
    trend = claim(against="fit/level", comparison="at_most", threshold=-0.9)
    (found,) = judge([trend], runs)
    assert found.values == pytest.approx((-1.0,) * 6) and found.verdict == "supported"
    missing = [replace(r, metrics=r.metrics | {"fit/x": None}) if r.folder.name == "p20" else r for r in runs]
    (found,) = judge([trend], missing)
    assert found.undefined == 1 and found.verdict == "inconclusive"
    (found,) = judge([trend], [r for r in runs if r.configuration in ("p0", "p1")])
    assert found.verdict == "not run"  # two levels have no order to speak of


def test_rank_correlations_of_all_seeds_are_over_the_same_levels():
    """A seed whose network did not fit at one level has no order of the others' levels; a level of one seed is none."""

    def at(seed, level, fitted=1.0):
        return run(seed, f"p{level}", fit__x=-level, fit__level=float(level), fit__fitted=fitted)

    trend = claim(against="fit/level", comparison="at_most", threshold=-0.9, fitted=("fit/fitted",))
    runs = [at(seed, level, float((seed, level) != (2, 3))) for seed in range(6) for level in range(4)]
    (found,) = judge([trend], [*runs, at(0, 9)])
    assert (found.values, found.undefined, len(found.left_out)) == ((-1.0,) * 5, 1, 1)
    (found,) = judge([trend], runs[:4])
    assert found.values == (-1.0,)


def test_a_run_that_shares_a_trained_network_with_another_seed_is_no_replication():
    networks = [{"fit/a", "mimic/a"}, {"fit/b", "mimic/b"}, {"fit/b", "mimic/c"}, {"fit/d"}]
    runs = [replace(run(s, fit__x=0.9 + s / 100), networks=frozenset(names)) for s, names in enumerate(networks)]
    (found,) = judge([claim()], runs)
    assert [r.seed for r in found.runs] == [0, 1, 3] and [r.seed for r in found.shared] == [2]
    assert found.n == 3 and found.remarks.startswith("1 of the same seed or network")


def test_runs_of_one_seed_are_one_replicate_though_a_stage_has_seeds_of_its_own():
    """As in `stages.student.seed=0,1,2`: one teacher, and so one draw of everything but the student."""
    names = [frozenset({"fit/teacher", f"mimic/{i}"}) for i in range(11)]
    runs = [replace(run(0, fit__x=0.9), folder=Path(f"r{i}"), networks=names[i]) for i in range(11)]
    (found,) = judge([claim()], runs)
    assert (found.n, len(found.shared), found.verdict) == (1, 10, "inconclusive")
    apart = [run(0, f"p{level}", fit__x=-level, fit__level=float(level)) for level in range(3)]  # of a trend
    assert not judge([claim(against="fit/level")], apart)[0].shared


# Families of values whose median is the threshold, so that every verdict is wrong: each gives (reports, seeds, claims),
# NaN for an undefined value.
FAMILIES = {
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "heavy tails": lambda rng, size: rng.standard_t(2, size),
    "skewed": lambda rng, size: rng.exponential(1, size) - np.log(2),
    "very skewed": lambda rng, size: rng.lognormal(0, 1.5, size) - 1,
    "uniform": lambda rng, size: rng.uniform(-1, 1, size),
    "bounded, half at the bound": lambda rng, size: np.minimum(0, rng.normal(0, 1, size)),
    "discrete": lambda rng, size: rng.integers(-2, 3, size).astype(float),
    "two values": lambda rng, size: rng.choice([-1.0, 1.0], size),
    "mostly tied": lambda rng, size: rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], size),
    "two clusters": lambda rng, size: np.where(rng.random(size) < 0.5, 1, -5) + rng.normal(0, 0.001, size),
    "missing at random": lambda rng, size: np.where(rng.random(size) < 0.3, np.nan, rng.normal(0, 1, size)),
    "missing above": lambda rng, size: (lambda x: np.where(x > 0.5, np.nan, x))(rng.normal(0, 1, size)),
    "missing below": lambda rng, size: (lambda x: np.where(x < -0.5, np.nan, x))(rng.normal(0, 1, size)),
}


def reports(family, seeds, claims, draws, rng):
    """Judge `draws` ledgers of `claims` claims with threshold 0 on values of the family."""
    ledger = [claim(id=f"c{i}", value=f"fit/m{i}", threshold=0.0) for i in range(claims)]
    for values in FAMILIES[family](rng, (draws, seeds, claims)):
        known = np.where(np.isnan(values), None, values)
        yield judge(ledger, [run(s, **{f"fit__m{i}": row[i] for i in range(claims)}) for s, row in enumerate(known)])


SLOW = [pytest.param(8, 1, marks=pytest.mark.slow), pytest.param(12, 4, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("seeds", "claims"), [(3, 1), (6, 1), *SLOW])
@pytest.mark.parametrize("family", FAMILIES)
def test_at_most_five_percent_of_reports_hold_a_wrong_verdict_of_either_kind(family, seeds, claims):
    found = list(reports(family, seeds, claims, 1000, np.random.default_rng(7)))
    for wrong in ("supported", "refuted"):
        assert sum(any(v.verdict == wrong for v in verdicts) for verdicts in found) <= 50


def test_seeds_that_share_networks_do_not_make_a_verdict():
    """Twelve runs of four distinct trainings: the values of each triple are one value."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(1000):
        values = np.repeat(rng.normal(0, 1, 4), 3)
        runs = [replace(run(s, fit__x=x), networks=frozenset({f"fit/{s // 3}"})) for s, x in enumerate(values)]
        (found,) = judge([claim(threshold=0.0)], runs)
        assert found.n == 4 and len(found.shared) == 8
        wrong += found.verdict in ("supported", "refuted")
    assert wrong <= 50


UNBOUNDED = ["normal", "heavy tails", "skewed", "very skewed", "uniform"]


@pytest.mark.parametrize("seeds", some_slow([5, 6, 9, 12], 6, 9, 12))
@pytest.mark.parametrize("family", some_slow(UNBOUNDED, "normal", "heavy tails", "skewed", "uniform"))
def test_intervals_cover_the_true_median_at_their_nominal_rate(family, seeds):
    found = [v for (v,) in reports(family, seeds, 1, 4000, np.random.default_rng(1))]
    covered = sum(v.low <= 0 <= v.high for v in found) / len(found)
    assert 0.93 <= covered <= 0.97


def test_no_interval_is_printed_for_fewer_than_five_seeds_or_unknown_values():
    for values in ([0.1, 0.2, 0.4, 0.8], [0.1, 0.2, 0.3, 0.4, 0.5, None]):
        (found,) = judge([claim()], runs_of(values))
        assert found.low is found.high is None


def test_true_effects_are_found():
    rng = np.random.default_rng(2)
    claims = [claim(id=f"c{i}", value=f"fit/m{i}", threshold=0.0) for i in range(28)]
    found = 0
    for _ in range(50):
        draws = rng.normal(4, 1, size=(11, 28))  # 4 standard deviations
        runs = [run(s, **{f"fit__m{i}": x for i, x in enumerate(draw)}) for s, draw in enumerate(draws)]
        found += sum(v.verdict == "supported" for v in judge(claims, runs))
    assert found / (50 * 28) > 0.9
