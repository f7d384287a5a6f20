"""What no run needs goes, and nothing else."""

import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rebuttal.store.checkpoints import State
from rebuttal.store.entries import Artifact, Store, lock_of, read_entry
from rebuttal.store.identity import fingerprint, name_of
from rebuttal.store.needs import needs_in, runs_below
from rebuttal.store.prune import plan, remove

DAY = 86400


def fit(seed):
    return {"stage": "fit", "seed": seed, "train": {"kind": "rebuttal.UniformNoise", "size": seed + 1}}


def fit_images(seed):
    return {"stage": "fit", "seed": seed, "train": {"kind": "images", "digest": f"digest {seed}", "size": 1}}


def made_of(kind, parent):
    return {"stage": kind, "of": {"function": "trained", "inside": [parent]}}


def put(root, kind, identity, record=None):
    Store(root).get_or_make(kind, identity, lambda: Artifact(record or {"metrics": {}}, {"w": torch.zeros(3)}))
    return name_of(kind, identity)


def names(root):
    return {f"{p.parent.parent.name}/{p.parent.name}" for p in root.glob("*/*/record.json")}


def prune(root, *folders, idle=0.0, unfinished=30 * DAY):
    return remove(plan(root, runs_below(folders, root), idle, unfinished))


def run_folder(place, **files):
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))


@st.composite
def stores(draw):
    """Identities of artifacts, each with the numbers of those that it is computed from; and runs that use some."""
    artifacts = []
    for number in range(draw(st.integers(1, 7))):
        parents = [None, *range(number)]
        parent = draw(st.sampled_from(parents))
        if parent is None:
            artifacts.append((draw(st.sampled_from(["fit", "images"])), None))
        else:
            artifacts.append((draw(st.sampled_from(["mimic", "judge", "measure"])), parent))
    numbers = st.sets(st.integers(0, len(artifacts) - 1), max_size=3)
    kinds = st.sampled_from(["finished", "unfinished", "old", "old and stored"])
    return artifacts, draw(st.lists(st.tuples(kinds, numbers), max_size=3)), draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(stores())
def test_no_entry_that_a_run_needs_goes_and_every_other_does(drawn):
    artifacts, runs, only_used = drawn
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "outputs" / "store"
        identities, behind = [], []  # `behind`: by artifact, all the names that it cannot be had without
        for number, (kind, parent) in enumerate(artifacts):
            if kind == "images":
                images = put(root, "images", {"digest": number}, {"digest": f"digest {number}", "class_names": []})
                identity, before = fit_images(number), {images}
            elif kind == "fit":
                identity, before = fit(number), set()
            else:
                identity, before = made_of(kind, identities[parent]), behind[parent]
            identities.append(identity)
            behind.append(before | {put(root, identity["stage"], identity)})
        (root / "fit/mine.txt").write_text("a user's file")
        (root / "mine").mkdir()
        (root / "mine" / "data.bin").write_bytes(b"\0")
        needed, unknown = set(), False
        for number, (kind, used) in enumerate(runs):
            stages = {str(n): {"made": identities[n]} for n in sorted(used)}
            prints = {name: fingerprint(stage) for name, stage in stages.items()}
            needs = needs_in(stages).content()
            if only_used:  # a stage whose identity names nothing: what it was handed was recorded
                needs = {"entries": [name_of(identities[n]["stage"], identities[n]) for n in used], "images": []}
            files = {
                "finished": {"provenance": {"stages": prints, "needs": needs}, "metrics": {}},
                "unfinished": {"needs": needs, "status": {"state": "running"}},
            }.get(kind, {"provenance": {"stages": prints, "networks": {}, "computed": []}, "metrics": {}})
            run_folder(Path(place) / "outputs" / str(number), **files)
            if kind == "old and stored":
                needed.add(put(root, "run", {"code": str(number), "stages": stages}))
            needed |= set().union(*(behind[n] for n in used))
        stored = {fingerprint(sorted(used)) for kind, used in runs if kind in ("old and stored", "finished")}
        unknown = any(kind == "old" and fingerprint(sorted(used)) not in stored for kind, used in runs)
        before = names(root)
        found = plan(root, runs_below([Path(place) / "outputs"], root), 0, 30 * DAY)
        remove(found)
        assert names(root) >= needed
        assert names(root) == (before if unknown else before & needed)
        assert bool(found.unknown) == unknown
        for name in names(root):
            read_entry(root / name)
        assert (root / "fit/mine.txt").read_text() == "a user's file"
        assert (root / "mine/data.bin").exists()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def test_what_is_not_an_entry_of_ours_stays(root, tmp_path):
    whole = put(root, "fit", fit(0))
    put(root, "mimic", fit(1))
    (root / "mimic" / fingerprint(fit(1)) / "notes.txt").write_text("mine")
    other = root / "fit" / ("0" * 32)  # the name of an entry, and not its content
    other.mkdir()
    (other / "record.json").write_text(json.dumps({"identity": fit(5), "record": {}}))
    (root / "fit" / ("1" * 32)).mkdir()
    (root / "fit" / ("1" * 32) / "photo.png").write_bytes(b"\x89PNG")
    target = tmp_path / "target" / fingerprint(fit(2))
    put(tmp_path / "target", "fit", fit(2))
    (root / "fit" / target.name).symlink_to(tmp_path / "target/fit" / target.name)
    (root / "fit" / "x.checkpoint").write_bytes(b"mine")
    (root / "fit" / f".{'2' * 32}-{'3' * 32}").mkdir()
    (root / "fit" / f".{'2' * 32}-{'3' * 32}" / "mine.txt").write_text("mine")
    before = {path for path in root.rglob("*") if path.suffix != ".lock"}
    gone = remove(plan(root, [], 0, 0))
    assert [piece.path for piece in gone.pieces] == [root / whole]
    entry = {root / whole, root / whole / "record.json", root / whole / "weights.safetensors"}
    assert {path for path in root.rglob("*") if path.suffix != ".lock"} == before - entry
    assert (tmp_path / "target/fit" / target.name / "record.json").exists()


