import pytest

from rebuttal.report.comparisons import Contrast, TimeToFit, Trend, contrast_table, time_table, trend_table
from rebuttal.report.gather import gather
from rebuttal.report.results import find_results


def test_metrics_of_the_same_runs_are_paired_and_unfitted_runs_excluded(make_run, tmp_path):
    for seed in range(4):
        make_run(
            str(seed),
            {"s/a": 10.0 * seed + 1 + 0.1 * seed, "s/b": 10.0 * seed, "s/fit": 1.0 if seed < 3 else 0.9},
            seed,
        )
    spec = Contrast(experiment="toy", measure="m", a=("A", "s/a"), b=("B", "s/b"), fitted=("s/fit",))
    (row,) = contrast_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert row["paired"] and row["n_a"] == row["n_b"] == 3 and row["difference"] == pytest.approx(1.1)
    assert row["p_holm"] == row["p_paired"] < 0.01 < row["p_welch"]


def test_an_undefined_value_leaves_its_seed_out_of_both_means_and_all_out_of_the_tests(make_run, tmp_path):
    """The seeds with a value need not be like the others; an unpaired test of other seeds would hide them."""
    for seed in range(6):
        make_run(str(seed), {"s/a": 10.0 * seed + 1, "s/b": None if seed == 5 else 10.0 * seed}, seed)
    spec = Contrast(experiment="toy", measure="m", a=("A", "s/a"), b=("B", "s/b"))
    (row,) = contrast_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert (row["n_a"], row["n_b"], row["undefined"], row["difference"]) == (5, 5, 1, 1.0)
    assert row["mean_a"] == 21 and all(row[name] is None for name in ("low", "p_paired", "p_welch", "p_holm"))


def test_contrasts_of_runs_whose_numbers_mean_nothing_weaken_no_other(make_run, tmp_path):
    for seed in range(3):
        metrics = {"student/kappa": 0.5 + 0.01 * seed, "untrained_teacher/kappa": 0.1 * seed}
        make_run(f"whole{seed}", metrics, seed, "two_stage")
        make_run(f"tiny{seed}", metrics, seed, "two_stage", train_size=20, judged=False)
    alone, all_runs = (find_results([tmp_path], debug=debug).contrasts for debug in (False, True))
    assert len(alone) == 1 and len(all_runs) == 2
    assert all_runs["p_holm"].tolist() == [2 * alone["p_holm"].item()] * 2


def test_a_run_that_did_not_fit_is_censored_at_its_last_step(make_run, tmp_path):
    for seed in range(4):
        slow = {"fit/steps_to_fit": None if seed else 90, "fit/steps": 100}
        make_run(f"slow{seed}", slow, seed, corruption={"_target_": "x.RandomLabels", "fraction": 1.0})
        make_run(f"fast{seed}", {"fit/steps_to_fit": 10 + seed, "fit/steps": 100}, seed)
    spec = TimeToFit(experiment="toy", a="random labels", b="true labels", stage_a="fit", stage_b="fit", by_labels=True)
    (row,) = time_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert (row["n_a"], row["fitted_a"], row["n_b"], row["fitted_b"]) == (4, 1, 4, 4)
    assert row["median_steps_a"] is None and row["median_steps_b"] == 11
    assert row["p_log_rank"] < 0.02


def test_a_seed_counts_once_though_its_random_labels_are_of_two_kinds(make_run, tmp_path):
    balanced = {"_target_": "x.BalancedLabels", "fraction": 1.0}
    for seed in range(4):
        for name, corruption in (("drawn", {"_target_": "x.RandomLabels", "fraction": 1.0}), ("even", balanced)):
            make_run(f"{name}{seed}", {"fit/steps_to_fit": 90, "fit/steps": 100}, seed, corruption=corruption)
        make_run(f"true{seed}", {"fit/steps_to_fit": 10, "fit/steps": 100}, seed)
    spec = TimeToFit(experiment="toy", a="random labels", b="true labels", stage_a="fit", stage_b="fit", by_labels=True)
    rows = time_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert [(row["n_a"], row["n_b"]) for row in rows] == [(4, 4), (4, 4)]
    assert len({row["a"] for row in rows}) == 2 and all(row["a"].startswith("random labels (") for row in rows)


def test_a_trend_over_the_noise_levels_of_a_setup(make_run, tmp_path):
    for seed in range(3):
        for level in range(5):
            make_run(f"{seed}{level}", {"fit/x": seed - level**2 / 10, "fit/level": level / 5}, seed, level=level)
    assert trend_table(
        [Trend(experiment="toy", measure="x", metric="fit/x", along="fit/level")], gather([tmp_path]).runs
    ).empty  # each setup has only one level
    for seed in range(3):
        for level in range(5):
            corruption = {"_target_": "x.RandomLabels", "fraction": level / 5}
            metrics = {"fit/x": seed / 100 - level**2 / 10, "fit/level": level / 5}
            make_run(f"c{seed}{level}", metrics, seed, experiment="corruption", corruption=corruption)
    (row,) = trend_table(
        [Trend(experiment="corruption", measure="x", metric="fit/x", along="fit/level")], gather([tmp_path]).runs
    ).to_dict("records")
    assert row["runs"] == 15 and row["spearman"] < -0.95 and row["along"] == "fit/level"
    assert row["lowest_seed"] == pytest.approx(-1) and row["highest_seed"] == pytest.approx(-1)
    assert row["r2_line"] < row["r2_parabola"] == pytest.approx(1) and row["p_parabola"] < 1e-6
    permuted = {"_target_": "x.PermutedLabels"}  # another kind of labels, of the same setup
    make_run("p", {"fit/x": 5.0, "fit/level": 1.0}, 0, experiment="corruption", corruption=permuted)
    own = {"corruption._target_": "x.RandomLabels"}
    trend = Trend(experiment="corruption", measure="x", metric="fit/x", along="fit/level", settings=own)
    (again,) = trend_table([trend], gather([tmp_path]).runs).to_dict("records")
    assert again == row
    for seed in range(3):
        for level in range(5):
            metrics = {"fit/x": seed / 100 - level, "fit/level": level / 5}
            wide = {"_target_": "rebuttal.models.MLP", "hidden": [9]}
            corruption = {"_target_": "x.RandomLabels", "fraction": level / 5}
            make_run(f"w{seed}{level}", metrics, seed, experiment="corruption", corruption=corruption, model=wide)
    rows = trend_table([trend], gather([tmp_path]).runs)
    assert len(rows) == 2 == rows["configuration"].nunique()
