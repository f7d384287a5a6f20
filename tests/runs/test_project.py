"""The file of the user's project: what it says, where it is looked for, and what is wrong with it in one line."""

import json
import os
import subprocess
import sys

import pytest
import yaml

import rebuttal
from rebuttal.config import build
from rebuttal.errors import ConfigError
from rebuttal.runs.project import Project, find_project
from tests.command_line import ONE_NETWORK, ROOT, command, process

NET = """
from torch import nn


def net(in_features, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, num_classes))
"""
RUN = [*ONE_NETWORK, "dataset.shape=[100]", "model=own", "store=s"]


def own_project(folder, package, code="."):
    """A project of one package, with an option `model=own` of its network."""
    (folder / code / package).mkdir(parents=True)
    (folder / code / package / "nets.py").write_text(NET)
    (folder / "conf/model").mkdir(parents=True)
    (folder / "conf/model/own.yaml").write_text(f"_target_: rebuttal.models.Module\ntarget: {package}.nets:net\n")
    (folder / "rebuttal.yaml").write_text(f"packages: [{package}]\nsearchpath: [conf]\n")
    return folder


STARTS = [["-m", "rebuttal.train"], ["-c", "import rebuttal.train; rebuttal.train.main()"]]


@pytest.mark.slow
@pytest.mark.parametrize(("start", "code", "folder"), [
    (STARTS[0], ".", "."), (STARTS[1], ".", "notebooks"), (STARTS[0], "src", "notebooks"),
])  # fmt: skip
def test_no_command_needs_its_packages_and_folders(start, code, folder, tmp_path):
    """From a folder within the project too; `-c` with a safe path finds what a console script finds."""
    project = own_project(tmp_path / "project", "own_code", code)
    place = project / folder
    place.mkdir(exist_ok=True)
    safe = [] if "-m" in start else ["-P"] if sys.version_info >= (3, 11) else []
    words = [sys.executable, *safe, *start, *RUN, "hydra.run.dir=run"]
    done = subprocess.run(words, cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "run/metrics.json").read_text())["fit/parameters"] == 100 * 10 + 10


@pytest.mark.slow
def test_without_a_file_the_packages_that_a_command_lists_are_found_where_it_is_given(tmp_path):
    project = own_project(tmp_path / "project", "own_unlisted", ".")
    (project / "rebuttal.yaml").unlink()
    listed = ["packages=[own_unlisted]", f"hydra.searchpath=[file://{project / 'conf'}]", "hydra.run.dir=run"]
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    words = [sys.executable, *safe, "-c", "import rebuttal.train; rebuttal.train.main()", *RUN, *listed]
    done = subprocess.run(
        words, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((project / "run/metrics.json").read_text())["fit/parameters"] == 100 * 10 + 10


@pytest.mark.slow
def test_the_record_repeats_the_run_and_what_the_command_lists_comes_first(tmp_path):
    project = own_project(tmp_path / "project", "own_to_repeat")
    (tmp_path / "more/model").mkdir(parents=True)
    (tmp_path / "more/model/own.yaml").write_text("_target_: rebuttal.models.MLP\nhidden: [4]\n")
    done = command(*RUN, "hydra.run.dir=first", cwd=project)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((project / "first/provenance.json").read_text())["overrides"]
    assert recorded[0] == f"hydra.searchpath=['file://{project / 'conf'}']" and "packages=[own_to_repeat]" in recorded
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = process(*recorded, f"store={project / 's'}", cwd=elsewhere, PYTHONPATH=f"{ROOT}:{project}")
    assert again.returncode == 0 and "\n0 results computed in this run" in again.stdout, again.stderr
    repeated = command("from_run=first", "hydra.run.dir=second", cwd=project)
    assert repeated.returncode == 0 and "\n0 results computed in this run" in repeated.stdout, repeated.stderr
    stranger = command(f"from_run={project / 'first'}", cwd=elsewhere)
    assert stranger.returncode == 2 and "own_to_repeat" in stranger.stderr and "as packages=[name]" in stranger.stderr
    place = [f"hydra.searchpath=[file://{tmp_path / 'more'}]", "packages=[other]"]
    for given in (place, [place[1], f"--config-dir={tmp_path / 'more'}"]):
        other = command(*RUN, *given, "hydra.run.dir=third", cwd=project)
        assert other.returncode == 0, other.stderr
        config = yaml.safe_load((project / "third/config.yaml").read_text())
        assert config["packages"] == ["other", "own_to_repeat"] and config["model"]["hidden"] == [4]


@pytest.mark.slow
def test_a_project_that_has_moved_repeats_its_runs(tmp_path):
    before = own_project(tmp_path / "before", "own_that_moves")
    assert process(*RUN, "hydra.run.dir=first", cwd=before).returncode == 0
    now = before.rename(tmp_path / "now")
    again = process("from_run=first", "hydra.run.dir=second", cwd=now)
    assert again.returncode == 0 and "\n0 results computed in this run" in again.stdout, again.stderr
    assert str(before) not in (now / "second/.hydra/hydra.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib", "submitit_local"])
