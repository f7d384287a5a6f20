"""`python -m rebuttal.store`, as a user meets it."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from rebuttal.command.repeat import expand
from rebuttal.store import __main__ as store
from rebuttal.store.catalogue import entries
from rebuttal.store.entries import Artifact, Store
from rebuttal.store.identity import name_of
from rebuttal.store.words import age_in_words, in_words, size_in_words
from tests.command_line import ONE_NETWORK, command
from tests.conftest import save_images
from tests.store.test_prune import names


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs of the toy and one on images, and their store."""
    place = tmp_path_factory.mktemp("store")
    save_images(place / "images", {f"{split}/{c}": 40 for split in ("train", "test") for c in "ab"}, size=(8, 8))
    toy = ["debug=tiny", "device=cpu"]
    images = ["experiment=smoothness", "model=mlp_toy", "dataset=image_folder", "dataset.root=images"]
    only = ["stages.smoothness.only=[gradient_norms,margins]"]
    for overrides in (
        ["hydra.run.dir=outputs/first"],
        ["hydra.run.dir=outputs/second", "seed=1"],
        ["hydra.run.dir=outputs/smooth", *images, *only],
    ):
        done = command(*toy, *overrides, cwd=place)
        assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def call(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["store", *map(str, arguments)])
        try:
            store.main()
            status = 0
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def needs(folder):
    return set(json.loads(Path(folder, "provenance.json").read_text())["needs"]["entries"])


def test_a_finished_run_names_every_entry_that_it_was_handed_and_itself(place):
    for folder in ("outputs/first", "outputs/smooth"):
        provenance = json.loads(Path(folder, "provenance.json").read_text())
        named = needs(folder)
        assert {*provenance["computed"], *provenance["networks"]} <= named
        assert sum(name.startswith("run/") for name in named) == 1 and named <= names(place / "outputs/store")
        assert not Path(folder, "needs.json").exists()
    (images,) = (entry for entry in entries(place / "outputs/store") if entry.kind == "images")
    assert provenance["needs"]["images"] == [images.images]


def test_a_run_that_came_from_the_store_names_the_same(place):
    done = command("-m", "debug=tiny", "device=cpu", "seed=0,1", "hydra.sweep.dir=multirun/again", cwd=place)
    assert done.returncode == 0 and "from store" in done.stdout
    for job, folder in enumerate(("first", "second")):
        assert needs(f"multirun/again/{job}") == needs(f"outputs/{folder}")


@pytest.mark.slow
def test_a_run_that_is_cut_short_keeps_what_it_needs(place, call, monkeypatch):
    """What it had finished stays, so that a rerun resumes."""
    with monkeypatch.context() as patch:
        patch.setattr("rebuttal.stages.learning_curve.LearningCurve.run", lambda *_: 1 / 0)
        done = command("debug=tiny", "device=cpu", "seed=2", "hydra.run.dir=outputs/cut", cwd=place)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stdout + done.stderr
    assert Path("outputs/cut/needs.json").exists() and not Path("outputs/cut/provenance.json").exists()
    before = names(place / "outputs/store")
    mine = {name for name in json.loads(Path("outputs/cut/needs.json").read_text())["entries"]} & before
    assert len(mine) == 5
    assert call("prune", "outputs/cut", "--idle", 0, "--yes")[0] == 0
    assert names(place / "outputs/store") == mine
    again = command("debug=tiny", "device=cpu", "seed=2", "hydra.run.dir=outputs/cut", cwd=place)
    assert again.returncode == 0 and not Path("outputs/cut/needs.json").exists()
    assert not mine & set(json.loads(Path("outputs/cut/provenance.json").read_text())["computed"])


