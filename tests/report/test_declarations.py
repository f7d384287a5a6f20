"""Tables, figures and comparisons that YAML files declare."""

import json
import shutil

import pytest

from rebuttal.errors import ConfigError
from rebuttal.report.declarations import REPORTS, read_declarations, unknown_metrics
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results

MINE = """
heading: My experiment
tables:
  - kind: grid
    title: Students
    corner: student
    metric: "{row}/{column}"
    rows: {of classes: student, of logits: student_logit}
    columns: {agreement: agreement, kappa: kappa}
charts:
  - kind: dots
    title: Students.
    panels: {kappa: [kappa]}
  - kind: swept
    name: mine_width
    title: By width.
    panels: {kappa: student/kappa}
comparisons:
  - kind: contrast
    each: {kappa: kappa, agreement: agreement}
    measure: "{label}"
    a: [classes, "student/{value}"]
    b: [logits, "student_logit/{value}"]
"""


def declared(folder, text, name="mine"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def runs(make_run, tmp_path):
    for width in (1, 2, 3):
        for seed in range(3):
            students = {"student": 0.1 * width + 0.01 * seed, "student_logit": 0.2 * width + 0.01 * seed**2}
            metrics = {f"{name}/{what}": value for name, value in students.items() for what in ("kappa", "agreement")}
            make_run(f"{width}-{seed}", metrics, seed, experiment="mine", model={"_target_": "M", "width": width})
    return tmp_path / "runs"


def test_an_own_experiment_has_its_tables_figures_and_comparisons_everywhere(runs, tmp_path):
    results = find_results([runs], declarations=[declared(tmp_path / "d", MINE)])
    assert results.headings == {"mine": "My experiment"} and results.notes() == []
    assert len(results.tables) == 3 and {table.corner for table in results.tables} == {"student"}
    curve = next(chart for chart in results.charts if chart.name == "mine_width").panels[0]
    assert [(x, round(y.mean, 9)) for x, y in curve.series["kappa"]] == [(1.0, 0.11), (2.0, 0.21), (3.0, 0.31)]
    assert sorted(set(results.contrasts["measure"])) == ["agreement", "kappa"] and len(results.contrasts) == 6
    out = write_report(results, tmp_path / "out")
    assert (out / "figures/mine_width.pdf").exists() and len(list((out / "processed").glob("table_mine_*.csv"))) == 3
    tex, page = ((out / name).read_text() for name in ("results.tex", "index.html"))
    assert r"\section{My experiment}" in tex and "figures/mine_width.pdf" in tex
    assert '<h2 id="mine">My experiment</h2>' in page and "Students (M" in page


def test_a_declaration_is_found_in_the_configs_that_the_runs_were_composed_from(runs, tmp_path):
    declared(tmp_path / "own/conf/report", MINE)
    for entry in ("file://own/conf", f"file://{tmp_path}/own/conf", "own/conf"):
        for path in runs.glob("*/provenance.json"):
            content = json.loads(path.read_text()) | {"overrides": [f"hydra.searchpath=['{entry}']", "seed=0"]}
            path.write_text(json.dumps(content))
            (path.parent / ".hydra").mkdir(exist_ok=True)
            (path.parent / ".hydra/hydra.yaml").write_text(f"hydra:\n  runtime:\n    cwd: {tmp_path}\n")
        assert find_results([runs]).headings == {"mine": "My experiment"}, entry
    shutil.rmtree(tmp_path / "own")
    assert find_results([runs]).headings == {"mine": "mine"}  # a folder that is gone: the plain table


def test_without_a_declaration_there_is_a_plain_table(runs):
    results = find_results([runs])
    assert results.headings == {"mine": "mine"} and [table.title for table in results.tables] == ["All metrics"]


def test_an_own_declaration_replaces_rebuttal_s_of_the_same_experiment(tmp_path):
    folder = declared(tmp_path, "heading: Mine", "toy")
    (toy,) = [one for one in read_declarations(named=[folder]) if one.experiment == "toy"]
    assert (toy.heading, toy.tables, toy.order) == ("Mine", (), None)


def test_two_different_declarations_of_one_experiment_are_refused_and_two_equal_ones_are_not(tmp_path):
    a, b = declared(tmp_path / "a", MINE), declared(tmp_path / "b", MINE)
    assert len(read_declarations([a, b])) == len(read_declarations([a]))
    declared(b, "heading: other")
    with pytest.raises(ConfigError, match=rf"^{b}/mine\.yaml: experiment=mine: {a}/mine\.yaml declares it too; "):
        read_declarations([a, b])
    (mine,) = [one for one in read_declarations([a, b], [a]) if one.experiment == "mine"]
    assert mine.heading == "My experiment"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("title: Students\n", "titel: Students\n", r"tables\[0\]\.titel=Students: unknown key; nearest: title; "),
        ("kind: grid", "kind: gird", r"tables\[0\]\.kind=gird: unknown kind of table; nearest: grid; allowed: grid, "),
        ("kind: dots", "kind: dot", r"charts\[0\]\.kind=dot: unknown kind of chart; nearest: dots; allowed: dots, "),
        ("kind: contrast", "kind: 5", r"comparisons\[0\]\.kind=5: unknown kind of comparison; allowed: contrast, "),
        ("kind: grid", "kind: [grid]", r"tables\[0\]\.kind=\['grid'\]: unknown kind of table; nearest: grid"),
        ("  - kind: grid\n", "  - \n", r"tables\[0\]\.kind is missing; allowed: grid, levels"),
        ("tables:", "tabels:", r"tabels=.*: unknown key; nearest: tables; allowed: "),
        ("heading: My experiment", "heading: 5", r".*heading=5: "),
        ("heading: My experiment", "experiment: ../x", r"experiment=\.\./x: allowed: "),
        ("[kappa]}\n  - kind: swept", "[kapa]}\n  - kind: swept", r"charts\[0\]\.panels\.kappa=kapa: unknown row or "),
        ("title: Students.\n", "title: S.\n    log: [kapa]\n", r"charts\[0\]\.log=kapa: unknown panel; nearest: kappa"),
        ("title: Students.\n", "title: S.\n    table: your\n", r"charts\[0\]\.table=your: unknown table of this file"),
        ('"{row}/{column}"', '"{row}/{colum}"', r"tables\[0\]\.metric=.*{colum}: unknown placeholder; nearest: {c"),
        ("name: mine_width", "name: mine", r"charts\[1\]\.name=mine: .*charts\[0\] has it too; allowed: another name"),
        ("name: mine_width", "name: a/b", r"charts\[1\]\.name=a/b: allowed: letters"),
        ("name: mine_width", "name: verdicts", r"charts\[1\]\.name=verdicts: allowed: "),
        ("each: {kappa: kappa, agreement: agreement}", "each: {a: 1}", r"comparisons\[0\]\.each=.*: allowed: label"),
        ("    rows: {of", "    rows: [of", r"not YAML, line \d+, column \d+: "),
        ("{of classes: student, of logits: student_logit}", "{}", r"tables\[0\]\.rows is empty; allowed: at least "),
        ("{kappa: [kappa]}", "{}", r"charts\[0\]\.panels is empty; allowed: at least one"),
        ("{kappa: student/kappa}", "{}", r"charts\[1\]\.panels is empty; allowed: at least one"),
        ("columns: {agreement: agreement", "columns: {agreement: 5", r"tables\[0\]\.columns\.agreement=5: "),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_one_line_with_its_place(old, new, line, tmp_path):
    assert old in MINE
    folder = declared(tmp_path, MINE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"^{folder}/mine\.yaml:? ?{line}") as caught:
        read_declarations(named=[folder])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "empty; allowed: keys heading"), ("- a", "holds a list; allowed"), ("tables: 5", "tables=5: allowed: a list"),
     ("tables: [a]", r"tables\[0\]=a: allowed: keys kind"), ("1: a", "1=a: unknown key; allowed"),
     ("a: !!python/x y", "not YAML"),
     ("heading: a\ntables: []\nheading: b", "not YAML, line 3, column 1: the key heading is there already, "),
     ("tables:\n  - {kind: grid, kind: levels}", "not YAML, line 2, column 18: the key kind is there already"),
     ("heading: 2001-99-99", "month must be in 1..12; allowed: a UTF-8 file with a declaration")],
)  # fmt: skip
def test_a_file_that_is_no_declaration_is_one_line(text, line, tmp_path):
    folder = declared(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"^{folder}/mine\.yaml: {line}") as caught:
        read_declarations(named=[folder])
    assert "\n" not in str(caught.value)


