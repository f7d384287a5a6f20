"""Every command and code block of README.md, CONTRIBUTING.md and docs/ runs, at debug size; the site builds.

A fenced block runs unless `<!-- not run: reason -->` stands on the line before it. A block with `title="path"` is a
file, which the commands after it find. Of a sweep all jobs are built and checked, the first one is run.
"""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytest

from rebuttal import api, status, train
from rebuttal.command import plan, repeat
from rebuttal.command.arguments import prepare
from rebuttal.command.project import add_project
from rebuttal.config import CONFIG_DIR
from rebuttal.launch.expand import packages_in, read_command
from rebuttal.report import __main__ as report
from rebuttal.runs.build import build_run, resolve
from rebuttal.runs.project import find_project
from rebuttal.store import __main__ as store
from tests.conftest import pack
from tests.golden import EXPERIMENTS, ON_IMAGES, save_golden_images

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r'```(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
NOT_CODE = ("text", "bibtex")
SMALL = {"dataset.train_size": 60, "dataset.student_size": 60, "training.epochs": 2, "epochs": 2}
# What of an example of the user's own stands in the report's tables, by the page and the name of the experiment there.
REPORTED = {
    "own_measure.md": ("confidence", "smoothness/random_labels_confidence_test"),
    "own_null.md": ("nulls", "mean_teacher/kappa"),
    "own_corruption.md": ("shifted", "fit/train_accuracy"),
    "own_experiment.md": ("cross_architecture", "confidence/mean"),
    "own_model.md": ("wide", "student/kappa"),
    "own_dataset.md": ("binary", "student/kappa"),
}
PROJECTS = [*REPORTED, "project.md"]  # pages that begin in a new folder
PAST_SWEEP = "multirun/toy/2026-01-31_12-00-00-000000"  # the one that the pages speak of


@dataclass(frozen=True)
class Block:
    """A fenced block: code in `language`, or a file if it has a `title`; `reason`: why it is not run."""

    language: str
    title: str | None
    text: str
    reason: str | None

    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["title"], m["text"], m["reason"]) for m in found]


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.reason is None and block.language not in NOT_CODE]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, and a past sweep to look at, report and repeat."""
    place = tmp_path_factory.mktemp("documentation")
    pack(save_golden_images(place / "images"), place / "images.tar.xz")
    past = ["-m", "experiment=toy", "seed=0,1", f"hydra.sweep.dir={PAST_SWEEP}", "debug=tiny", "store=outputs/store"]
    call("rebuttal.train", past, place)
    return place


@pytest.fixture(scope="module")
def already_run():
    """The commands that an earlier page has shown."""
    return set()


# Pages whose commands take seconds each, and which show little that the others do not.
SLOW = {"models_by_name", "own_model", "own_experiment", "own_dataset", "own_null", "python", "resume"}
SLOW |= {"random_walk", "two_stage", "frequency", "smoothness", "architectures", "corruption"}
SLOW |= {"map", "leak", "questions", "sample_efficiency", "recipes", "zhang_runs", "interpolation", "choose"}


def runnable_pages():
    for page in filter(runnable, PAGES):
        slow = [pytest.mark.slow] if page.stem in SLOW else []
        yield pytest.param(page, id=str(page.relative_to(ROOT)), marks=slow)


@pytest.mark.parametrize("page", [*runnable_pages()])
def test_every_block_runs(page, place, already_run, monkeypatch, capsys):
    if page.name in PROJECTS:
        images, place = place / "images.tar.xz", place / page.stem
        place.mkdir()
        (place / images.name).symlink_to(images)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    for module in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, module)  # another page's
    monkeypatch.setattr(api, "run", small_run(api.run))
    names = {}
    for block in runnable(page):
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
            assert page.name not in REPORTED or block.text.count("\n") <= 30, "an example is short"
            importlib.invalidate_caches()
        elif block.language == "python":
            exec(compile(block.text, page.name, "exec"), names)
        else:
            assert block.language == "bash", f"{page.name}: a block of {block.language or 'no language'}"
            for command in block.commands():
                words = tuple(shlex.split(command, comments=True))
                if page.name in PROJECTS or words not in already_run:
                    run_command(words, place, monkeypatch)
                    already_run.add(words)
    if page.name in REPORTED:
        experiment, metric = REPORTED[page.name]
        table = (place / f"paper/processed/table_{experiment}.csv").read_text(encoding="utf-8")
        assert metric in table and any(character.isdigit() for character in table.partition(metric)[2])


def run_command(words, place, monkeypatch):
    match words:
        case "python", "-m", "rebuttal.train", *arguments:
            run_train(arguments, place)
        case "python", "-m", ("rebuttal.report" | "rebuttal.status" | "rebuttal.store") as module, *arguments:
            monkeypatch.setattr(sys, "argv", [module, *arguments])
            {"rebuttal.report": report, "rebuttal.status": status, "rebuttal.store": store}[module].main()
        case _:
            pytest.fail(f"not to be run here: {shlex.join(words)}; <!-- not run: reason --> before its block skips it")


def run_train(arguments, place):
    """What `python -m rebuttal.train` does with these arguments at debug size, without a run's folder."""
    project = find_project()
    arguments = repeat.expand(add_project(prepare(at_debug_size(arguments)), project))
    with project.importable(packages_in(arguments)):
        carry_out(arguments, place)


