import csv
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.report.claims import read_claims
from rebuttal.report.declarations import read_declarations
from rebuttal.report.gather import Run
from rebuttal.report.naming import setting
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results
from rebuttal.report.verdicts import judge
from rebuttal.runs.build import resolve
from rebuttal.statistics import mean_interval

ROOT = Path(__file__).parents[2]
DECLARED = """
heading: Ours beside theirs
partial: true
tables:
  - kind: published
    title: A table
    size: fit/train_size
    comparable: [{metrics: {fit/train_size: 100}}]
    columns: {train: fit/train_accuracy, test: fit/test_accuracy}
    rows:
      plain: {values: {train: 1, test: 0.5}, labels: true labels, settings: {training.weight_decay: 0.0}}
      decay: {values: {train: 0.99}, labels: true labels, settings: {training.weight_decay: 0.1}}
      random: {values: {train: fails, test: 0.1}, labels: random labels}
charts:
  - kind: history
    name: losses
    title: Losses.
    stage: fit
    size: fit/train_size
    panels: {loss: loss}
    log_y: [loss]
    series:
      plain: {settings: {training.weight_decay: 0.0}}
      decay: {settings: {training.weight_decay: 0.1}}
"""


@pytest.fixture
def found(make_run, tmp_path):
    """Results of runs with histories: two seeds of one row at two sizes, one of another, none of the third."""

    def find(text=DECLARED):
        declared = tmp_path / "declared"
        declared.mkdir(exist_ok=True)
        (declared / "toy.yaml").write_text(text)
        return find_results([tmp_path / "runs"], declarations=[declared])

    def run(name, decay, n, test, seed, losses, **more):
        metrics = {"fit/train_size": n, "fit/train_accuracy": 1.0, "fit/test_accuracy": test}
        training = {"weight_decay": decay, "n": n, **more}
        folder = make_run(name, metrics, seed, training=training)
        rows = [{"stage": "fit", "epoch": i, "step": 10 * i, "loss": x} for i, x in enumerate(losses, start=1)]
        other = [{"stage": "other", "epoch": 1, "step": 10, "loss": 99.0}]
        pd.DataFrame(rows + other).to_csv(folder / "history.csv", index=False)

    run("a", 0.0, 100, 0.48, 0, [2.0, 1.0])
    run("b", 0.0, 100, 0.56, 1, [4.0])
    run("c", 0.0, 200, 0.60, 0, [8.0])
    run("d", 0.1, 100, 0.30, 0, [3.0, "stopped"])
    find.run = run
    return find


def test_ours_stand_beside_theirs_by_row_and_size(found):
    (table,) = found().tables
    rows = {label: dict(zip(table.columns, cells)) for label, cells in table.rows}
    assert list(rows) == ["plain: dataset, n = 100", "plain: dataset, n = 200", "decay: dataset, n = 100", "random"]
    two = rows["plain: dataset, n = 100"]
    mean, low, high = mean_interval([0.48, 0.56])
    assert (
        two["seeds"] == "2" and two["test, published"] == "0.5" and (two["test"].mean, two["test"].low) == (mean, low)
    )
    difference = two["test: difference"]
    assert [difference.mean, difference.low, difference.high] == pytest.approx([0.02, low - 0.5, high - 0.5])
    assert low < 0.5 < high and two["test: within"] == "yes"
    assert two["train: within"] == "yes"  # equal in both seeds, and to what was published
    one = rows["decay: dataset, n = 100"]
    assert one["train: difference"].mean == pytest.approx(0.01) and one["train: within"] is None  # one seed
    assert one["test"].mean == 0.3 and one["test, published"] is None and one["test: difference"] is None
    small = rows["plain: dataset, n = 200"]  # which is not what was published
    assert small["test"].mean == 0.6 and small["test, published"] == "0.5"
    assert small["test: difference"] is None and small["test: within"] is None
    none = rows["random"]
    assert none["train, published"] == "fails"
    assert none["seeds"] == "not run" and none["test"] is None and none["test, published"] == "0.1"


