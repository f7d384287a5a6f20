import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rebuttal.errors import ConfigError
from rebuttal.report.charts import (
    Chart,
    Curves,
    DotChart,
    Dots,
    HistoryChart,
    LabelNoiseChart,
    MetricNameChart,
    verdict_chart,
)
from rebuttal.report.claims import Claim
from rebuttal.report.draw import draw, save
from rebuttal.report.gather import RECORDS, Run, gather
from rebuttal.report.page import panel_plot
from rebuttal.report.plain import SweptChart, plain_charts
from rebuttal.report.tables import Grid, Selection
from rebuttal.report.verdicts import judge
from rebuttal.statistics import Estimate, median_interval

GRID = Grid(
    name="t", experiment="toy", title="Title", corner="who", metric="{row}/{column}", rows={"A": "a", "B": "b"},
    columns={"X": "x", "Y": "y"},
)  # fmt: skip


def test_a_dot_chart_shows_the_cells_of_a_table_by_column_or_by_row(make_run, tmp_path):
    for seed in (0, 1):
        make_run(str(seed), {"a/x": 1.0 + seed, "a/y": 5.0, "b/x": 3.0}, seed)
    tables = GRID.tables(gather([tmp_path]).runs)
    spec = DotChart(table="t", title="Title.", panels={"only X": ("X",)}, claimed={"only X": "claim"})
    ((panel,),) = [chart.panels for chart in spec.charts(tables, {"claim": 0.85})]
    assert panel.categories == ("A", "B") and panel.lines == {"claimed": 0.85}
    assert panel.series["X"]["A"].mean == 1.5 and panel.series["X"]["B"].n == 2
    ((turned,),) = [
        chart.panels
        for chart in DotChart(table="t", title="Title.", panels={"only A": ("A",)}, by_row=True).charts(tables, {})
    ]
    assert turned.categories == ("X", "Y") and turned.series["A"]["Y"].mean == 5.0 and not turned.lines


def test_a_dot_chart_shows_no_table_of_another_declaration_whose_name_begins_alike(make_run, tmp_path):
    for n, size in enumerate((1, 2)):
        make_run(str(n), {"a/x": 1.0}, size=size)
    runs = gather([tmp_path]).runs
    alike = replace(GRID, name="t_more")
    tables = [*GRID.tables(runs), *alike.tables(runs)]
    assert len(tables) == 4 and all(table.name.startswith("t_") for table in tables)
    charts = DotChart(table="t", title="Title.", panels={"X": ("X",)}).charts(tables, {})
    assert [chart.name for chart in charts] == [table.name for table in GRID.tables(runs)]


def test_a_run_that_has_ended_counts_with_its_last_value_in_a_mean_over_steps(make_run, tmp_path):
    spec = HistoryChart(
        name="h", experiment="toy", title="Title.", stage="fit", panels={"loss": "loss"}, series={"all": Selection()},
        size="fit/n",
    )  # fmt: skip
    found = {0: {1: 4.0, 2: 2.0, 3: 0.0}, 1: {1: 8.0, 2: 6.0, 4: 5.0, 8: 1.0}, 2: {1: None}}
    for seed, losses in found.items():
        folder = make_run(str(seed), {"fit/n": 10}, seed)
        rows = [{"stage": "fit", "step": step, "loss": loss} for step, loss in losses.items()]
        pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)
    ((panel,),) = [chart.panels for chart in spec.charts(gather([tmp_path]).runs)]
    # Step 3 is no step of seed 1, which goes on; seed 0 ends there, with a loss of 0. Seed 2 has no loss at all.
    assert [(step, mean.mean, mean.n) for step, mean in panel.series["all"]] == [
        *((1.0, 6.0, 2), (2.0, 4.0, 2), (4.0, 2.5, 2), (8.0, 0.5, 2)),
    ]


def test_a_history_counts_beside_a_run_that_a_report_kept_of_the_same_folder(make_run, tmp_path):
    spec = HistoryChart(
        name="h", experiment="toy", title="Title.", stage="fit", panels={"loss": "loss"}, series={"all": Selection()},
        size="fit/n",
    )  # fmt: skip

    def run(seed, loss):
        folder = make_run("here", {"fit/n": 10}, seed)
        pd.DataFrame([{"stage": "fit", "step": 1, "loss": loss}]).to_csv(folder / "history.csv", index=False)
        return folder

    first = run(0, 4.0)
    (tmp_path / "report/raw").mkdir(parents=True)
    (tmp_path / "report" / RECORDS).write_text(json.dumps(gather([tmp_path / "runs"]).records()))
    shutil.rmtree(first)
    run(1, 2.0)
    runs = gather([tmp_path / "runs", tmp_path / "report"]).runs
    ((panel,),) = [chart.panels for chart in spec.charts(runs)]
    assert len(runs) == 2 and [(x, mean.mean, mean.n) for x, mean in panel.series["all"]] == [(1.0, 2.0, 1)]