def carry_out(arguments, place):
    folder = place / "outputs" / str(len(list(place.glob("outputs/*")))) if place.name.startswith("own_") else None
    if plan.is_wanted(arguments):
        plan.show(arguments)
        return
    if any(argument.startswith("--") for argument in arguments):  # --help and the like
        call("rebuttal.train", sorted(arguments, key=lambda a: "=" not in a), place)  # flags come after overrides
        return
    if "-m" not in arguments:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = hydra.compose("train", arguments)
        train.run(cfg, folder, packages_in(arguments))
        return
    request = read_command(arguments)
    first, *others = request.configs()
    for cfg in others:
        build_run(resolve(cfg), request.packages())
    train.run(first, folder, request.packages())


def at_debug_size(arguments):
    """The arguments with `debug=tiny` and small numbers, on images that are there."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    small = [f"{key}={SMALL[key]}" if (key := a.partition("=")[0]) in SMALL else a for a in arguments]
    experiment = given.get("experiment", "toy")
    if given.get("dataset") == "cifar10" or (experiment in (*ON_IMAGES, "confidence") and "dataset" not in given):
        small = [a for a in small if a != "dataset=cifar10"] + ["dataset=image_folder", "dataset.root=images.tar.xz"]
    if experiment in ON_IMAGES and "model" not in given:
        small.append("model=mlp_toy")  # instead of ResNet-18
    if experiment == "two_stage" and not {"shape", "dataset.shape"} & given.keys():
        small.append("shape=[3,8,8]")
    if experiment == "architectures" and not any(key.startswith("~") for key in given):
        small.append("~model@stages.architectures.models.resnet18")  # most of the time; tests/golden runs it
    return [*small, "debug=tiny", *([] if "store" in given else ["store=outputs/store"])]


def small_run(run):
    return lambda experiment, overrides=(), folder=None: run(experiment, at_debug_size([*overrides]), folder)


def call(module, arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_no_code_is_overlooked(page):
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(blocks(page))
    outside = FENCE.sub("", text)
    assert not re.findall(r"^(?: {4}|\t)\S.*", outside, re.MULTILINE), "indented code is not tested"
    assert not re.findall(r"^<!-- not run.*", outside, re.MULTILINE), "a block must follow at once"


def test_the_reference_names_every_metric(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    names = set(re.findall(r"`([\w<>]+)`", importlib.import_module("generate").metrics_page()))
    patterns = {re.sub("<.*?>", ".+", name) for name in names if len(re.sub("<.*?>", "", name)) > 4} | {"r"} & names
    known = re.compile(rf"(.+_)?({'|'.join(patterns)})(_.+)?")  # functions stand before it, kinds of probes behind
    golden = [path for path in (ROOT / "tests/golden").glob("*.json") if path.stem in EXPERIMENTS]
    metrics = {name.partition("/")[2] for path in golden for name in json.loads(path.read_text())["metrics"]}
    assert metrics and not [name for name in metrics if not known.fullmatch(name)]


def test_the_make_targets_of_the_pages_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.MULTILINE)}
    assert named and named <= targets


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_no_other_server(tmp_path):
    call("mkdocs", ["build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")], ROOT)
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) > len(PAGES)
    for text in pages:
        assert not re.search(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text)
        assert not re.search(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href="?(?:https?:)?//', text)
