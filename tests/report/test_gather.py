import json
import math
import re
import shutil
import time
from dataclasses import replace

import pandas as pd
import pytest

from rebuttal.report.gather import RECORDS, gather, independent_runs
from rebuttal.report.results import find_results


def test_the_table_has_a_row_per_run_with_settings_and_metrics(make_run, tmp_path):
    make_run("a", {"fit/x": 1.5, "fit/y": None}, seed=3, train_size=10)
    table = gather([tmp_path]).table()
    (row,) = table.to_dict("records")
    assert row["experiment"] == "toy" and row["seed"] == 3
    assert row["config.dataset.train_size"] == 10 and row["fit/x"] == 1.5


def test_runs_that_differ_in_their_seed_only_share_a_configuration(make_run, tmp_path):
    for name, seed, size in (("a", 0, 10), ("b", 1, 10), ("c", 0, 20)):
        make_run(name, {"fit/x": 1.0}, seed=seed, train_size=size)
    a, b, c = gather([tmp_path]).runs
    assert a.configuration == b.configuration != c.configuration
    assert len({a.identity, b.identity, c.identity}) == 3


def test_versions_are_counted_and_commands_kept(make_run, tmp_path):
    for name, version in (("a", "0.1.0"), ("b", "0.1.0"), ("c", "0.2.0")):
        make_run(name, {"fit/x": 1.0}, seed=ord(name), version=version)
    gathered = gather([tmp_path])
    assert gathered.versions() == {"0.1.0": 2, "0.2.0": 1}
    assert {run.command for run in gathered.runs} == {"python -m rebuttal.train experiment=toy"}


def test_excluded_runs_are_listed_with_the_reason_and_the_others_are_counted(make_run, tmp_path):
    make_run("good", {"fit/x": 1.0})
    make_run("again", {"fit/x": 1.0})
    failed = make_run("failed", {}, seed=1)
    (failed / "metrics.json").unlink()
    (failed / "error.txt").write_text("training.lr=9: too much\n\nTraceback")
    unfinished = tmp_path / "runs" / "unfinished"
    unfinished.mkdir()
    (unfinished / "train.log").touch()
    truncated = make_run("truncated", {"fit/x": 1.0}, seed=2)
    (truncated / "metrics.json").write_text('{"fit/x": 1.')
    old = make_run("old", {"fit/x": 1.0}, seed=4)
    (old / "provenance.json").write_text(json.dumps({"stages": {}}))
    gathered = gather([tmp_path])
    assert [run.folder.name for run in gathered.runs] == ["again"]
    found = {p.folder.name: (p.status, p.why) for p in gathered.problems}
    assert found["good"] == ("duplicate", f"the same run as {tmp_path / 'runs' / 'again'}")
    assert found["failed"] == ("failed", "training.lr=9: too much")
    assert found["unfinished"] == ("unfinished", "no metrics.json; rerun its command to resume")
    assert found["truncated"][0] == found["old"][0] == "damaged"
    assert "another version" in found["old"][1]


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("metrics.json", {"fit/x": math.nan}, "fit/x is nan, no number"),
        ("metrics.json", {"fit/x": "much"}, "fit/x is 'much', no number"),
        ("provenance.json", {"config": "x"}, "the config of the run is 'x', no table"),
        ("provenance.json", {"config": {"name": "toy", "seed": 0, "model": None}}, "model is None, no table"),
        ("provenance.json", {"overrides": [1]}, r"the overrides of the run are \[1\], no list of texts"),
        ("provenance.json", {"overrides": "x"}, "the overrides of the run are 'x', no list of texts"),
    ],
)
def test_a_record_of_the_wrong_kind_is_damaged_and_the_others_are_counted(file, change, why, make_run, tmp_path):
    make_run("good", {"fit/x": 1.0})
    folder = make_run("wrong", {"fit/x": 1.0}, seed=1)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    gathered = gather([tmp_path])
    assert [run.folder.name for run in gathered.runs] == ["good"] and len(gathered.table()) == 1
    (problem,) = gathered.problems
    assert problem.status == "damaged" and re.search(why, problem.why)


def test_a_truth_value_is_a_number_beside_others(make_run, tmp_path):
    for seed, value in enumerate((True, 0.5, False)):
        make_run(str(seed), {"fit/x": value}, seed)
    gathered = gather([tmp_path])
    assert gathered.table()["fit/x"].tolist() == [1, 0.5, 0]
    gathered.table().to_parquet(tmp_path / "runs.parquet")


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_run_that_is_there_twice_is_judged_if_one_of_them_is(names, make_run, tmp_path):
    for name, judged in zip(names, (True, False)):
        make_run(name, {"fit/x": 1.0}, judged=judged)
    assert [run.judged for run in gather([tmp_path]).runs] == [True]


def test_runs_behind_links_count_once(make_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/one").symlink_to(make_run("a", {"fit/x": 1.0}))
    (tmp_path / "mine/all").symlink_to(make_run("b", {"fit/x": 1.0}, seed=1).parent)
    (tmp_path / "mine/loop").symlink_to(tmp_path)
    gathered = gather([tmp_path / "mine"])
    assert [run.folder.name for run in gathered.runs] == ["a", "b"] and not gathered.problems


def test_runs_of_two_experiments_are_two_though_their_stages_are_the_same(make_run, tmp_path):
    one, other = (make_run(name, {"fit/x": 1.0}, experiment=name) for name in ("baseline", "zhang"))
    stages = json.loads((one / "provenance.json").read_text())["stages"]
    told = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(told | {"stages": stages}))
    gathered = gather([tmp_path])
    assert [run.experiment for run in gathered.runs] == ["baseline", "zhang"] and not gathered.problems


