import pytest

from rebuttal.analysis.gather import gather
from rebuttal.analysis.latex import escaped
from rebuttal.analysis.statistics import Estimate
from rebuttal.analysis.tables import Grid, Levels, shown

GRID = Grid("t", "toy", "Title", "who", "{row}/{column}", {"A": "a", "B": "b"}, {"X": "x", "Y": "y"}, fitted=("a/fit",))


def test_a_cell_is_the_mean_over_seeds_that_fitted(leave, tmp_path):
    for seed, value, fit in ((0, 0.1, 1.0), (1, 0.3, 1.0), (2, 9.0, 0.9)):
        leave(str(seed), {"a/x": value, "a/y": 2.0, "b/x": None, "a/fit": fit}, seed)
    (table,) = GRID.tables(gather([tmp_path]).runs)
    assert table.columns == ("X", "Y") and [label for label, _ in table.rows] == ["A"]  # nothing is known of b
    mean, same = table.rows[0][1]
    assert (mean.mean, mean.n, same.mean) == (pytest.approx(0.2), 2, 2.0)
    assert [run.seed for run in table.left_out] == [2] and "1 runs" in table.said()
    assert table.numbers().loc[0, "mean"] == pytest.approx(0.2)


def test_a_mean_is_not_taken_of_the_seeds_that_reached_the_end_alone(leave, tmp_path):
    leave("0", {"a/x": 10.0, "a/y": 1.0, "a/fit": 1.0}, 0)
    leave("1", {"a/x": None, "a/y": 1.0, "a/fit": 1.0}, 1)
    (table,) = GRID.tables(gather([tmp_path]).runs)
    assert table.columns == ("Y",)


def test_a_table_for_each_configuration(leave, tmp_path):
    for size in (10, 20):
        leave(str(size), {"a/x": float(size), "a/fit": 1.0}, train_size=size)
    tables = GRID.tables(gather([tmp_path]).runs)
    assert len({table.name for table in tables}) == 2
    assert ["n = 10" in table.title for table in tables] == [True, False]


def test_levels_go_from_true_labels_to_random_ones(leave, tmp_path):
    for fraction in (1.0, 0.0, 0.25):
        metrics = {"fit/label_noise": fraction * 0.9, "fit/x": fraction}
        leave(str(fraction), metrics, corruption={"_target_": "x.RandomLabels", "fraction": fraction})
    spec = Levels("l", "toy", "Title", {"X": "fit/x"}, beside={"seed": lambda run: str(run.seed)})
    (table,) = spec.tables(gather([tmp_path]).runs)
    assert [label for label, _ in table.rows] == ["true labels", "25% random labels", "random labels"]
    assert [cells[0].mean for _, cells in table.rows] == [0.0, 0.25, 1.0] and table.rows[0][1][1] == "0"


def test_levels_too_are_compared_at_equal_fit(leave, tmp_path):
    for seed, fit in ((0, 1.0), (1, 0.9)):
        metrics = {"fit/x": float(seed), "fit/train_accuracy": fit, "fit/steps_to_fit": 10 if fit == 1 else None}
        leave(str(seed), metrics, seed)
    columns = {"X": "fit/x", "time": "fit/steps_to_fit"}
    (table,) = Levels("l", "toy", "T", columns, fitted=("fit/train_accuracy",)).tables(gather([tmp_path]).runs)
    assert table.rows[0][1][0].n == 1 and [run.seed for run in table.left_out] == [1]
    assert table.rows[0][1][1] is None  # not the time of the one that arrived


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Estimate(0.48932, 0.47092, 0.50772, 5), "0.489 ± 0.018"),
        (Estimate(1612.4, 1264.4, 1960.4, 3), "1,612 ± 348"),
        (Estimate(0.99963, 0.9995, 0.99976, 3), "0.99963 ± 0.00013"),
        (Estimate(0.1050366654, 0.1050366634, 0.1050366674, 3), "0.10504 ± 2e-09"),
        (Estimate(0.12345678, None, None, 1), "0.1235"),
        (Estimate(12345.0, 12345.0, 12345.0, 2), "12,345"),
        (None, "–"),
        ("as it is", "as it is"),
    ],
)
def test_numbers_are_shown_with_the_places_that_the_interval_bears_out(cell, words):
    assert shown(cell) == words


def test_latex_shows_what_it_is_given(leave, tmp_path):
    assert escaped("50 % of a_b & {c} ≥ κ\\") == r"50 \% of a\_b \& \{c\} $\geq$ $\kappa$\textbackslash{}"
    assert escaped("Größe 数") == "Größe ?"
    leave("0", {"a/x": 1.0, "a/fit": 1.0}, note="a_b%")
    (table,) = GRID.tables(gather([tmp_path]).runs)
    text = table.latex()
    assert r"\toprule" in text and r"\bottomrule" in text and r"\label{tab:t}" in text