@pytest.mark.slow
def test_prune_says_what_would_go_and_only_then_removes_it(place, call):
    root = place / "outputs/store"
    before = names(root)
    going = needs("outputs/second") - needs("outputs/first")
    kept = before - going
    assert len([name for name in kept if name.startswith("images/")]) == 1  # needed, though no run names it
    assert len(kept) == len(needs("outputs/first") | needs("outputs/smooth")) + 1
    sizes = {entry.name: entry.size for entry in entries(root)}
    status, out, _ = call("prune", "outputs/first", "outputs/smooth")
    assert status == 0 and "would go: 0 things, 0 B; nothing was removed" in out
    assert f"{len(going)} entries, " in out and "stay too: used in the last 60 min (--idle), " in out
    amount = f"{len(going)} things, {size_in_words(sum(sizes[name] for name in going))}"
    status, out, _ = call("prune", "outputs/first", "outputs/smooth", "--idle", 0)
    assert status == 0 and f"would go: {amount}; nothing was removed; add --yes to remove it" in out
    assert re.search(r"^ mimic +│ +10 │", out, re.MULTILINE)
    assert names(root) == before
    status, out, _ = call("prune", "outputs/first", "outputs/smooth", "--idle", 0, "--yes")
    assert status == 0 and f"removed: {amount}" in out
    assert names(root) == kept
    for folder in ("first", "smooth"):
        words = expand([f"from_run=outputs/{folder}", "hydra.run.dir=again"])
        done = command(*words, cwd=place)
        assert done.returncode == 0 and "0 results computed" in done.stdout, done.stdout + done.stderr


def test_a_run_of_before_keeps_its_entries_and_one_that_nobody_knows_keeps_all(place, call):
    root, path = place / "outputs/store", place / "outputs/first/provenance.json"
    provenance = json.loads(path.read_text())
    needed = set(provenance.pop("needs")["entries"])
    path.write_text(json.dumps(provenance))
    before = names(root)
    (run,) = (name for name in needed if name.startswith("run/"))
    status, out, _ = call("prune", "outputs/first", "--idle", 0)
    assert status == 0 and f"1 run found; they need {len(needed)} entries" in out
    shutil.rmtree(root / run)
    status, _, err = call("prune", "outputs/first", "--idle", 0, "--yes")
    assert status == 2 and names(root) == before - {run}
    assert err == (
        "rebuttal: outputs/first: does not say what its run needs: it is running, was cut short, or is old; allowed: "
        "to rerun it (from_run=FOLDER), or to remove the folder if nobody needs it\n"
    )
    assert call("export", "a.tar", "outputs/first")[0] == 2 and not Path("a.tar").exists()


@pytest.mark.slow
def test_what_one_store_exports_another_imports_and_a_rerun_computes_nothing(place, call, tmp_path):
    before = names(place / "outputs/store")
    status, out, _ = call("export", "first.tar.xz", "outputs/first")
    assert status == 0 and re.fullmatch(r"first\.tar\.xz: 12 entries, \S+ [KM]iB\n", out)
    status, out, _ = call("import", "first.tar.xz", "--store", "empty")
    assert (status, out) == (0, "empty: 12 entries added, 0 were there already and stay as they are\n")
    assert names(place / "empty") == needs("outputs/first")
    words = expand(["from_run=outputs/first", "store=empty", "hydra.run.dir=again"])
    done = command(*words, cwd=place)
    assert done.returncode == 0 and "0 results computed in this run" in done.stdout, done.stdout + done.stderr
    for name in ("metrics.json", "history.csv"):
        assert Path("again", name).read_bytes() == Path("outputs/first", name).read_bytes()
    status, out, _ = call("import", "first.tar.xz", "--store", "empty")
    assert (status, out) == (0, "empty: 0 entries added, 12 were there already and stay as they are\n")
    assert call("export", "all.tar")[1].startswith(f"all.tar: {len(before)} entries, ")
    call("import", "all.tar", "--store", "empty")
    assert names(place / "empty") == before