def test_runs_that_share_a_network_or_a_seed_are_in_no_table_twice(tmp_path, make_run):
    """Three seeds, of which two share a network; then the first again, with another seed for a stage of its own."""
    for seed, network in ((0, "a"), (1, "b"), (2, "b"), (0, "c")):
        folder = make_run(
            f"{seed}{network}", {"fit/train_accuracy": 1.0, "fit/test_accuracy": seed / 10}, seed, "zhang"
        )
        told = json.loads((folder / "provenance.json").read_text())
        told |= {"networks": [f"fit/{network}"], "stages": {"fit": [seed, network]}}
        (folder / "provenance.json").write_text(json.dumps(told))
    runs = gather([tmp_path]).runs
    independent, others = independent_runs(runs)
    assert [run.folder.name for run in independent] == ["0a", "1b"]
    assert [run.folder.name for run in others] == ["0c", "2b"]
    results = find_results([tmp_path])
    assert results.repeated == 2
    assert "runs with the seed or a network of another of their configuration, in no number: 2" in results.notes()
    assert {run.folder.name for table in results.tables for run in table.runs} == {"0a", "1b"}


@pytest.mark.slow
def test_ten_thousand_runs_take_under_ten_seconds(make_run, tmp_path):
    for i in range(10_000):
        make_run(str(i), {f"fit/{k}": float(k) for k in range(30)}, seed=i % 100, train_size=i // 100)
    begin = time.process_time()
    gathered = gather([tmp_path])
    assert len(gathered.table()) == 10_000
    assert time.process_time() - begin < 10
    assert len({run.name for run in gathered.runs}) == 100


def test_runs_of_one_identity_with_different_numbers_are_a_conflict_and_none_counts(make_run, tmp_path):
    for name, value in (("old", 0.5), ("corrected", 0.6), ("copy", 0.6)):
        make_run(name, {"fit/x": value})
    make_run("other", {"fit/x": 0.7}, seed=1)
    gathered = gather([tmp_path / "runs"])
    assert [run.folder.name for run in gathered.runs] == ["other"]
    found = {problem.folder.name: problem for problem in gathered.problems}
    assert {problem.status for problem in found.values()} == {"conflict"} and len(found) == 3
    assert str(tmp_path / "runs/corrected") in found["old"].why and "with other numbers" in found["old"].why


def test_a_report_s_runs_count_when_their_folders_are_gone(make_run, tmp_path):
    for seed in range(3):
        make_run(f"s{seed}", {"fit/x": 1.5 + seed, "fit/y": None}, seed=seed, version="0.0.9")
    first = gather([tmp_path / "runs"])
    keep(first, tmp_path / "report")
    shutil.rmtree(tmp_path / "runs")
    again = gather([tmp_path / "report"])
    assert [replace(run, report=None) for run in again.runs] == first.runs and again.problems == []
    make_run("s3", {"fit/x": 9.0}, seed=3)
    both = gather([tmp_path / "report", tmp_path / "runs"])
    assert sorted(run.metrics["fit/x"] for run in both.runs) == [1.5, 2.5, 3.5, 9.0]
    pd.testing.assert_frame_equal(again.table(), first.table())


def test_a_folder_says_what_its_run_is_now_and_other_places_that_disagree_are_a_conflict(make_run, tmp_path):
    make_run("a", {"fit/x": 1.0})
    keep(gather([tmp_path / "runs"]), tmp_path / "report")
    places = [tmp_path / "report", tmp_path / "runs"]
    assert len(gather(places).runs) == 1 and gather(places).problems == []  # no duplicate: a report is made of its runs
    shutil.rmtree(tmp_path / "runs")
    make_run("a", {"fit/x": 2.0})
    assert [run.metrics for run in gather(places).runs] == [{"fit/x": 2.0}]
    shutil.move(tmp_path / "runs" / "a", tmp_path / "runs" / "b")
    assert gather(places).runs == [] and {p.status for p in gather(places).problems} == {"conflict"}


def test_what_a_later_version_measures_besides_is_no_conflict(make_run, tmp_path):
    make_run("a", {"fit/x": 1.0})
    keep(gather([tmp_path / "runs"]), tmp_path / "report")
    shutil.move(tmp_path / "runs" / "a", tmp_path / "runs" / "old")
    make_run("new", {"fit/x": 1.0, "fit/y": 2.0})
    found = gather([tmp_path / "report", tmp_path / "runs"])
    assert [run.metrics for run in found.runs] == [{"fit/x": 1.0, "fit/y": 2.0}]
    assert [(p.folder.name, p.status) for p in found.problems] == [("old", "duplicate")]


def test_another_run_in_the_folder_of_one_that_a_report_kept_hides_it_not(make_run, tmp_path):
    make_run("a", {"fit/x": 1.0}, seed=0)
    keep(gather([tmp_path / "runs"]), tmp_path / "report")
    shutil.rmtree(tmp_path / "runs" / "a")
    make_run("a", {"fit/x": 2.0}, seed=1)
    assert sorted(run.seed for run in gather([tmp_path / "report", tmp_path / "runs"]).runs) == [0, 1]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"runs": [{}], "configs": {}}', '{"runs": 3, "configs": {}}'])
def test_a_damaged_list_of_a_report_s_runs_is_named_and_the_others_count(content, make_run, tmp_path):
    make_run("a", {"fit/x": 1.0})
    (tmp_path / "report/raw").mkdir(parents=True)
    (tmp_path / "report" / RECORDS).write_text(content)
    found = gather([tmp_path / "report", tmp_path / "runs"])
    assert len(found.runs) == 1
    assert [(p.folder, p.status) for p in found.problems] == [(tmp_path / "report", "damaged")]


def keep(gathered, report):
    (report / "raw").mkdir(parents=True)
    (report / RECORDS).write_text(json.dumps(gathered.records()))
