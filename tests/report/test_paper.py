import shutil
import subprocess

import pandas as pd
import pytest

from rebuttal.report.contents import RUN_CHARTS, TABLE_CHARTS, TABLES
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results


def test_a_study_fills_every_table_figure_and_claim(study, tmp_path):
    results = find_results([study()])
    write_report(results, tmp_path / "out")
    assert {table.name for table in results.tables} == {spec.name for spec in TABLES}
    named = {spec.table for spec in TABLE_CHARTS} | {spec.name for spec in RUN_CHARTS}
    assert {chart.name for chart in results.charts} == named
    assert not [v.claim.id for v in results.verdicts if v.verdict == "not run"]
    for chart in named:
        assert (tmp_path / "out" / "figures" / f"{chart}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / "figures" / f"{chart}.png").read_bytes().startswith(b"\x89PNG")
    cells = pd.read_csv(tmp_path / "out/processed/table_two_stage.csv").set_index(["row", "column"])
    runs = pd.read_csv(tmp_path / "out/raw/runs.csv")
    expected = runs.loc[runs["experiment"] == "two_stage", "student/kappa"].mean()
    assert cells.loc[("student of classes", "kappa"), "mean"] == pytest.approx(expected)


def test_reports_are_reproducible_remove_stale_files_and_keep_those_of_the_user(study, tmp_path):
    folder, out = study(), tmp_path / "out"
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