def test_list_says_of_each_entry_what_it_is_and_who_uses_it(place, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "600")
    (place / "outputs/second/provenance.json").unlink()
    (place / "outputs/second/metrics.json").unlink()
    (place / "outputs/second/status.json").unlink()
    status, out, _ = call("list")
    lines = [line for line in out.splitlines() if re.match(r" (fit|mimic|measure|run|images)/[0-9a-f]{12} ", line)]
    assert status == 0 and len(lines) == len(names(place / "outputs/store"))
    assert f"outputs/store: {len(lines)} entries, " in out
    record = json.loads((place / "outputs/first/metrics.json").read_text())
    teacher = (
        "MLP hidden=[256, 128, 64] dropout=0.0 on UniformNoise [100] n=60, labels RandomLabels fraction=0.0, seed 0: "
        f"{record['teacher/steps']} steps, train accuracy {record['teacher/train_accuracy']:.1%}, "
        f"test accuracy {record['teacher/test_accuracy']:.1%}"
    )
    (line,) = (line for line in lines if teacher in line)
    assert [cell.strip() for cell in line.split("│")][2] == "outputs/first"
    assert any("seed 1: " in line and "no run found" in line for line in lines)
    assert any("hard labels of hash, seed 0: " in line for line in lines)
    assert any("gradient_norms of (MLP hidden" in line and "on images n=" in line for line in lines)
    assert any("files of a run: stages teacher, student, " in line for line in lines)
    assert any("decoded images: 2 classes (a, b, …), their own size" in line for line in lines)


def test_size_adds_up_by_kind(place, call):
    status, out, _ = call("size")
    stored = entries(place / "outputs/store")
    mimics = [entry.size for entry in stored if entry.kind == "mimic"]
    assert status == 0 and re.search(
        rf"^ mimic +│ +{len(mimics)} │ +{re.escape(size_in_words(sum(mimics)))} $", out, re.M
    )
    assert f"outputs/store: {len(stored)} entries, {size_in_words(sum(e.size for e in stored))}" in out
    on_disk = sum(path.stat().st_size for path in (place / "outputs/store").glob("*/*/*.*"))
    assert sum(entry.size for entry in stored) == on_disk


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("weights.safetensors", b"", "weights.safetensors fails its checksum"),
        ("record.json", b"{}", "'sha256'"),
        ("record.json", b"[" * 100_000, "maximum recursion depth exceeded"),
        ("weights.safetensors", None, "No such file or directory"),
    ],
)
def test_verify_names_what_is_damaged(place, call, file, content, why):
    count = len(names(place / "outputs/store"))
    assert call("verify")[:2] == (0, f"outputs/store: {count} entries verified and whole, 0 damaged\n")
    name = min(names(place / "outputs/store"))
    path = place / "outputs/store" / name / file
    path.unlink() if content is None else path.write_bytes(content)
    status, out, _ = call("verify")
    assert status == 1 and out.splitlines()[0].startswith(f"damaged: {name}: ") and why in out.splitlines()[0]
    assert out.splitlines()[1] == f"outputs/store: {count - 1} entries verified and whole, 1 damaged"
    assert not [line for line in call("list")[1].splitlines() if name[:12] in line and file == "record.json"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["prune", "images"], "FOLDERS=images: no run there; allowed: folders with runs, or --all to need none"),
        (["prune"], "FOLDERS=no folder given: no run there; allowed: folders with runs, or --all to need none"),
        (["prune", "nix"], "nix: there is no such folder; allowed: folders with runs, such as outputs or multirun"),
        (["prune", "nix", "--all"], "nix: there is no such folder; allowed: folders with runs, such as outputs or "),
        (
            ["list", "--store", "nix"],
            "--store=nix: there is no such folder; allowed: the store of a run (its key store)",
        ),
        (["verify", "--store", "images/a"], "--store=images/a: there is no such folder; allowed: "),
        (["export", "a.zip"], "FILE=a.zip: allowed: a name that ends in .tar, or in .tar.xz to compress it"),
        (["export", "nix/a.tar"], "FILE=nix/a.tar: cannot be written (No such file or directory); allowed: "),
        (["import", "first.tar", "--store", "images/train/a/0000.png/x"], "--store=images/train/a/0000.png/x: cannot "),
        (["import", "nix.tar"], "nix.tar: cannot be read (No such file or directory); allowed: an archive that "),
        (["import", "outputs/first/metrics.json"], "outputs/first/metrics.json: cannot be read ("),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_changes_nothing(place, call, arguments, line):
    if "first.tar" in arguments:
        call("export", "first.tar", "outputs/first")
    before = {path for path in place.rglob("*")}
    status, _, err = call(*arguments)
    assert status == 2 and err.startswith(f"rebuttal: {line}") and err.count("\n") == 1
    assert {path for path in place.rglob("*")} == before


