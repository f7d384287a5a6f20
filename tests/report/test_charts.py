import re
from pathlib import Path

import pytest

from rebuttal.report.charts import Curves, DotChart, Dots, LabelNoiseChart, MetricNameChart, verdict_chart
from rebuttal.report.claims import Claim
from rebuttal.report.draw import draw, save
from rebuttal.report.gather import Run, gather
from rebuttal.report.tables import Grid
from rebuttal.report.verdicts import judge
from rebuttal.statistics import median_interval

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


def test_curves_whose_x_is_part_of_the_metric_names(make_run, tmp_path):
    make_run("0", {"s/kappa_300_1000": 0.4, "s/kappa_300_100": 0.1, "s/kappa_300_100_low": 0.0, "s/kappa_900_100": 0.2})
    spec = MetricNameChart(
        name="c", experiment="toy", title="Title.", x="n2", panels={"kappa": r"s/kappa_(?P<series>\d+)_(?P<x>\d+)"},
        series="n1 = {}", vertical="a tenth", vertical_divisor=10,
    )  # fmt: skip
    ((panel,),) = [chart.panels for chart in spec.charts(gather([tmp_path]).runs)]
    assert [(x, y.mean) for x, y in panel.series["n1 = 300"]] == [(100.0, 0.1), (1000.0, 0.4)]
    assert panel.vertical_lines == {"n1 = 300": 30.0, "n1 = 900": 90.0}


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
