from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rebuttal.errors import ConfigError
from rebuttal.report.claims import Claim, judge, read_claims
from rebuttal.report.gather import Run

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


def claim(**changes):
    return Claim(**DEFAULTS | changes)


def run(seed=0, configuration="k", config=None, **metrics):
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    config = config or {"model": {}, "dataset": {}, "training": {}}
    return Run(Path(f"{configuration}{seed}"), "e", seed, configuration, f"{configuration}{seed}", config, named)


def verdict(found, **changes):
    return judge([claim(**changes)], found)[0].verdict


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.8, 0.81, 0.82], "supported"), ([0.1, 0.12, 0.11], "refuted"), ([0.2, 0.9, 0.5], "inconclusive"),
     ([0.9], "inconclusive"), ([1.0, 1.0, 1.0], "supported"), ([0.5, 0.5], "inconclusive")],
)  # fmt: skip
def test_the_interval_decides(values, expected):
    runs = [run(seed, fit__x=value) for seed, value in enumerate(values)]
    assert verdict(runs) == expected
    opposite = {"supported": "refuted", "refuted": "supported"}.get(expected, expected)
    assert verdict(runs, comparison="at_most") == opposite


def test_a_claim_without_runs_is_not_run():
    (found,) = judge([claim()], [])
    assert found.verdict == "not run" and found.mean is None


def test_configurations_are_judged_separately():
    runs = [run(s, "high", fit__x=0.8 + s / 100) for s in range(3)] + [run(s, "low", fit__x=s / 100) for s in range(3)]
    assert {v.configuration: v.verdict for v in judge([claim()], runs)} == {"high": "supported", "low": "refuted"}


def test_differences_are_paired_by_run_and_ratios_may_be_censored():
    runs = [run(s, fit__x=10.0 * s + 1, fit__y=10.0 * s) for s in range(1, 5)]
    (found,) = judge([claim(minus="fit/y", threshold=0.5)], runs)
    assert found.values == (1.0,) * 4 and found.verdict == "supported"
    slow = [run(s, fit__x=None, fit__steps=100.0, fit__y=10.0) for s in range(3)]
    (found,) = judge([claim(over="fit/y", instead="fit/steps", threshold=1)], slow)
    assert found.values == (10.0,) * 3
    (found,) = judge([claim(over="fit/y", threshold=1)], slow)
    assert found.verdict == "inconclusive" and found.values == ()  # run, but the time is censored


def test_runs_whose_networks_did_not_fit_are_excluded_and_listed():
    runs = [run(s, fit__x=0.9 + s / 100, fit__fitted=1.0) for s in range(3)] + [run(9, fit__x=0.0, fit__fitted=0.0)]
    (found,) = judge([claim(fitted=("fit/fitted",))], runs)
    assert len(found.values) == 3 and [r.seed for r in found.left_out] == [9]
    (found,) = judge([claim(fitted=("fit/fitted",))], runs[3:])
    assert found.verdict == "inconclusive"


def test_only_runs_within_the_claims_ranges_count():
    runs = [run(s, fit__x=0.9, fit__noise=noise) for s, noise in enumerate((0.0, 0.0, 0.9))]
    (found,) = judge([claim(where={"fit/noise": (0.0, 0.01)})], runs)
    assert len(found.values) == 2


def test_rank_correlation_is_computed_within_each_seed():
    runs = [
        run(seed, f"p{level}", fit__x=seed - level, fit__level=float(level)) for seed in (0, 1, 2) for level in range(4)
    ]
    (found,) = judge([claim(against="fit/level", comparison="at_most", threshold=-0.9)], runs)
    assert found.values == pytest.approx((-1.0,) * 3) and found.verdict == "supported"


def test_fewer_than_five_percent_of_reports_have_a_wrong_verdict_and_true_effects_are_found():
    rng = np.random.default_rng(0)
    claims = [claim(id=f"c{i}", value=f"fit/m{i}", threshold=0.0) for i in range(5)]
    wrong = found = 0
    for _ in range(500):
        draws = rng.normal(0, 1, size=(6, 5))
        draws[:, 0] += 4  # one true effect; four true null hypotheses
        runs = [run(s, **{f"fit__m{i}": draw[i] for i in range(5)}) for s, draw in enumerate(draws)]
        verdicts = judge(claims, runs)
        found += verdicts[0].verdict == "supported"
        wrong += any(v.verdict == "supported" for v in verdicts[1:])
    assert wrong / 500 <= 0.05
    assert found / 500 > 0.9


def test_intervals_cover_the_true_mean_at_their_nominal_rate():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(500):
        (v,) = judge([claim()], [run(s, fit__x=x) for s, x in enumerate(rng.normal(3, 2, size=5))])
        covered += v.low <= 3 <= v.high
    assert 0.93 <= covered / 500 <= 0.97


def test_a_run_that_shares_a_trained_network_with_another_seed_is_no_replication():
    networks = [{"fit/a", "mimic/a"}, {"fit/b", "mimic/b"}, {"fit/b", "mimic/c"}, {"fit/d"}]
    runs = [replace(run(s, fit__x=0.9 + s / 100), networks=frozenset(names)) for s, names in enumerate(networks)]
    (found,) = judge([claim()], runs)
    assert [r.seed for r in found.runs] == [0, 1, 3] and [r.seed for r in found.shared] == [2]
    assert len(found.values) == 3


def test_the_ledger_is_valid_and_its_ids_are_unique(tmp_path):
    ids = [c.id for c in read_claims()]
    assert "smoother_than_hash" in ids and len(ids) == len(set(ids))
    (tmp_path / "bad.yaml").write_text("- {id: x, statment: y}")
    with pytest.raises(ConfigError, match=r"claims\[0\]"):
        read_claims(tmp_path / "bad.yaml")


def test_an_id_that_is_used_twice_is_one_line(tmp_path):
    entry = (
        "- {id: x, statement: s, source: t, experiment: e, value: v, comparison: at_least, threshold: 1, command: c}\n"
    )
    (tmp_path / "twice.yaml").write_text(entry * 2)
    with pytest.raises(ConfigError, match=r"^claims: id=x: used twice; allowed: unique ids$"):
        read_claims(tmp_path / "twice.yaml")
