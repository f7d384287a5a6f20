"""Where a run's numbers come from: code, versions, machine, and the fingerprints of its stages."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import rebuttal
from rebuttal.runs.configuration import configuration
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage
from rebuttal.store.identity import fingerprint

PACKAGES = ("torch", "numpy", "scipy", "pandas", "hydra-core", "omegaconf", "safetensors")
_SOURCE = Path(rebuttal.__file__).parent


def provenance(config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    """The content of `provenance.json`."""
    return {
        **essence(config, stages, session),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
        "device": torch.cuda.get_device_name() if session.device.type == "cuda" else platform.processor() or "cpu",
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": torch.get_num_threads(),
        "configuration": configuration(config),
        "computed": session.store.made,
    }


def essence(config: dict[str, Any], stages: dict[str, Stage], session: Session) -> dict[str, Any]:
    """What makes a run this run and no other."""
    return {
        "rebuttal": rebuttal.__version__,
        "stages": {name: fingerprint(stage.identity(session)) for name, stage in stages.items()},
        "config": config,
    }


def run_identity(stages: dict[str, Stage], session: Session) -> Any:
    """What decides the files of a run. The source code is part of it: figures, and numbers computed from several
    artifacts, have no version of their own."""
    return {"code": _source_digest(), "stages": {name: stage.identity(session) for name, stage in stages.items()}}


@cache
def _source_digest() -> str:
    """A digest of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _git_revision() -> str | None:
    """The revision of the checkout that this code lies in, with `+changes` if files differ from it."""
    try:
        revision = _git("rev-parse", "HEAD")
        return revision + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=_SOURCE, check=True, capture_output=True, text=True)
    return found.stdout.strip()
