import json
import shutil
import subprocess

import pandas as pd
import pytest

from rebuttal.errors import ConfigError
from rebuttal.report.claims import read_claims
from rebuttal.report.declarations import read_declarations
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results
from rebuttal.store import written
from rebuttal.store.files import write_bytes
from tests.parameters import some_slow


@pytest.mark.slow
def test_a_study_fills_every_table_figure_and_claim(study, tmp_path):
    results = find_results([study()])
    write_report(results, tmp_path / "out")
    assert {table.name for table in results.tables} == {spec.name for one in read_declarations() for spec in one.tables}
    named = {spec.name for one in read_declarations() for spec in one.charts}
    assert {chart.name for chart in results.charts} == named
    judged = {v.claim.id for v in results.verdicts if v.verdict != "not run"}  # regions exclude each other
    assert judged == {claim.id for claim in read_claims()}
    for chart in named:
        assert (tmp_path / "out" / "figures" / f"{chart}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / "figures" / f"{chart}.png").read_bytes().startswith(b"\x89PNG")
    cells = pd.read_csv(tmp_path / "out/processed/table_two_stage.csv").set_index(["row", "column"])
    runs = pd.read_csv(tmp_path / "out/raw/runs.csv")
    expected = runs.loc[runs["experiment"] == "two_stage", "student/kappa"].mean()
    assert cells.loc[("student of classes", "kappa"), "mean"] == pytest.approx(expected)


@pytest.mark.slow
def test_reports_are_reproducible_remove_stale_files_and_keep_those_of_the_user(study, tmp_path):
    folder, out = study(experiments=["smoothness", "two_stage"]), tmp_path / "out"
    write_report(find_results([folder]), out)
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "main.tex").write_text("mine")
    (out / "figures" / "mine.png").write_text("mine")
    shutil.rmtree(next(folder.glob("two_stage-None-0")))
    for seed in (1, 2):
        shutil.rmtree(folder / f"two_stage-None-{seed}")
    write_report(find_results([folder]), out)
    assert (out / "main.tex").read_text() == (out / "figures" / "mine.png").read_text() == "mine"
    gone = {path.name for path in first if not path.exists()}
    assert gone == {"two_stage.pdf", "two_stage.png", "two_stage.tex", "table_two_stage.csv"}
    same = ["figures/smoothness.pdf", "figures/smoothness.png", "tables/smoothness.tex", "processed/trends.csv"]
    assert all((out / name).read_bytes() == first[out / name] for name in same)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def results(study):
    return find_results([study(experiments=["two_stage", "baseline"])])


OF_A_REPORT = ["index.html", "results.tex", "raw/runs.csv", "raw/runs.parquet", "processed/claims.csv"]
OF_A_REPORT += ["processed/table_two_stage.csv", "tables/two_stage.tex", "figures/two_stage.png", "files.json"]


@pytest.mark.parametrize("name", some_slow(OF_A_REPORT, *OF_A_REPORT[1:-1]))
def test_a_file_of_the_user_s_where_one_of_the_report_s_would_be_stops_it(name, results, tmp_path):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('["mine.txt"]')
    (out / "mine.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(ConfigError, match=rf"^--out={out}: {out}/{name} is in the way: .*; allowed: [^\n]*$"):
        write_report(results, out)
    assert contents(out) == before and len(list(out.rglob("*"))) <= 3


NO_LISTS = ["{", "\xff", "null", "[1]", '{"index.html": 1}', '["../mine.txt"]']


@pytest.mark.parametrize("content", some_slow(NO_LISTS, *NO_LISTS[1:-1]))
def test_a_list_of_files_that_is_not_a_report_s_stops_it_in_one_line(content, results, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/files.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"/files\.json is in the way: ") as caught:
        write_report(results, tmp_path / "out")
    assert "\n" not in str(caught.value) and (tmp_path / "mine.txt").read_text() == "mine"
    assert len(contents(tmp_path / "out")) == 1


@pytest.mark.slow
def test_a_report_goes_beside_the_user_s_files_and_beside_a_run(results, tmp_path):
    out = tmp_path / "runs/two_stage-None-0"
    for name in ("main.tex", "figures/mine.png", "raw/mine.csv", "notes/index.html"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    before = contents(out)
    for _ in range(2):
        write_report(results, out)
        now = contents(out)
        assert {name: now[name] for name in before} == before and "index.html" in now


@pytest.mark.slow
def test_a_report_of_an_earlier_version_is_written_again_and_one_that_was_edited_is_not(results, study, tmp_path):
    out = write_report(results, tmp_path / "out")
    names = sorted(json.loads((out / "files.json").read_text())["files"])
    (out / "tables/gone.tex").write_text("of that version")
    (out / "tables/mine.tex").write_text("mine")
    since = {"tables/regions.tex", "processed/regions.csv"}  # which it did not write
    for name in since:
        (out / name).unlink()
    (out / "files.json").write_text(json.dumps([*sorted(set(names) - since), "tables/gone.tex"], indent=1) + "\n")
    write_report(results, out)
    assert not (out / "tables/gone.tex").exists() and (out / "tables/mine.tex").read_text() == "mine"
    assert sorted(json.loads((out / "files.json").read_text())["files"]) == names
    (out / "results.tex").write_text("edited")
    with pytest.raises(ConfigError, match=r"/results\.tex is in the way: "):
        write_report(results, out)
    assert (out / "results.tex").read_text() == "edited"


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 1, 5])
def test_a_report_that_was_killed_is_written_by_the_next(moment, results, tmp_path, monkeypatch):
    calls = iter(range(1000))

    def killed(path, content):
        if next(calls) == moment:
            raise KeyboardInterrupt
        write_bytes(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(written, "write_bytes", killed)
        write_report(results, tmp_path / "out")
    write_report(results, tmp_path / "out")
    write_report(results, tmp_path / "whole")
    found, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    own = ("index.html", "files.json")  # plots have new names in each page
    assert found.keys() == whole.keys() and all(found[name] == whole[name] for name in whole if name not in own)


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_report_that_would_go_into_a_file_is_refused(where, results, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=rf"^--out={tmp_path}/{where}: {tmp_path}/file is in the way: "):
        write_report(results, tmp_path / where)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_paper_compiles(study, tmp_path):
    out = write_report(find_results([study(note="50 % & a_b {κ} 数")]), tmp_path / "out")
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
            cwd=out,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout and (out / "main.pdf").read_bytes().startswith(b"%PDF")