def test_the_jobs_of_a_sweep_find_the_same_code(launcher, tmp_path):
    project = own_project(tmp_path, "own_in_a_sweep", "src")
    (project / "notebooks").mkdir()
    at = [f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep"]
    done = process("-m", *RUN, "seed=0,1", *at, cwd=project / "notebooks")
    assert done.returncode == 0, done.stdout + done.stderr
    for job in ("0", "1"):
        found = json.loads((project / "notebooks/sweep" / job / "metrics.json").read_text())
        assert found["fit/parameters"] == 100 * 10 + 10


def test_python_finds_it_too_and_stays_as_it_was(tmp_path, monkeypatch):
    project = own_project(tmp_path, "own_from_python", "src")
    monkeypatch.chdir(project)
    before = list(sys.path)
    found = rebuttal.run("baseline", RUN[1:], folder="run")
    assert set(found[found["measure"] == "parameters"]["value"]) >= {1010.0}
    network = rebuttal.load("run").network("fit")
    assert sum(p.numel() for p in network.parameters()) == 1010
    assert sys.path == before


@pytest.mark.slow
def test_stored_results_do_not_depend_on_the_file(tmp_path):
    (tmp_path / "conf").mkdir()
    assert command(*ONE_NETWORK, "store=s", "hydra.run.dir=first", cwd=tmp_path).returncode == 0
    (tmp_path / "rebuttal.yaml").write_text("packages: [nothing_there]\nsearchpath: [conf]\n")
    again = command(*ONE_NETWORK, "store=s", "hydra.run.dir=second", cwd=tmp_path)
    assert again.returncode == 0 and "\n0 results computed in this run" in again.stdout, again.stderr
    first, second = (json.loads((tmp_path / f / "provenance.json").read_text())["stages"] for f in ("first", "second"))
    assert first == second


def test_a_config_that_the_file_finds_cannot_list_packages(tmp_path):
    (tmp_path / "conf/experiment").mkdir(parents=True)
    strange = "# @package _global_\nname: strange\npackages: [subprocess]\n"
    strange += "stages: {x: {_target_: subprocess.Popen, args: [touch, harm]}}\n"
    (tmp_path / "conf/experiment/strange.yaml").write_text(strange)
    for listed, why in (("", "a config file lists them"), ("packages: [os]\n", "x._target_=subprocess.Popen")):
        (tmp_path / "rebuttal.yaml").write_text(f"{listed}searchpath: [conf]\n")
        done = command("experiment=strange", cwd=tmp_path)
        assert done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "harm").exists() and not (tmp_path / "outputs").exists()


