"""Where a result was computed: machine, versions, flags, revision of the code, and date."""

from __future__ import annotations

import datetime
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import rebuttal
from rebuttal.device import machine

PACKAGES = ("torchvision", "scipy", "pandas", "hydra-core", "omegaconf", "safetensors")
_SOURCE = Path(rebuttal.__file__).parent


def origin() -> dict[str, Any]:
    """Describe this process, JSON-able: recorded with every artifact that it computes."""
    return {
        **machine(),
        "packages": _versions(),
        "rebuttal": rebuttal.__version__,
        "revision": revision(),
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        "deterministic": torch.backends.cudnn.deterministic,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@cache
def revision() -> str | None:
    """Return the git revision of the checkout that this code lies in, with `+changes` if files differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=_SOURCE, check=True, capture_output=True, text=True)
    return found.stdout.strip()