def test_curves_against_the_share_of_random_labels(make_run, tmp_path):
    for fraction in (1.0, 0.0, 0.5):
        for seed in (0, 1):
            corruption = {"_target_": "x.RandomLabels", "fraction": fraction}
            make_run(f"{fraction}{seed}", {"fit/x": fraction + seed}, seed, corruption=corruption)
    (chart,) = LabelNoiseChart(
        name="c", experiment="toy", title="Title.", panels={"X": "fit/x", "absent": "fit/y"}
    ).charts(gather([tmp_path]).runs)
    (panel,) = chart.panels
    assert [(x, y.mean) for x, y in panel.series["X"]] == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]


def test_each_kind_of_wrong_labels_has_a_curve_and_true_labels_are_an_end(make_run, tmp_path):
    kinds = {"true_labels": (None, 0), "RandomLabels": (0.5, 1), "BalancedLabels": (1.0, 9), "random_labels": (None, 3)}
    for name, (fraction, x) in kinds.items():
        corruption = {"_target_": f"rebuttal.data.labels.{name}"} | ({"fraction": fraction} if fraction else {})
        make_run(name, {"fit/x": float(x)}, corruption=corruption)
    balanced = {"_target_": "rebuttal.data.labels.BalancedLabels", "fraction": 0.5}
    make_run("half", {"fit/x": 7.0}, corruption=balanced)
    (chart,) = LabelNoiseChart(name="c", experiment="toy", title="Title.", panels={"X": "fit/x"}).charts(
        gather([tmp_path]).runs
    )
    curves = {kind: [(x, y.mean) for x, y in points] for kind, points in chart.panels[0].series.items()}
    assert curves == {
        "RandomLabels": [(0.0, 0.0), (0.5, 1.0), (1.0, 3.0)],
        "BalancedLabels": [(0.5, 7.0), (1.0, 9.0)],
    }


def test_curves_whose_x_is_part_of_the_metric_names(make_run, tmp_path):
    make_run("0", {"s/kappa_300_1000": 0.4, "s/kappa_300_100": 0.1, "s/kappa_300_100_low": 0.0, "s/kappa_900_100": 0.2})
    spec = MetricNameChart(
        name="c", experiment="toy", title="Title.", x="n2", panels={"kappa": r"s/kappa_(?P<series>\d+)_(?P<x>\d+)"},
        series="n1 = {}", vertical="a tenth", vertical_divisor=10,
    )  # fmt: skip
    ((panel,),) = [chart.panels for chart in spec.charts(gather([tmp_path]).runs)]
    assert [(x, y.mean) for x, y in panel.series["n1 = 300"]] == [(100.0, 0.1), (1000.0, 0.4)]
    assert panel.vertical_lines == {"n1 = 300": 30.0, "n1 = 900": 90.0}
    with pytest.raises(
        ConfigError, match=r"panels: \?P<x> is '100_low' in s/kappa_300_100_low; allowed: a pattern of n"
    ):
        replace(spec, panels={"kappa": r"s/kappa_300_(?P<x>.*)"}).charts(gather([tmp_path]).runs)


def test_curves_have_the_metrics_of_all_runs_whatever_their_order(make_run, tmp_path):
    make_run("0", {"s/k_1": 0.4, "s/k_10": 0.5})
    make_run("1", {"s/k_1": 0.4, "s/k_10": 0.5, "s/k_100": 0.6}, 1)
    spec = MetricNameChart(name="c", experiment="toy", title="T", x="n", panels={"kappa": r"s/k_(?P<x>\d+)"})
    runs = gather([tmp_path]).runs
    shown = [
        [x for x, _ in chart.panels[0].series["kappa"]] for one in (runs, runs[::-1]) for chart in spec.charts(one)
    ]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("kind", ["dots", "curves"])
def test_a_figure_shows_the_values_of_the_chart(kind, make_run, tmp_path):
    for seed in (0, 1, 2):
        make_run(str(seed), {"a/x": 1.0 + seed, "b/x": 3.0, "s/k_10": 0.1 * seed, "s/k_20": 0.2}, seed)
    runs = gather([tmp_path]).runs
    if kind == "dots":
        (chart,) = DotChart(
            table="t", title="Title.", panels={"only X": ("X",)}, lines={"only X": {"chance": 0.5}}
        ).charts(GRID.tables(runs), {})
        expected, panel = {2.0, 3.0}, Dots
    else:
        (chart,) = MetricNameChart(
            name="c", experiment="toy", title="Title.", x="n2", panels={"kappa": r"s/k_(?P<x>\d+)"}
        ).charts(runs)
        expected, panel = {10.0, 20.0}, Curves
    assert isinstance(chart.panels[0], panel)
    figure = draw(chart)
    drawn = {float(x) for line in figure.axes[0].lines for x in line.get_xdata()}
    assert expected <= drawn
    assert figure.get_size_inches()[0] <= 6.8  # inches: two journal columns


