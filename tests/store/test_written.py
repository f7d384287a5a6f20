import ast
import json
import re
from pathlib import Path

import pytest

import rebuttal
from rebuttal.errors import ConfigError
from rebuttal.store import written
from rebuttal.store.files import write_bytes
from rebuttal.store.written import ABOUT, Written


def files(folder, **settings):
    return Written(folder, ".files.json", f"out={folder}", **settings)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_are_written_again_and_removed_and_those_of_others_stay(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mine.png").write_bytes(b"mine")
    files(tmp_path).write({"a.csv": b"1", "figures/a.png": b"2"})
    files(tmp_path).write({"a.csv": b"3"})
    assert (tmp_path / "a.csv").read_bytes() == b"3"
    files(tmp_path).remove(kept=["a.csv"])
    assert set(contents(tmp_path)) == {".files.json", "a.csv", "figures/mine.png"}
    assert json.loads((tmp_path / ".files.json").read_bytes()) == {
        "about": ABOUT,
        "files": {"a.csv": json.loads((tmp_path / ".files.json").read_bytes())["files"]["a.csv"]},
    }


OBSTACLES = {
    "a file": lambda folder: (folder / "a.csv").write_bytes(b"mine"),
    "a file that is empty": lambda folder: (folder / "a.csv").write_bytes(b""),
    "a link": lambda folder: (folder / "a.csv").symlink_to(folder / "elsewhere.csv"),
    "a link to a file": lambda folder: (folder / "a.csv").symlink_to(__file__),
    "a folder": lambda folder: (folder / "a.csv").mkdir(),
    "a file where a folder should be": lambda folder: (folder / "figures").write_bytes(b"mine"),
    "a dangling link where a folder should be": lambda folder: (folder / "figures").symlink_to("nowhere"),
    "a list of someone else's": lambda folder: (folder / ".files.json").write_text('["a.csv"]'),
    "a list that is no JSON": lambda folder: (folder / ".files.json").write_bytes(b"\xff["),
    "a list that is a folder": lambda folder: (folder / ".files.json").mkdir(),
    "a list that leads elsewhere": lambda folder: (folder / ".files.json").write_text(
        json.dumps({"about": ABOUT, "files": {"../a.csv": None}})
    ),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_what_is_in_the_way_is_named_before_anything_is_written(kind, tmp_path):
    OBSTACLES[kind](tmp_path)
    before, names = contents(tmp_path), sorted(tmp_path.rglob("*"))
    new = {"b.csv": b"new", "a.csv": b"new", "figures/a.png": b"new"}
    for work in (lambda: files(tmp_path).check(new), lambda: files(tmp_path).write(new)):
        with pytest.raises(ConfigError) as caught:
            work()
        (line,) = str(caught.value).splitlines()
        named = r"(a\.csv|figures|\.files\.json) is in the way: rebuttal did not write it, or it was changed since; "
        assert re.fullmatch(rf"out={tmp_path}: {tmp_path}/{named}allowed: a folder without it", line)
        assert contents(tmp_path) == before and sorted(tmp_path.rglob("*")) == names


@pytest.mark.parametrize("where", ["file", "file/below", "link", "link/below"])
def test_a_folder_that_is_a_file_is_refused(where, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=rf"^out={tmp_path / where}: {tmp_path}/(file|link) is in the way: "):
        files(tmp_path / where).write({"a.csv": b"new"})
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_file_that_was_changed_since_is_no_longer_this_tool_s(tmp_path):
    files(tmp_path).write({"a.csv": b"1", "b.csv": b"1", "log": b"1"})
    files(tmp_path).claim(["log"])
    for name in ("a.csv", "log"):
        (tmp_path / name).write_bytes(b"edited")
    with pytest.raises(ConfigError, match=r"a\.csv is in the way"):
        files(tmp_path).write({"b.csv": b"2", "a.csv": b"2"})
    files(tmp_path).write({"log": b"2"})
    files(tmp_path).remove(kept=())
    assert contents(tmp_path).keys() == {".files.json", "a.csv"} and (tmp_path / "a.csv").read_bytes() == b"edited"


def test_patterns_name_files_that_are_not_listed(tmp_path):
    files(tmp_path).write({"figures/fit_a.png": b"1"})
    files(tmp_path).check(["figures/fit_*.png"])
    (tmp_path / "figures/fit_b.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"figures/fit_b\.png is in the way"):
        files(tmp_path).check(["figures/fit_*.png"])


@pytest.mark.parametrize("moment", range(5))
def test_killed_at_any_moment_the_next_one_knows_what_was_written(moment, tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_bytes(b"mine")
    files(tmp_path).write({"a.csv": b"old", "b.csv": b"old"})
    calls = iter(range(100))

    def killed(path, content):
        if next(calls) == moment:
            raise KeyboardInterrupt
        write_bytes(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(written, "write_bytes", killed)
        files(tmp_path).write({"a.csv": b"new", "b.csv": b"new", "c.csv": b"new"})
        files(tmp_path).remove(kept=["a.csv", "b.csv"])
    files(tmp_path).write({"a.csv": b"newest", "b.csv": b"newest", "c.csv": b"newest"})
    files(tmp_path).remove(kept=["a.csv"])
    assert contents(tmp_path).keys() == {".files.json", "mine.csv", "a.csv"}


def test_what_an_earlier_version_wrote_is_what_it_says(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"old")
    known = files(tmp_path, before=lambda content: ["a.csv"] if content is None else None)
    known.check(["a.csv"])
    with pytest.raises(ConfigError, match=r"b\.csv is in the way"):
        known.check(["b.csv"])
    (tmp_path / ".files.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"\.files\.json is in the way"):
        known.check(["a.csv"])


# The modules that call what writes or removes files: into a folder by `Written`, or under names that nobody else gives
# (fingerprints in the store, locks), or at a path that the caller names.
WRITERS = {
    "store/written.py": {"write_bytes", "unlink", "mkdir"},
    "store/files.py": {"write_bytes", "unlink"},
    "store/entries.py": {"write_bytes", "write_json", "unlink", "mkdir", "rename", "rmtree"},
    "store/checkpoints.py": {"write_bytes", "unlink"},
    "store/sources.py": {"write_json", "mkdir"},
    "progress/status_file.py": {"write_json", "mkdir"},  # claimed by RunFolder
    "runs/folder.py": {"write_text", "mkdir", "savefig", "savez_compressed", "FileHandler"},  # into memory, or claimed
    "launch/sweep.py": {"write_json", "unlink", "mkdir", "rmdir"},  # claimed; folders only if they are empty
    "launch/gpu_slots.py": {"mkdir"},
    "report/draw.py": {"write_bytes", "savefig"},  # into memory, or where the caller says
    "report/latex.py": {"rename"},  # of a column
    "report/paper.py": {"write_text"},  # main.tex, where there is none
    "store/archive.py": {"rename", "unlink", "mkdir"},  # to a name that nothing has; what it made; the store's folders
    "store/prune.py": {"rename", "rmtree", "unlink"},  # entries, verified, and leftovers with files of entries only
    "data/download.py": {"mkdir", "download_url", "unlink", "rmdir"},  # the lock, and folders that it made
}
WRITING = {"write_bytes", "write_text", "write_json", "unlink", "rmdir", "mkdir", "rename", "rmtree", "savefig"}
WRITING |= {"save_file", "savez_compressed", "savez", "FileHandler", "download_url", "copytree", "copyfile", "move"}


def test_only_these_modules_write_or_remove_files():
    """So that a new one is asked whose file it overwrites."""
    package = Path(rebuttal.__file__).parent
    found = {}
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls} & WRITING
        name = path.relative_to(package).as_posix()
        found[name] = names - WRITERS.get(name, set())
    assert {name: names for name, names in found.items() if names} == {}
