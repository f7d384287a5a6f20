"""A standard output that cannot show a sign fails nothing, and files are UTF-8 whatever the locale."""

import os
import subprocess
import sys

import pytest

from tests.command_line import ONE_NETWORK, ROOT

ASCII = {"PYTHONIOENCODING": "ascii"}
LATIN = {"PYTHONIOENCODING": "latin-1:strict"}
C = {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SMALL = ["debug=tiny", "seed=0"]


def python(*arguments, cwd, environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONIO")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
    )


RUN = ["-m", "rebuttal.train", *SMALL, "hydra.run.dir=run"]
SWEEP = ["-m", "rebuttal.train", "-m", *SMALL, "hydra/launcher=local", "hydra.sweep.dir=sweep"]
FROM_PYTHON = ["-c", f"import rebuttal; rebuttal.run('toy', {SMALL}, folder='python')"]
COMMANDS = [
    pytest.param([RUN], LATIN, marks=pytest.mark.slow),
    pytest.param([RUN], C, marks=pytest.mark.slow),
    pytest.param([["-m", "rebuttal.train", "-m", *SMALL, "plan=true"]], ASCII, marks=pytest.mark.slow),
    ([["-m", "rebuttal.train", "--help"]], ASCII),
    pytest.param(
        [RUN, SWEEP, ["-m", "rebuttal.status", "sweep"], ["-m", "rebuttal.report", "run", "sweep", "--out", "paper"]],
        ASCII,
        marks=pytest.mark.slow,
    ),
    pytest.param([FROM_PYTHON], ASCII, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("commands", "environment"), COMMANDS)
def test_a_sign_that_cannot_be_shown_is_replaced(commands, environment, tmp_path):
    for arguments in commands:
        done = python(*arguments, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
        assert b"Error" not in done.stderr and done.stdout
        if "hydra.run.dir=run" in arguments or "-c" in arguments:
            assert rb"\u03ba" in done.stdout  # κ


def test_an_error_with_signs_is_one_line(tmp_path):
    done = python("-m", "rebuttal.train", "dataset=image_folder", "dataset.root='κ ß'", cwd=tmp_path, environment=ASCII)
    assert done.returncode == 2
    assert done.stderr.startswith(rb"rebuttal: dataset.root=\u03ba \xdf: ") and done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_files_are_utf_8_whatever_the_locale(tmp_path):
    code = f"""
import logging
from hydra import compose, initialize_config_dir
from rebuttal.config import CONFIG_DIR
from rebuttal.runs.execute import execute
from rebuttal.runs.folder import Asked, RunFolder

with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
    cfg = compose("train", {ONE_NETWORK})
execute(cfg, "run", asked=Asked(["+note=κ"], cfg))
folder = RunFolder("run")
with folder.log():
    logging.getLogger().warning("κ")
folder.write_error(ValueError("κ"))
"""
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    done = python("script.py", cwd=tmp_path, environment=C | ASCII)
    assert done.returncode == 0, done.stderr
    for name in ("train.log", "error.txt", ".hydra/overrides.yaml"):
        assert "κ" in (tmp_path / "run" / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_the_standard_streams_of_a_caller_are_as_before(tmp_path):
    run = f"rebuttal.run('baseline', {ONE_NETWORK[1:]})"
    code = f"import sys, rebuttal; {run}; print(sys.stdout.errors, sys.stderr.errors)"
    done = python("-c", code, cwd=tmp_path, environment={"PYTHONIOENCODING": "ascii:strict"})
    assert done.stdout.splitlines()[-1] == b"strict backslashreplace"