def test_a_value_outside_our_interval_is_not_within(found):
    (table,) = found(DECLARED.replace("test: 0.5}", "test: 5.0}")).tables
    cells = dict(zip(table.columns, dict(table.rows)["plain: dataset, n = 100"]))
    assert cells["test: within"] == "no" and cells["test: difference"].mean == pytest.approx(-4.48)


def test_histories_are_curves_over_steps_for_each_size_of_data(found):
    small, large = sorted(found().charts, key=lambda chart: len(chart.runs), reverse=True)
    (panel,) = small.panels
    curves = {name: [(x, e.mean, e.n) for x, e in points] for name, points in panel.series.items()}
    assert curves == {"plain": [(10, 3.0, 2), (20, 2.5, 2)], "decay": [(10, 3.0, 1)]}
    assert small.title == "Losses. (dataset, n = 100)" and large.title == "Losses. (dataset, n = 200)"
    assert {run.folder.name for run in small.runs} == {"a", "b", "d"} and small.name != large.name


def test_runs_of_other_settings_have_a_curve_of_their_own(found):
    found.run("e", 0.0, 100, 0.5, 0, [7.0], epochs=9)
    (panel,) = max(found().charts, key=lambda chart: len(chart.runs)).panels
    assert {name: [(x, e.mean, e.n) for x, e in points] for name, points in panel.series.items()} == {
        "plain: dataset, training.weight_decay = 0.0, training.n = 100, training.epochs = none": [
            (10, 3.0, 2),
            (20, 2.5, 2),
        ],
        "plain: dataset, training.weight_decay = 0.0, training.n = 100, training.epochs = 9": [(10, 7.0, 1)],
        "decay": [(10, 3.0, 1)],
    }


def test_the_report_shows_both(found, tmp_path):
    out = write_report(found(), tmp_path / "out")
    assert "0.5" in (out / "tables/toy.tex").read_text(encoding="utf-8")
    assert len(list((out / "figures").glob("losses_*.png"))) == 2


def test_a_run_without_its_history_has_no_curve(found, tmp_path):
    assert len(found().charts) == 2
    (tmp_path / "runs/c/history.csv").unlink()
    assert [chart.name for chart in found().charts] == ["losses"]  # of the one size that has curves
    for path in (tmp_path / "runs").rglob("history.csv"):
        path.unlink()
    assert found().charts == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "values: {train: 0.99}",
            "values: {trian: 0.99}",
            r"rows\.decay\.values=trian: unknown column; nearest: train",
        ),
        ("values: {train: 0.99}", "values: {train: [1]}", r"rows\.decay\.values\.train.*=\(1,\): "),
        ("comparable: [{metrics", "comparable: [{metric", r"comparable\[0\]\.metric=.*: unknown key"),
        ("labels: random labels}", "label: random labels}", r"rows\.random\.label=random labels: unknown key"),
        ("log_y: [loss]", "log_y: [los]", r"log_y=los: unknown panel; nearest: loss"),
        (
            "name: losses",
            "name: regions",
            r"name=regions: allowed: letters, digits, _, - and \., and not verdicts or r",
        ),
    ],
)
def test_a_slip_is_one_line(found, old, new, message):
    with pytest.raises(ConfigError, match=message):
        found(DECLARED.replace(old, new))


def test_every_row_of_zhang_s_tables_is_an_option_and_the_paper_s_numbers_are_there():
    (one,) = [one for one in read_declarations() if one.experiment == "zhang"]
    rows = one.tables[0].rows
    assert len(rows) == 19 + 6
    assert rows["Inception"].values == {"train": 1.0, "test": 0.8575}
    assert rows["AlexNet, random labels"].values == {"train": 0.9982, "test": 0.0986}
    true = [row.values["test"] for row in rows.values() if row.labels == "true labels"]
    published = [89.05, 89.31, 86.03, 85.75, 83, 82, 81.22, 79.66, 77.36, 76.07, 53.35, 52.39, 50.39, 50.51]
    assert [100 * value for value in true] == pytest.approx(published)
    assert len(list((CONFIG_DIR / "row").glob("*.yaml"))) == 25 + 3  # and three of Figure 1a


