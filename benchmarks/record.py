"""Benchmark results as JSON, with the environment they were measured in."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch

from rebuttal.device import machine

FOLDER = Path(__file__).parent / "results"


def record(name: str, results: dict[str, Any], where: torch.device | None = None) -> None:
    """Write `benchmarks/results/<name>.json`, or `<name>_gpu.json` if `where` is a GPU."""
    FOLDER.mkdir(exist_ok=True)
    command = ["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]
    content = {
        "command": " ".join(command),
        "date": datetime.date.today().isoformat(),
        "environment": machine(),
        "results": results,
    }
    measured_on = "_gpu" if where is not None and where.type == "cuda" else ""
    (FOLDER / f"{name}{measured_on}.json").write_text(json.dumps(content, indent=1) + "\n")