def test_text_is_embedded_as_text(make_run, tmp_path):
    make_run("0", {"a/x": 1.0})
    (chart,) = DotChart(table="t", title="Title.", panels={"only X": ("X",)}).charts(
        GRID.tables(gather([tmp_path]).runs), {}
    )
    save(draw(chart), tmp_path / "f.pdf")
    content = (tmp_path / "f.pdf").read_bytes()
    assert re.search(rb"/Subtype */(TrueType|Type0|CIDFontType2)", content) and b"/Type3" not in content


def test_the_overview_shows_each_claim_at_its_distance_from_the_threshold():
    common = {"statement": "s", "source": "s", "experiment": "toy", "value": "a/x", "command": "c"}
    above = Claim(id="above", comparison="at_least", threshold=0.5, **common)
    below = Claim(id="below", comparison="at_most", threshold=0.5, **common)
    runs = [Run(Path(str(s)), "toy", s, "k", str(s), {}, {"a/x": 0.6 + s / 100}) for s in range(9)]
    chart = verdict_chart(judge([above, below], runs))
    (panel,) = chart.panels
    assert panel.categories == ("above", "below") and panel.lines == {"threshold": 0.0} and panel.exclusive
    supported, refuted = panel.series["supported"]["above"], panel.series["refuted"]["below"]
    _, low, high = median_interval([run.metrics["a/x"] for run in runs])
    assert (supported.mean, supported.low, supported.high) == pytest.approx(
        (0.14 / (high - 0.5), (low - 0.5) / (high - 0.5), 1)
    )
    assert (refuted.mean, refuted.low, refuted.high) == pytest.approx(
        (-supported.mean, -supported.high, -supported.low)
    )
    few = verdict_chart(judge([above], runs[:2])).panels[0].series["inconclusive"]["above"]
    assert few.low is few.high is None and few.mean == 1
    assert verdict_chart(judge([above], [])) is None
    others = [replace(run, configuration="another", folder=Path(f"b{run.seed}")) for run in runs]  # of the same name
    dots = verdict_chart(judge([above], [*runs, *others])).panels[0]
    assert len(set(dots.categories)) == 2 and sum(len(one) for one in dots.series.values()) == 2


def test_a_point_without_an_interval_takes_none_from_the_others(make_run, tmp_path):
    """A single seed at one level: the other levels keep their intervals, in print as on the page."""
    for fraction, seeds in ((0.0, 3), (0.5, 1), (1.0, 3)):
        for seed in range(seeds):
            corruption = {"_target_": "x.RandomLabels", "fraction": fraction}
            make_run(f"{fraction}{seed}", {"fit/x": fraction + seed}, seed, corruption=corruption)
    (chart,) = LabelNoiseChart(name="c", experiment="toy", title="Title.", panels={"X": "fit/x"}).charts(
        gather([tmp_path]).runs
    )
    (axes,) = [axes for axes in draw(chart).axes if axes.lines]
    vertical = [line for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
    assert sorted(line.get_xdata()[0] for line in vertical) == [0.0, 1.0]


def test_the_labels_of_many_steps_do_not_lie_on_each_other():
    """Ticks are at the points if these lie far enough apart, else at round numbers."""
    for steps in ([10, 30, 100], list(range(391, 6648, 391))):
        points = [(float(step), Estimate(0.5, None, None, 1)) for step in steps]
        chart = Chart("c", "e", "T.", (Curves("step", "loss", {"true labels": points}, log_x=True),), ())
        figure = draw(chart)
        figure.canvas.draw()
        (axes,) = figure.axes
        left, right = axes.get_xlim()
        labels = [
            tick for tick in axes.get_xticklabels() if left <= tick.get_position()[0] <= right and tick.get_text()
        ]
        boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in labels)
        assert len(boxes) >= 3 and all(end < begin for (_, end), (begin, _) in pairwise(boxes))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true labels"]  # no axis says it


