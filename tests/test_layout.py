"""The structure of the package, as far as a tool can hold it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rebuttal"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def lint_imports(folder):
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("data/noise.py", "import rebuttal.stages"),
        ("store/files.py", "from rebuttal.training.recipe import Recipe"),
        ("stages/fit.py", "def late():\n    from rebuttal.functions import Trained\n    return Trained"),
        ("report/gather.py", "from rebuttal.stages.stage import Stage"),
    ],
)
def test_an_import_that_runs_upwards_fails_the_check(module, line, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "rebuttal")
    assert lint_imports(tmp_path).returncode == 0
    with (tmp_path / "rebuttal" / module).open("a") as file:
        file.write(f"\n\n{line}\n")
    wrong = lint_imports(tmp_path)
    assert wrong.returncode == 1
    assert f"rebuttal.{module.removesuffix('.py').replace('/', '.')} -> rebuttal." in wrong.stdout


def test_every_package_says_what_lives_there_and_few_modules_stand_outside():
    packages = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "conf")]
    for package in packages:
        assert ast.get_docstring(ast.parse((package / "__init__.py").read_text())), package.name
    assert len(list(PACKAGE.glob("*.py"))) <= 11


def test_functions_are_short():
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    lengths = [node.end_lineno - node.lineno + 1 for node in functions]
    assert median(lengths) <= 6 and np.percentile(lengths, 90) <= 18 and max(lengths) <= 55


def test_nothing_is_told():
    """What a program does with a message is to log, print, or write it."""
    for path in [*SOURCES, *(ROOT / "conf").rglob("*.yaml")]:
        assert not re.search(r"\b(told|tells)\b", path.read_text()), path
