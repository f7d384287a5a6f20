"""Experiments that the report has no declaration for."""

import pytest

from rebuttal.report.charts import Curves
from rebuttal.report.contents import make_charts, make_tables
from rebuttal.report.gather import gather
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results


@pytest.fixture
def own_runs(make_run, tmp_path):
    def make(widths=(8, 16), seeds=2, **more):
        for width in widths:
            for seed in range(seeds):
                metrics = {"s/x": width + seed, "s/x_low": 0.0, "s/x_high": 99.0, "s/same": 1.0, **more}
                make_run(f"{width}-{seed}", metrics, seed, experiment="mine", model={"_target_": "M", "width": width})
        return gather([tmp_path]).runs

    return make


def test_an_experiment_of_the_user_s_has_a_table_of_all_its_metrics(own_runs):
    (table,) = make_tables([], own_runs())
    assert (table.name, table.experiment, table.corner) == ("mine", "mine", "metric")
    assert len(table.columns) == 2 and [label for label, _ in table.rows] == ["s/x", "s/same"]
    assert [cell.mean for cell in table.rows[0][1]] == [8.5, 16.5]


def test_many_configurations_are_rows(own_runs):
    (table,) = make_tables([], own_runs(widths=range(1, 9)))
    assert table.corner == "configuration" and table.columns == ("s/x", "s/same") and len(table.rows) == 8
    assert [cells[0].mean for _, cells in table.rows] == [width + 0.5 for width in range(1, 9)]


def test_its_metrics_are_drawn_over_the_number_that_was_swept(own_runs):
    (chart,) = make_charts([], own_runs(widths=(1, 10, 1000)), [], [])
    (panel,) = chart.panels  # a metric that is the same everywhere shows nothing
    assert isinstance(panel, Curves) and (panel.x, panel.y, panel.log_x) == ("model.width", "s/x", True)
    assert [(x, y.mean) for x, y in panel.series["s/x"]] == [(1, 1.5), (10, 10.5), (1000, 1000.5)]


def test_nothing_is_drawn_over_words_or_over_two_settings_at_once(make_run, tmp_path):
    for number, (width, depth) in enumerate(((1, "a"), (2, "b"))):
        make_run(str(number), {"s/x": 1.0 * number}, experiment="mine", model={"width": width, "depth": depth})
    assert make_charts([], gather([tmp_path]).runs, [], []) == []


def test_the_whole_report_has_it(own_runs, tmp_path):
    own_runs()
    out = write_report(find_results([tmp_path]), tmp_path / "out")
    assert (out / "figures/mine.pdf").exists() and (out / "processed/table_mine.csv").exists()
    assert r"\input{tables/mine}" in (out / "results.tex").read_text()
    assert '<h2 id="mine">mine</h2>' in (out / "index.html").read_text()