def test_a_folder_without_declarations_is_one_line(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match=rf"^--declarations={folder}: has no YAML files; allowed: "):
            read_declarations(named=[folder])


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("of logits: student_logit}", "of logits: student_logits}",
         "tables[0].rows.of logits=student_logits: no run has the metric student_logits/agreement; "
         "nearest: student_logit/agreement"),
        ("kappa: student/kappa", "kappa: student/kapa",
         "charts[1].panels.kappa=student/kapa: no run has the metric student/kapa; nearest: student/kappa"),
        ("b: [logits, \"student_logit", "b: [logits, \"logit",
         "comparisons[0].b=logit/kappa: no run has the metric logit/kappa; nearest: "),
        ("corner: student", "corner: student\n    fitted: [student/fit]",
         "tables[0].fitted[0]=student/fit: no run has the metric student/fit; nearest: "),
    ],
)  # fmt: skip
def test_a_metric_that_no_run_has_is_one_line_with_the_nearest(old, new, line, runs, tmp_path):
    folder = declared(tmp_path / "d", MINE.replace(old, new, 1))
    notes = find_results([runs], declarations=[folder]).notes()
    assert notes[0].startswith(f"{folder}/mine.yaml: {line}") and "\n" not in "".join(notes)


def test_an_experiment_whose_name_looks_like_a_slip_is_one_line(tmp_path):
    lines = {
        name: unknown_metrics(read_declarations(named=[declared(tmp_path / name, f"experiment: {name}")]), [])
        for name in ("two_stge", "smoothness", "of_somebody")
    }
    slip = f"{tmp_path}/two_stge/mine.yaml: experiment=two_stge: no run is of it; nearest: two_stage"
    assert lines["two_stge"] == [slip]
    assert lines["smoothness"] == lines["of_somebody"] == []


def test_a_claim_that_no_ledger_has_is_one_line(runs, tmp_path):
    folder = declared(tmp_path / "d", MINE.replace("title: Students.\n", "title: S.\n    claimed: {kappa: smoother}\n"))
    with pytest.raises(ConfigError, match=r"mine\.yaml: charts\[0\]\.claimed\.kappa=smoother: unknown claim; "):
        find_results([runs], declarations=[folder])


def test_rebuttal_s_own_experiments_are_declared_in_the_order_of_the_paper():
    names = [one.experiment for one in read_declarations()]
    assert names[:4] == ["baseline", "interpolation", "zhang", "two_stage"] and names[-1] == "toy"
    assert sorted(names) == sorted(path.stem for path in REPORTS.glob("*.yaml"))
    assert set(names) == {path.stem for path in (REPORTS.parent / "experiment").glob("*.yaml")}


def test_a_section_without_a_number_says_why(make_run, tmp_path):
    make_run("r", {"teacher/train_accuracy": 0.5, "student/kappa": 0.1})
    out = write_report(find_results([tmp_path / "runs"]), tmp_path / "out")
    assert "No table or figure: " in (out / "index.html").read_text()