@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
def test_a_time_that_is_none_is_refused(place, call, value):
    status, _, err = call("prune", "outputs", f"--idle={value}")
    assert status == 2 and "argument --idle: " in err


def test_runs_in_the_store_s_own_folder_keep_their_entries(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(*ONE_NETWORK, "store=outputs", cwd=tmp_path).returncode == 0
    before = names(tmp_path / "outputs")
    status, out, err = call("prune", "outputs", "--store=outputs", "--idle", 0, "--yes")
    assert (status, err) == (0, "") and "1 run found" in out
    assert names(tmp_path / "outputs") == before
    assert "outputs/runs/" in call("list", "outputs", "--store=outputs")[1]


def test_with_all_a_store_without_runs_is_emptied(place, call):
    status, out, _ = call("prune", "images", "--all", "--idle", 0, "--yes")
    assert status == 0 and out.startswith("0 runs found; they need 0 entries, 0 B, which stay")
    assert names(place / "outputs/store") == set()


@pytest.mark.slow
def test_a_stored_run_that_names_files_elsewhere_writes_none(place):
    """A colleague's archive may hold anything under a right digest."""
    root = place / "outputs/store"
    (run,) = (name for name in needs("outputs/first") if name.startswith("run/"))
    record = json.loads((root / run / "record.json").read_text())
    whole = Store(root).get("run", record["identity"])
    shutil.rmtree(root / run)
    bad = Artifact(whole.record, {"../outside.csv": whole.tensors["history.csv"], **whole.tensors})
    Store(root).keep("run", record["identity"], bad)
    done = command("-m", "debug=tiny", "device=cpu", "seed=0", "hydra.sweep.dir=multirun/again", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(place.rglob("outside.csv"))
    assert Path("multirun/again/0/metrics.json").read_bytes() == Path("outputs/first/metrics.json").read_bytes()


def test_words_are_one_printable_line_whatever_an_entry_holds():
    for kind in ("fit", "mimic", "judge", "measure", "run", "images", "mine"):
        for identity in ({}, [], None, {"stage": "x\x1b[2J\n[red]"}, {"stage": 3, "function": {"function": "trained"}}):
            for record in ({}, {"metrics": None}, {"metrics": {"steps": "x", "train_accuracy": "y"}}):
                line = in_words(kind, identity, record)
                assert line and line.isprintable()
    assert in_words("mine", {"stage": "mine"}, {}) == "stage mine"


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (999, "999 B"), (2048, "2 KiB"), (3 * 2**30, "3 GiB")])
def test_sizes_in_words(size, words):
    assert size_in_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (3e5, "3 d")]
)
def test_ages_in_words(seconds, words):
    assert age_in_words(seconds) == words


def test_a_user_s_markup_and_file_names_are_shown_as_they_are(place, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    Store("outputs/store").get_or_make("mine", {"stage": "[red]x[/red]"}, lambda: Artifact({}))
    assert "stage [red]x[/red]" in call("list")[1]
    name = name_of("mine", {"stage": "[red]x[/red]"})
    (place / "outputs/store" / name / "record.json").write_text("[/nix]")
    os.chdir(place)
    status, out, _ = call("verify")
    assert status == 1 and f"damaged: {name}: " in out
