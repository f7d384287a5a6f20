import pytest

from rebuttal.analysis.comparisons import Contrast, Race, Trend, contrast_table, race_table, trend_table
from rebuttal.analysis.gather import gather
from rebuttal.analysis.naming import labels_name


def test_metrics_of_the_same_runs_are_paired_and_unfitted_runs_left_out(leave, tmp_path):
    for seed in range(4):
        leave(
            str(seed),
            {"s/a": 10.0 * seed + 1 + 0.1 * seed, "s/b": 10.0 * seed, "s/fit": 1.0 if seed < 3 else 0.9},
            seed,
        )
    spec = Contrast("toy", "m", ("A", "s/a"), ("B", "s/b"), fitted=("s/fit",))
    (row,) = contrast_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert row["paired"] and row["n_a"] == row["n_b"] == 3 and row["difference"] == pytest.approx(1.1)
    assert row["p_holm"] == row["p_paired"] < 0.01 < row["p_welch"]


def test_a_race_counts_a_run_that_did_not_arrive_as_watched_so_far(leave, tmp_path):
    for seed in range(4):
        slow = {"fit/steps_to_fit": None if seed else 90, "fit/steps": 100}
        leave(f"slow{seed}", slow, seed, corruption={"_target_": "x.RandomLabels", "fraction": 1.0})
        leave(f"fast{seed}", {"fit/steps_to_fit": 10 + seed, "fit/steps": 100}, seed)
    spec = Race("toy", "random labels", "true labels", "fit", "fit", between=labels_name)
    (row,) = race_table([spec], gather([tmp_path]).runs).to_dict("records")
    assert (row["n_a"], row["fitted_a"], row["n_b"], row["fitted_b"]) == (4, 1, 4, 4)
    assert row["median_steps_a"] is None and row["median_steps_b"] == 11
    assert row["p_log_rank"] < 0.02


def test_a_trend_over_the_levels_of_a_setup(leave, tmp_path):
    for seed in range(3):
        for level in range(5):
            leave(f"{seed}{level}", {"fit/x": seed - level**2 / 10, "fit/level": level / 5}, seed, level=level)
    assert trend_table([Trend("toy", "x", "fit/x", "fit/level")], gather([tmp_path]).runs).empty  # setups of one level
    for seed in range(3):
        for level in range(5):
            corruption = {"_target_": "x.RandomLabels", "fraction": level / 5}
            metrics = {"fit/x": seed / 100 - level**2 / 10, "fit/level": level / 5}
            leave(f"c{seed}{level}", metrics, seed, experiment="corruption", corruption=corruption)
    (row,) = trend_table([Trend("corruption", "x", "fit/x", "fit/level")], gather([tmp_path]).runs).to_dict("records")
    assert row["runs"] == 15 and row["spearman"] < -0.95 and row["high"] < -0.9
    assert row["r2_line"] < row["r2_parabola"] == pytest.approx(1) and row["p_parabola"] < 1e-6