WRONG = {
    "packages: mine": "packages=mine: allowed: a list of packages that configs may name, such as [mine]",
    "packages: [3]": "packages=[3]: allowed: a list of packages that configs may name, such as [mine]",
    "packages: [mine/nets]": "packages=mine/nets: is no package's name; allowed: ",
    "packages: [.mine]": "packages=.mine: is no package's name; allowed: ",
    "packages:": "packages=None: allowed: a list of packages",
    "searchpath: conf": "searchpath=conf: allowed: a list of folders of configs, such as [conf]",
    "searchpath: [nowhere]": "searchpath=nowhere: there is no folder {folder}/nowhere; allowed: a list of folders",
    "searchpath: ['pkg://mine']": "searchpath=pkg://mine: there is no folder",
    "package: [mine]": "package=['mine']: unknown key; allowed: packages, searchpath; nearest: packages",
    "- mine": "['mine']: allowed: the keys packages, searchpath, each with a list",
    "packages: [a": "cannot be read (",
    "packages: [a]\npackages: [b]": "cannot be read (not YAML, line 2, column 1: found duplicate key packages); ",
    "&a [*a]": "cannot be read (",
    "mine": "mine=None: unknown key; allowed: packages, searchpath",
    b"packages: [\xff]": "cannot be read (",
}


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_a_bad_file_is_one_line(text, tmp_path):
    (tmp_path / "rebuttal.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        find_project(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'rebuttal.yaml'}: {WRONG[text].format(folder=tmp_path)}")
    assert "\n" not in str(error.value) and "allowed: " in str(error.value)


def test_without_the_file_a_folder_makes_nothing_importable(tmp_path, monkeypatch):
    (tmp_path / "own_without_file.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no module own_without_file$"), find_project().importable(["x"]):
        build({"_target_": "own_without_file.Net"}, "model", ["own_without_file"])


def test_a_bad_file_ends_every_command(tmp_path, monkeypatch):
    (tmp_path / "rebuttal.yaml").write_text("packages: mine\n")
    line = f"{tmp_path / 'rebuttal.yaml'}: packages=mine: {WRONG['packages: mine'].partition(': ')[2]}"
    done = command("debug=tiny", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"rebuttal: {line}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^.*rebuttal\.yaml: packages=mine"):
        rebuttal.run("toy", ["debug=tiny"])
    assert [path.name for path in tmp_path.iterdir()] == ["rebuttal.yaml"]


def test_pyproject_may_say_it_instead(tmp_path):
    (tmp_path / "conf").mkdir()
    toml = tmp_path / "pyproject.toml"
    toml.write_text('[project]\nname = "mine"\n')
    assert find_project(tmp_path) == Project()
    toml.write_text('[tool.rebuttal]\npackages = ["mine"]\nsearchpath = ["conf"]\n')
    assert find_project(tmp_path) == Project(tmp_path, ("mine",), (f"file://{tmp_path / 'conf'}",))
    for text, why in (
        ("[tool]\nrebuttal = 3", r"\[tool.rebuttal\]: 3: allowed: the keys packages, searchpath"),
        ("[tool.rebuttal]\npackages = 3", r"\[tool.rebuttal\]: packages=3: allowed: a list"),
        ("[tool.rebuttal", r"cannot be read \("),
    ):
        toml.write_text(text)
        with pytest.raises(ConfigError, match=f"^{toml}: {why}"):
            find_project(tmp_path)
    toml.write_text("[tool.rebuttal]\n")
    (tmp_path / "rebuttal.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"is for the same; allowed: one of the two$"):
        find_project(tmp_path)


def test_the_nearest_file_counts_up_to_the_root_of_the_project_and_nobody_else_s(tmp_path, monkeypatch):
    root = tmp_path / "root"
    inside = root / "a/b"
    inside.mkdir(parents=True)
    (tmp_path / "rebuttal.yaml").write_text("packages: [outside]\n")
    assert find_project(inside).packages == ("outside",)
    (root / ".git").mkdir()
    assert find_project(inside) == Project()
    (root / "rebuttal.yaml").write_text("packages: [root]\n")
    assert find_project(inside) == Project(root, ("root",))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert find_project(inside) == Project()
    assert find_project(root).packages == ("root",)  # where `python -m` would import from as well
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(inside.parent))
    assert find_project(inside) == Project()