def drawn_in_print(axes, panel):
    """Return the marks and the intervals on matplotlib's axes; a dot plot's without the offsets of its series."""
    marks, intervals = set(), set()
    for line in axes.lines:
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        if line.get_marker() not in ("None", None, ""):
            marks |= {(a, round(b)) if isinstance(panel, Dots) else (a, b) for a, b in zip(x, y)}
        elif len(x) == 2 and isinstance(panel, Dots) and y[0] == y[1] and x[0] != x[1]:
            intervals.add((round(y[0]), *x))
        elif len(x) == 2 and isinstance(panel, Curves) and x[0] == x[1] and y[0] != y[1]:
            intervals.add((x[0], *y))
    return marks, intervals - {(name, 0.0, 1.0) for name in panel.lines.values()}


def drawn_on_the_page(panel):
    marks, intervals = set(), set()
    for glyph in panel_plot(panel).renderers:
        data = glyph.data_source.data
        if "low" not in data or type(glyph.glyph).__name__ != "Scatter":
            continue
        for x, y, low, high in zip(data["x"], data["y"], data["low"], data["high"]):
            at = panel.categories.index(y[0]) if isinstance(panel, Dots) else x
            marks.add((x, at) if isinstance(panel, Dots) else (x, y))
            intervals |= {(at, low, high)} if low != high else set()
    return marks, intervals


KINDS = {
    "dots": lambda runs: DotChart(table="t", title="T.", panels={"p": ("X", "Y")}).charts(GRID.tables(runs[:3]), {}),
    "dots on a logarithmic axis": lambda runs: DotChart(
        table="t", title="T.", panels={"p": ("X", "Y")}, log=("p",)
    ).charts(GRID.tables(runs[:3]), {}),
    "label noise": lambda runs: LabelNoiseChart(
        name="c", experiment="toy", title="T.", panels={"X": "a/x", "Y": "a/y"}
    ).charts(runs),
    "metric names": lambda runs: MetricNameChart(
        name="c", experiment="toy", title="T.", x="k", panels={"k": r"s/k_(?P<x>\d+)"}, log_y=("k",)
    ).charts(runs[:3]),
    "swept": lambda runs: SweptChart(name="c", experiment="toy", title="T.", panels={"X": "a/x"}).charts(runs),
    "plain": lambda runs: plain_charts(runs, set()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_renderings_draw_the_same_marks_and_intervals(kind, make_run, tmp_path):
    """With ragged seeds, and with intervals that a logarithmic axis cannot show whole."""
    for fraction, seeds in ((0.25, 3), (0.5, 1), (1.0, 2)):
        for seed in range(seeds):
            metrics = {
                "a/x": 0.1 + seed,
                "b/x": 5.0 + seed / 10,
                "s/k_10": 0.1 + seed,
                "s/k_20": 2.0,
                "a/y": 3.0 + seed**2,
            }
            metrics |= {} if seed else {"b/y": 7.0, "s/k_40": 4.0}  # of a single seed
            corruption = {"_target_": "x.RandomLabels", "fraction": fraction}
            make_run(f"{fraction}{seed}", metrics, seed, corruption=corruption)
    charts = KINDS[kind](gather([tmp_path]).runs)
    assert charts
    for chart in charts:
        for axes, panel in zip(draw(chart).axes, chart.panels):
            in_print, on_page = drawn_in_print(axes, panel), drawn_on_the_page(panel)
            assert in_print == on_page and in_print[0] and in_print[1]
            estimates = [mark.estimate for marks in panel.marks().values() for mark in marks]
            assert len(in_print[1]) == sum(e.low is not None and e.low != e.high for e in estimates)


def test_an_interval_below_zero_is_cut_at_the_end_of_a_logarithmic_axis():
    panel = Dots(
        "x", ("a", "b"), {"s": {"a": Estimate(1.0, -2.0, 4.0, 2), "b": Estimate(-1.0, -2.0, 0.0, 2)}}, log=True
    )
    ((mark,),) = panel.marks().values()  # what is not above zero is nowhere on the axis
    assert mark.interval == (0.1, 4.0) and mark.estimate.low == -2.0
    assert Dots("x", ("a", "b"), panel.series).marks()["s"][0].interval == (-2.0, 4.0)


def test_a_row_s_name_is_wrapped_between_words_and_never_within_a_comparison():
    name = "student_beats_nearest_neighbour_teacher: K = 10, r ≤ 3, the best recipe (mlp, hidden=[100], n = 1,000)"
    plot = Dots("x", ("short", name), {})
    short, long = plot.rows().values()
    assert short == "short" and plot.lines_of_a_row == long.count("\n") + 1 == 3
    assert max(map(len, long.split("\n"))) <= 40
    assert long.replace("\n", " ").replace("\u00a0", " ") == name
    assert {"K\u00a0=\u00a010,", "r\u00a0≤\u00a03,"} < set(re.split("[ \n]", long))