def test_the_page_s_table_has_the_paper_s_numbers_and_those_of_the_published_results():
    (table,) = [one.tables[0] for one in read_declarations() if one.experiment == "zhang"]
    with (ROOT / "results" / "processed" / "table_zhang.csv").open() as file:
        results = {(row["row"], row["column"]): row for row in csv.DictReader(file)}
    lines = [line for line in (ROOT / "docs" / "zhang.md").read_text().splitlines() if line.startswith("| ")][1:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert list(dict.fromkeys(row[0] for row in rows)) == list(table.rows)
    shown = set()
    for name, paper, here, difference, n, seeds in rows:
        declared = [table.rows[name].values.get(of, "–") for of in ("train", "test")]
        theirs = [value if isinstance(value, str) else f"{100 * value:.2f}" for value in declared]
        assert [as_shown(value) for value in paper.split(" / ")] == theirs
        if n == "–":
            continue
        values = dict(zip(("train", "test"), here.split(" / "))) | {"test: difference": difference}
        for column, value in values.items():
            shown.add(key := (f"{name}: image_folder, n = {n}", column))
            assert (value == "–") == (key not in results)
            if key in results:
                written = [100 * float(results[key][of]) for of in ("mean", "low", "high") if results[key][of]]
                numbers = [float(number) for number in re.findall(r"[+-]?[\d.]+", value.replace("−", "-"))]
                assert numbers == pytest.approx(written, abs=0.06) and seeds == results[key]["n"]
    assert {row for row, _ in shown} == {row for row, _ in results}


def as_shown(value):
    return f"{float(value):.2f}" if value[0].isdigit() else value


def test_the_published_results_name_no_place_on_the_machine_that_made_them():
    for path in sorted((ROOT / "results").rglob("*.*")):
        if path.suffix in (".csv", ".json"):
            assert not re.search(r"[\s\"'=,]/\w+/", path.read_text()), path


def test_there_are_claims_about_every_row_of_zhang_s_tables():
    (table,) = [one.tables[0] for one in read_declarations() if one.experiment == "zhang"]
    claims = [claim for claim in read_claims() if claim.experiment == "zhang"]
    whole, about = ("zhang_fits", "zhang_fails"), {(claim.id, claim.region): claim for claim in claims}
    assert sorted(claim.region for claim in claims if claim.id in whole) == sorted(table.rows)
    for label, row in table.rows.items():
        true = row.labels == "true labels"
        more = "zhang_generalizes" if true else "zhang_random_labels_teach_nothing"
        assert ((more, label) in about) == ("test" in row.values)
        own = [claim for (_, region), claim in about.items() if region == label]
        assert {claim.minus for claim in own} == ({None, row.values["test"]} if true else {None})
        of_model = {key: value for key, value in row.settings.items() if not key.startswith("model.")}
        for claim in own:
            (model,) = claim.models
            options = yaml.safe_load((CONFIG_DIR / "model" / f"{model}.yaml").read_text())
            assert all(
                setting({"model": options}, key) == value for key, value in row.settings.items() - of_model.items()
            )
            assert claim.labels == row.labels.split()[0] and of_model.items() <= claim.settings.items()


def whole_run(*overrides):
    """A run of `experiment=zhang` on all images."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = resolve(compose("train", ["experiment=zhang", *overrides]))
    sizes = {"fit/train_size": 50_000.0, "fit/test_size": 10_000.0, "fit/classes": 10.0}
    metrics = sizes | {"fit/train_accuracy": 1.0, "fit/test_accuracy": 0.5}
    return Run(Path("run"), "zhang", 0, "k", "k", config, metrics)


OTHER_RECIPES = ["training.optimizer.nesterov=true", "training.optimizer.momentum=0.5", "training/optimizer=adam"]
OTHER_RECIPES += ["training/loss=label_smoothing", "training/loss=margin", "training/schedule=cosine"]
OTHER_RECIPES += ["training.warmup_epochs=1", "training.stop_loss=1.5", "training.batch_size=64", "training.epochs=30"]
OTHER_RECIPES += ["preprocess.crop=32", "preprocess.normalisation=per_channel", "dataset.pixels=shuffled"]


@pytest.mark.parametrize("change", [*OTHER_RECIPES, "training.lr=0.02", "training.precision=bfloat16"])
def test_no_claim_about_the_paper_s_recipe_is_judged_on_another(change):
    claims = [claim for claim in read_claims() if claim.experiment == "zhang"]
    assert any(verdict.n for verdict in judge(claims, [whole_run("row=mlp_1x512")]))
    assert not any(verdict.n for verdict in judge(claims, [whole_run("row=mlp_1x512", change)]))


@pytest.mark.parametrize(
    ("row", "change", "beside"),
    [
        ("mlp_1x512", "training.stop_accuracy=1.0", True),
        ("inception_random_crop", "training.precision=bfloat16", True),
        ("alexnet_random", "training.stop_accuracy=0.999", True),
        ("alexnet_random", "training.stop_accuracy=0.5", False),
        ("inception", "training.lr=0.01", False),
        ("alexnet", "training.lr=0.1", False),
        ("inception", "training.epochs=500 training.schedule.decay=0.999", False),  # of two rows of Table 4 alone
        ("inception_random", "training.epochs=500 training.schedule.decay=0.999", False),
    ],
)
def test_the_paper_s_numbers_are_subtracted_from_those_of_its_recipe_alone(row, change, beside):
    (table,) = [one.tables[0] for one in read_declarations() if one.experiment == "zhang"]
    for changes, expected in (([], True), (change.split(), beside)):
        (found,) = table.tables([whole_run(f"row={row}", *changes)])
        (cells,) = [dict(zip(found.columns, cells)) for _, cells in found.rows if cells[0] == "1"]
        assert (cells["train: difference"] is not None) == expected


@pytest.mark.parametrize("change", ["flip=false", "shift=4", "degrees=5"])
def test_nor_on_another_augmentation(change):
    claims, row = [claim for claim in read_claims() if claim.experiment == "zhang"], "row=inception_random_flip_rotate"
    assert any(verdict.n for verdict in judge(claims, [whole_run(row)]))
    assert not any(verdict.n for verdict in judge(claims, [whole_run(row, f"training.augmentation.{change}")]))


@pytest.mark.parametrize("change", [None, *OTHER_RECIPES])
def test_the_table_compares_with_the_paper_only_what_has_its_recipe(change):
    (table,) = [one.tables[0] for one in read_declarations() if one.experiment == "zhang"]
    (shown,) = table.tables([whole_run("row=mlp_1x512", *([change] if change else []))])
    differences = [cells[shown.columns.index("test: difference")] for _, cells in shown.rows]
    assert any(differences) == (change is None)


def test_each_row_s_command_makes_a_run_that_its_claims_and_no_others_are_about():
    claims, found = [claim for claim in read_claims() if claim.experiment == "zhang"], []
    for option in sorted((CONFIG_DIR / "row").glob("*.yaml")):
        about = {v.claim.region for v in judge(claims, [whole_run(f"row={option.stem}")]) if v.n}
        assert len(about) == (0 if option.stem.endswith("_pixels") else 1), option.stem
        found += about
    assert sorted(found) == sorted(claim.region for claim in claims if claim.id in ("zhang_fits", "zhang_fails"))