def test_an_entry_that_another_process_holds_or_has_just_used_stays(root):
    held, used, kept, free = (put(root, "fit", fit(seed)) for seed in range(4))
    hours_ago = time.time() - 7200
    for name in (held, used, free):
        os.utime(root / name, (hours_ago, hours_ago))
    found = plan(root, [], 3600, 30 * DAY)
    assert [entry.name for entry in found.others] == [kept]
    Store(root).get_or_make("fit", fit(1), lambda: pytest.fail("computed again"))  # by a job, meanwhile
    with lock_of(root / held):
        done = remove(found)
    assert {piece.name for piece in done.in_use} == {held, used}
    assert {piece.name for piece in done.pieces} == {free}
    assert names(root) == {held, used, kept}


def test_what_a_dataset_of_the_user_s_keeps_stays_because_no_run_records_it(root):
    decoded, by_a_stage = put(root, "spectrograms", {"digest": "x"}), put(root, "mine", {"stage": "mine"})
    assert [piece.name for piece in prune(root).pieces] == [by_a_stage]
    assert names(root) == {decoded}


def test_reading_an_entry_is_using_it(root):
    name = put(root, "fit", fit(0))
    for read in (
        lambda: Store(root).get("fit", fit(0)),
        lambda: Store(root).get_or_make("fit", fit(0), lambda: pytest.fail("computed again")),
        lambda: Store(root, remedy="").get_or_make("fit", fit(0), lambda: pytest.fail("computed again")),
    ):
        os.utime(root / name, (1, 1))
        read()
        assert (root / name).stat().st_mtime > time.time() - 60


def test_checkpoints_stay_while_they_are_needed_or_young_and_so_does_what_is_trained_anew(root, tmp_path):
    def checkpoint(seed, age, forced=False):
        point = Store(root, force=forced).checkpoint("fit", fit(seed), 0)
        point.path.parent.mkdir(parents=True, exist_ok=True)
        point.save(State({"step": 1}, {}))
        os.utime(point.path, (time.time() - age, time.time() - age))
        return point.path

    anew = put(root, "fit", fit(4))
    young, old, wanted = checkpoint(1, DAY), checkpoint(2, 31 * DAY), checkpoint(3, 31 * DAY)
    forced = checkpoint(4, DAY, forced=True)
    run_folder(tmp_path / "run", needs=needs_in([fit(3)]).content())
    done = prune(root, tmp_path / "run")
    assert [piece.path for piece in done.pieces] == [old]
    assert young.exists() and wanted.exists() and forced.exists() and names(root) == {anew}
    assert {piece.path for piece in prune(root, tmp_path / "run", unfinished=0).pieces} == {young, forced}
    assert prune(root, tmp_path / "run").pieces[0].name == anew


def test_what_a_process_left_that_died_while_it_wrote_goes(root):
    put(root, "fit", fit(0))
    left = root / "fit" / f".{fingerprint(fit(0))}-{'a' * 32}"
    left.mkdir()
    (left / f".record.json.{'b' * 32}").write_bytes(b"{")
    with lock_of(root / "fit" / fingerprint(fit(0))):
        assert not prune(root).pieces and left.exists()
    assert {piece.path for piece in prune(root).pieces} == {left, left.with_name(fingerprint(fit(0)))}
    assert not left.exists()


def test_jobs_that_run_meanwhile_get_what_they_ask_for(root):
    wrong, stop = [], threading.Event()

    def job(seed):
        while not stop.is_set():
            found = Store(root).get_or_make("fit", fit(seed), lambda: Artifact({"seed": seed}, {"w": torch.ones(2)}))
            if found.record != {"seed": seed} or found.tensors["w"].tolist() != [1.0, 1.0]:
                wrong.append(seed)
            time.sleep(0.01)

    threads = [threading.Thread(target=job, args=(seed,)) for seed in (0, 0, 1)]
    for thread in threads:
        thread.start()
    removed, end = 0, time.monotonic() + 20
    while removed < 10 and time.monotonic() < end:
        removed += len(prune(root).pieces)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and removed >= 10
    for name in names(root):
        read_entry(root / name)


def test_what_cannot_be_removed_is_said_and_the_rest_goes(root, monkeypatch):
    first, second = put(root, "fit", fit(0)), put(root, "mimic", fit(1))
    rename = Path.rename

    def refuse(path, target):
        if path == root / first:
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)  # root may rename everything
    done = prune(root)
    assert [(piece.name, why) for piece, why in done.failed] == [(first, "Permission denied")]
    assert [piece.name for piece in done.pieces] == [second]
