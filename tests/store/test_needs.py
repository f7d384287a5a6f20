"""What runs need of the store, as their folders say."""

import json
from pathlib import Path

import pytest

from rebuttal.errors import UserError
from rebuttal.store.identity import artifacts_in, digests_in, fingerprint, name_of
from rebuttal.store.needs import Needs, needs_in, resolved, runs_below, stages_fingerprint

FIT = {"stage": "fit", "seed": 0, "train": {"kind": "images", "digest": "abc", "size": 3}}
MIMIC = {"stage": "mimic", "teacher": {"function": "trained", "fit": FIT}}
A, B = "fit/" + "a" * 32, "fit/" + "b" * 32
NEEDS = {"entries": [A], "images": ["abc"]}
OLD = {"stages": {"teacher": "x"}, "networks": {A: {}}, "computed": [B]}


def folder(tmp_path, name="run", **files):
    place = tmp_path / name
    place.mkdir(parents=True)
    for file, content in files.items():
        (place / f"{file}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return place


def read(tmp_path, **files):
    folder(tmp_path, **files)
    (run,) = runs_below([tmp_path], tmp_path / "store")
    return run


def test_an_identity_names_every_artifact_and_image_set_in_it_at_any_depth():
    run = {"stages": {"a": {"made": [["x", MIMIC]]}}}
    assert artifacts_in(run) == {name_of("fit", FIT), name_of("mimic", MIMIC)}
    assert digests_in(run) == {"abc"}
    deep = FIT
    for _ in range(5000):
        deep = [deep]
    assert needs_in(deep) == Needs(frozenset({name_of("fit", FIT)}), frozenset({"abc"}))


@pytest.mark.parametrize(
    ("files", "known", "entries"),
    [
        ({"provenance": {"needs": NEEDS}, "metrics": {}}, True, {A}),
        ({"provenance": {"needs": NEEDS, "networks": {B: {}}}, "metrics": {}}, True, {A, B}),
        ({"provenance": OLD, "metrics": {}}, False, {A, B}),
        ({"provenance": "{", "metrics": {}}, False, set()),
        ({"provenance": {"needs": {"entries": 3}}, "metrics": {}}, False, set()),
        ({"metrics": {}}, False, set()),
        ({"needs": NEEDS}, True, {A}),
        ({"needs": NEEDS, "status": {"state": "running"}}, True, {A}),
        ({"needs": "{", "status": {"state": "failed"}}, False, set()),
        ({"needs": NEEDS, "provenance": {"needs": {"entries": [B], "images": []}}, "metrics": {}}, True, {A, B}),
        ({"needs": NEEDS, "provenance": OLD}, False, {A, B}),
        ({"status": {"state": "running"}}, False, set()),
        ({"status": {"state": "running"}, "provenance": {"needs": NEEDS}, "metrics": {}}, False, {A}),
        ({"status": {"state": "failed"}, "error": {}}, True, set()),
        ({"status": {"state": "not begun"}}, True, set()),
        ({"status": {"state": "failed", "stage": "teacher"}}, False, set()),
        ({"status": {"state": "failed"}, "metrics": {}}, False, set()),
        ({"status": "{"}, False, set()),
    ],
)
def test_a_run_is_known_only_if_its_folder_says_all_that_it_needs(tmp_path, files, known, entries):
    run = read(tmp_path, **files)
    assert (run.known, run.needs.entries) == (known, entries)


def test_a_run_of_before_is_known_by_another_of_its_stages_or_by_the_store(tmp_path):
    folder(tmp_path, "old", provenance=OLD, metrics={})
    folder(tmp_path, "new", provenance={"stages": {"teacher": "x"}, "needs": NEEDS}, metrics={})
    folder(tmp_path, "other", provenance={"stages": {"teacher": "y"}}, metrics={})
    folder(tmp_path, "running", provenance=OLD, status={"state": "running"})  # what it does now, nobody knows
    runs = {run.folder.name: run for run in resolved(runs_below([tmp_path], tmp_path / "store"), {})}
    assert {name: run.known for name, run in runs.items()} == {
        "old": True,
        "new": True,
        "other": False,
        "running": False,
    }
    assert runs["old"].needs == Needs(frozenset({A, B}), frozenset({"abc"}))
    stored = {stages_fingerprint({"teacher": "y"}): Needs(frozenset({B}))}
    (found,) = resolved(runs_below([tmp_path / "other"], tmp_path / "store"), stored)
    assert found.known and found.needs == Needs(frozenset({B}))
    assert stages_fingerprint({"teacher": "y"}) == fingerprint({"teacher": "y"})


def test_runs_behind_links_count_once_and_the_store_s_entries_are_left_out(tmp_path):
    folder(tmp_path / "elsewhere", "run", needs=NEEDS)
    (tmp_path / "outputs/runs").mkdir(parents=True)
    (tmp_path / "outputs/runs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "outputs/again").symlink_to(tmp_path / "outputs")
    folder(tmp_path / "outputs/store", A, record={}, metrics={})
    folder(tmp_path / "outputs/store" / A, "mine", metrics={})
    runs = runs_below([tmp_path / "outputs"], tmp_path / "outputs/store")
    assert [run.folder for run in runs] == [tmp_path / "outputs/runs/linked/run"]


@pytest.mark.parametrize("named", ["outputs", ".", "link", "outputs/runs"])
def test_runs_beside_the_store_s_entries_in_its_own_folder_are_found(named, tmp_path):
    folder(tmp_path / "outputs", A, record={}, metrics={})
    folder(tmp_path / "outputs/runs/toy", "a" * 32, needs=NEEDS)
    (tmp_path / "link").symlink_to("outputs")
    (run,) = runs_below([tmp_path / named], tmp_path / "outputs")
    assert run.known and run.folder.samefile(tmp_path / "outputs/runs/toy" / ("a" * 32))


def test_a_folder_is_named_by_a_path_without_links_if_it_has_one(tmp_path):
    folder(tmp_path / "runs", "z", needs=NEEDS)
    (tmp_path / "runs/a").symlink_to("z")
    (tmp_path / "first").symlink_to("runs")
    (tmp_path / "gone").symlink_to("nix")
    runs = runs_below([tmp_path, tmp_path / "runs", tmp_path / "first"], tmp_path / "store")
    assert [run.folder for run in runs] == [tmp_path / "runs/z"]


def test_a_sweep_says_what_its_jobs_need_that_have_no_folder_yet(tmp_path):
    folder(tmp_path, "sweep", sweep={}, sweep_needs=NEEDS)
    folder(tmp_path, "damaged", sweep_needs="{")
    folder(tmp_path, "both", sweep_needs={"entries": [B], "images": []}, needs=NEEDS)
    runs = runs_below([tmp_path], tmp_path / "store")
    found = [(run.folder.name, run.known, run.needs.entries) for run in runs]
    assert found == [("both", True, {A}), ("both", True, {B}), ("damaged", False, set()), ("sweep", True, {A})]


def test_a_folder_in_which_a_run_could_be_overlooked_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"nix: there is no such folder; allowed: "):
        runs_below([tmp_path / "nix"], tmp_path / "store")
    monkeypatch.setattr("os.scandir", refuse)  # root may read every folder
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\), and may hold runs; allowed: "):
        runs_below([tmp_path], tmp_path / "store")


def refuse(place):
    raise PermissionError(13, "Permission denied", str(Path(place)))
