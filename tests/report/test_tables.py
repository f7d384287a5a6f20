import pytest

from rebuttal.report.declarations import read_declarations
from rebuttal.report.gather import gather
from rebuttal.report.latex import escaped
from rebuttal.report.tables import CellText, Grid, Levels, format_cell
from rebuttal.statistics import Estimate

GRID = Grid(
    name="t", experiment="toy", title="Title", corner="who", metric="{row}/{column}", rows={"A": "a", "B": "b"},
    columns={"X": "x", "Y": "y"}, fitted=("a/fit",),
)  # fmt: skip


def test_a_cell_is_the_mean_over_seeds_that_fitted(make_run, tmp_path):
    for seed, value, fit in ((0, 0.1, 1.0), (1, 0.3, 1.0), (2, 9.0, 0.9)):
        make_run(str(seed), {"a/x": value, "a/y": 2.0, "b/x": None, "a/fit": fit}, seed)
    (table,) = GRID.tables(gather([tmp_path]).runs)
    assert table.columns == ("X", "Y") and [label for label, _ in table.rows] == [
        "A"
    ]  # no run has a metric of b defined
    mean, same = table.rows[0][1]
    assert (mean.mean, mean.n, same.mean) == (pytest.approx(0.2), 2, 2.0)
    assert [run.seed for run in table.left_out] == [2] and "1 runs" in table.note()
    assert table.note().startswith("Mean over 2 seeds ± half the 95 % t-interval.")
    assert table.numbers().loc[0, "mean"] == pytest.approx(0.2)


def test_the_note_says_how_many_seeds_are_behind_a_cell_not_behind_all_of_them(make_run, tmp_path):
    for seed in range(5):
        made = "a/x" if seed < 2 else "b/x"
        make_run(str(seed), {made: 1.0 + seed, "a/fit": 1.0}, seed)
    (table,) = GRID.tables(gather([tmp_path]).runs)
    assert table.note().startswith("Mean over 2 to 3 seeds ±")
    (alone,) = GRID.tables(gather([tmp_path / "runs/0"]).runs)
    assert alone.note() == "Mean over 1 seed."


def test_there_is_no_mean_if_the_metric_is_censored_for_one_seed(make_run, tmp_path):
    make_run("0", {"a/x": 10.0, "a/y": 1.0, "a/fit": 1.0}, 0)
    make_run("1", {"a/x": None, "a/y": 1.0, "a/fit": 1.0}, 1)
    (table,) = GRID.tables(gather([tmp_path]).runs)
    assert table.columns == ("Y",)


def test_a_table_for_each_configuration(make_run, tmp_path):
    for size in (10, 20):
        make_run(str(size), {"a/x": float(size), "a/fit": 1.0}, train_size=size)
    tables = GRID.tables(gather([tmp_path]).runs)
    assert len({table.name for table in tables}) == 2
    assert ["n = 10" in table.title for table in tables] == [True, False]


def test_levels_are_sorted_by_label_noise(make_run, tmp_path):
    for fraction in (1.0, 0.0, 0.25):
        metrics = {"fit/label_noise": fraction * 0.9, "fit/x": fraction}
        make_run(str(fraction), metrics, corruption={"_target_": "x.RandomLabels", "fraction": fraction})
    spec = Levels(
        name="l", experiment="toy", title="Title", columns={"X": "fit/x"},
        text_columns={"seed": (CellText(text="0", labels="true labels"),)},
    )  # fmt: skip
    (table,) = spec.tables(gather([tmp_path]).runs)
    assert [label for label, _ in table.rows] == ["true labels", "25% random labels", "random labels"]
    assert [cells[0].mean for _, cells in table.rows] == [0.0, 0.25, 1.0] and table.rows[0][1][1] == "0"


