"""The report's command line on real runs of debug size."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from rebuttal import api
from rebuttal.report.paper import write_report
from rebuttal.report.results import find_results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        small = ["debug=tiny", "dataset.shape=[20]", "model=mlp_toy", f"store={root / 'store'}", f"seed={seed}"]
        api.run("two_stage", small, folder=str(root / "runs" / str(seed)))
    return root / "runs"


def report(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rebuttal.report", *map(str, arguments)], capture_output=True, text=True
    )


def test_a_report_changes_no_run_and_prints_its_verdicts(runs, tmp_path):
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    done = report(runs, "--out", tmp_path, "--debug")
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    table = pd.read_csv(tmp_path / "raw/runs.csv")
    assert len(table) == 2 and table["configuration"].nunique() == 1
    assert table.loc[0, "student/kappa"] == json.loads((runs / "0" / "metrics.json").read_text())["student/kappa"]
    assert pd.read_parquet(tmp_path / "raw/runs.parquet").shape == table.shape
    claims = pd.read_csv(tmp_path / "processed/claims.csv").set_index("claim")
    assert claims.loc["fits_random_labels", "verdict"] == "not run"
    assert claims.loc["fits_random_labels", "command"].startswith("python -m rebuttal.train")
    assert claims.loc["student_agrees_logits", "left_out_unfitted"] == 2  # two epochs are too few to fit
    assert "not run" in done.stdout and f"report: {tmp_path / 'index.html'}" in done.stdout
    assert "python -m rebuttal.train -m experiment=baseline" in (tmp_path / "index.html").read_text()


def test_runs_of_debug_size_are_listed_and_judged_only_if_asked_for(runs, tmp_path):
    done = report(runs, "--out", tmp_path)
    assert "runs that no claim is judged on (debug=tiny): 2; --debug judges them too" in done.stdout
    claims = pd.read_csv(tmp_path / "processed/claims.csv")
    assert set(claims["verdict"]) == {"not run"} and len(pd.read_csv(tmp_path / "raw/runs.csv")) == 2


def test_deleted_and_damaged_runs_are_listed_and_the_others_are_unchanged(runs, tmp_path):
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    whole = find_results([copy]).gathered.table().set_index("seed")
    (copy / "0" / "metrics.json").write_text('{"student/kappa": 0.')
    (copy / "1").rename(tmp_path / "elsewhere")
    (copy / "2").mkdir()
    (copy / "2" / "train.log").touch()
    done = report(copy, tmp_path / "elsewhere", "--out", tmp_path / "out")
    assert f"damaged: {copy / '0'}: ValueError: EOF while parsing" in done.stdout
    assert f"unfinished: {copy / '2'}: no metrics.json; rerun its command to resume" in done.stdout
    kept = pd.read_csv(tmp_path / "out/raw/runs.csv").set_index("seed")
    assert list(kept.index) == [1] and kept.loc[1, "student/agreement"] == whole.loc[1, "student/agreement"]
    problems = pd.read_csv(tmp_path / "out/raw/problems.csv")
    assert list(problems["status"]) == ["damaged", "unfinished"]


def test_numbers_that_are_none_are_damage_and_if_nothing_is_left_the_reason_is_told(runs, tmp_path):
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    for seed, text in (("0", '{"student/kappa": "abc"}'), ("1", '{"student/kappa": [1]}')):
        (copy / seed / "metrics.json").write_text(text)
    done = report(copy, "--out", tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    why = f"damaged: {copy / '0'}: ValueError: metrics.json: student/kappa is 'abc', no number"
    assert line.startswith(f"rebuttal: no finished run below {copy} (2 excluded, the first is {why}); allowed: ")


def test_an_invalid_ledger_is_reported_in_one_line(runs, tmp_path):
    (tmp_path / "claims.yaml").write_text("- {id: x, statment: y}")
    done = report(runs, "--claims", tmp_path / "claims.yaml", "--out", tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rebuttal: claims[0]")


def test_a_place_that_cannot_be_written_is_named_in_one_line(runs, tmp_path):
    out = tmp_path / ("long" * 100)
    done = report(runs, "--out", out)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rebuttal: --out={out}: cannot be written: ") and "; allowed: " in line


def test_a_folder_without_runs_is_reported_in_one_line(tmp_path):
    (tmp_path / "nothing").mkdir()
    done = report(tmp_path / "nothing", "--out", tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rebuttal: no finished run below ")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_named_though_another_has_runs(runs, tmp_path):
    done = report(runs, tmp_path / "nothing", "--out", tmp_path / "out")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rebuttal: {tmp_path / 'nothing'}: no such folder; allowed: ")


REGIONS = """
- id: agrees
  statement: It agrees on {percent}.
  source: s
  experiment: toy
  value: student/agreement
  comparison: at_least
  threshold: 0.85
  command: c
  regions:
    few answers: {where: {student/r: [0, 2]}}
    enough answers: {where: {student/r: [5, 100]}}
    none: {where: {student/r: [200, 300]}}
"""


def test_a_claim_that_holds_in_one_region_and_fails_in_another_says_so_in_one_row(make_run, tmp_path):
    for r, agreement in ((1.3, 0.6), (5.8, 0.95)):
        for seed in range(9):
            make_run(
                f"{r}-{seed}", {"student/r": r, "student/agreement": agreement + seed / 1000}, seed, student_size=r
            )
    (tmp_path / "claims.yaml").write_text(REGIONS)
    results = find_results([tmp_path / "runs"], tmp_path / "claims.yaml")
    (row,) = results.by_region().to_dict("records")
    assert row["claim"] == "agrees" and row["statement"] == "It agrees on 85 %."
    assert row["supported"].startswith("enough answers: 0.9540 (") and row["refuted"].startswith(
        "few answers: 0.6040 ("
    )
    assert row["inconclusive"] == "" and row["not run"] == "none"
    out = write_report(results, tmp_path / "out")
    assert pd.read_csv(out / "processed/regions.csv").loc[0, "supported"] == row["supported"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "supported where" in page and row["refuted"] in page
    assert "few answers: 0.6040" in (out / "tables/regions.tex").read_text(encoding="utf-8")
    assert r"\input{tables/regions}" in (out / "results.tex").read_text(encoding="utf-8")
