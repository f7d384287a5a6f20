"""The command line, as a user meets it: in a process of its own, or here, which saves its imports."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebuttal import train

ROOT = Path(__file__).parent.parent
# One small network, for tests that are about no certain experiment. The toy takes nine times as long.
ONE_NETWORK = ["experiment=baseline", "dataset=uniform_noise", "dataset.shape=[8]", "model=mlp_toy", "debug=tiny"]
STARTED: list[subprocess.Popen[str]] = []  # which tests/conftest.py ends with the test, whatever becomes of it


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def process(*overrides: str, cwd: Path, **environment: str) -> Done:
    """`python -m rebuttal.train …` in a process of its own."""
    done = subprocess.run(**_asked(overrides, cwd, environment), timeout=300)
    return Done(done.returncode, done.stdout, done.stderr)


def start(*overrides: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """`python -m rebuttal.train …`, begun in a process group of its own."""
    STARTED.append(subprocess.Popen(**_asked(overrides, cwd, environment), start_new_session=True))
    return STARTED[-1]


def _asked(overrides: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> dict[str, Any]:
    words = [sys.executable, "-m", "rebuttal.train", *overrides]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return {"args": words, "cwd": cwd, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def command(*overrides: str, cwd: Path, **environment: str) -> Done:
    """`python -m rebuttal.train …`: here, unless it starts processes itself or needs another environment."""
    if environment or any(override.startswith("hydra/launcher=") for override in overrides):
        return process(*overrides, cwd=cwd, **environment)
    printed, complained = io.StringIO(), io.StringIO()
    with _as_it_was(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        os.chdir(cwd)
        sys.argv = ["rebuttal-train", *overrides]
        status = _main()
    return Done(status, printed.getvalue(), complained.getvalue())


def _main() -> int:
    try:
        train.main()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _as_it_was():
    """Put back what a command changes in its process: folder, arguments, environment, and Hydra's logging."""
    folder, arguments, environment = Path.cwd(), sys.argv, dict(os.environ)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        os.chdir(folder)
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