def test_levels_are_compared_at_equal_fit(make_run, tmp_path):
    for seed, fit in ((0, 1.0), (1, 0.9)):
        metrics = {"fit/x": float(seed), "fit/train_accuracy": fit, "fit/steps_to_fit": 10 if fit == 1 else None}
        make_run(str(seed), metrics, seed)
    columns = {"X": "fit/x", "time": "fit/steps_to_fit"}
    (table,) = Levels(name="l", experiment="toy", title="T", columns=columns, fitted=("fit/train_accuracy",)).tables(
        gather([tmp_path]).runs
    )
    assert table.rows[0][1][0].n == 1 and [run.seed for run in table.left_out] == [1]
    assert table.rows[0][1][1] is None  # not the mean of the uncensored times


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Estimate(0.48932, 0.47092, 0.50772, 5), "0.489 ± 0.018"),
        (Estimate(1612.4, 1264.4, 1960.4, 3), "1,612 ± 348"),
        (Estimate(0.99963, 0.9995, 0.99976, 3), "0.99963 ± 0.00013"),
        (Estimate(0.1050366654, 0.1050366634, 0.1050366674, 3), "0.10504 ± 2e-09"),
        (Estimate(0.12345678, None, None, 1), "0.1235"),
        (Estimate(12345.0, 12345.0, 12345.0, 2), "12,345"),
        (Estimate(0.99998, None, None, 1), "0.99998"),
        (Estimate(0.9996, 0.95, 1.05, 3), "0.9996 ± 0.0500"),
        (Estimate(1 - 1e-15, None, None, 1), "1"),
        (None, "–"),
        ("text", "text"),
    ],
)
def test_numbers_have_as_many_decimals_as_their_interval_supports(cell, text):
    assert format_cell(cell) == text


def test_latex_is_escaped(make_run, tmp_path):
    assert escaped("50 % of a_b & {c} ≥ κ\\") == r"50 \% of a\_b \& \{c\} $\geq$ $\kappa$\textbackslash{}"
    assert escaped("Größe 数 “λ ≥ ∞” ςω") == r"Größe ? ``$\lambda$ $\geq$ $\infty$'' $\varsigma$$\omega$"
    assert escaped("[64, 256]") == "{[}64, 256]"  # \\ takes what stands in brackets behind it as its argument
    make_run("0", {"a/x": 1.0, "a/fit": 1.0}, note="a_b%")
    (table,) = GRID.tables(gather([tmp_path]).runs)
    text = table.latex()
    assert r"\toprule" in text and r"\bottomrule" in text and r"\label{tab:t}" in text


@pytest.mark.parametrize(
    ("changes", "beside"),
    [({}, True), ({"n": 5000}, False), ({"_target_": "rebuttal.data.ImageFolder"}, False), ({"hidden": [100]}, False),
     ({"dropout": 0.5}, False), ({"pixels": "random"}, False), ({"weight_decay": 5e-4}, False), ({"crop": 32}, False)],
)  # fmt: skip
def test_zhang_s_numbers_stand_only_beside_his_images_and_networks(changes, beside, make_run, tmp_path):
    """The published accuracies are of 50,000 images of CIFAR-10, without regularisers."""
    metrics = {"fit/train_accuracy": 1.0, "fit/test_accuracy": 0.5, "fit/epochs_to_fit": 9}
    metrics["fit/train_size"] = changes.pop("n", 50_000)
    parts = {
        "model": {"_target_": "rebuttal.models.MLP", "hidden": [512, 512, 512], "dropout": 0.0},
        "preprocess": {"crop": 28, "normalisation": "per_image"},
        "training": {"weight_decay": 0.0, "augmentation": None},
        "dataset": {"_target_": "rebuttal.data.CIFAR10", "pixels": "original"},
    }
    for name, value in changes.items():
        next(part for part in parts.values() if name in part)[name] = value
    make_run("r", metrics, experiment="baseline", **parts.pop("dataset"), **parts)
    (table,) = next(spec for one in read_declarations() for spec in one.tables if spec.name == "baseline").tables(
        gather([tmp_path]).runs
    )
    (row,) = table.text().to_dict("records")
    assert row.get("Zhang et al. 2017, Table 1") == ("1.000 / 0.524" if beside else None)
