"""Benchmark results as JSON, with the environment they were measured in."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from rebuttal.device import machine

FOLDER = Path(__file__).parent / "results"


def record(name: str, results: dict[str, Any]) -> None:
    """Write `benchmarks/results/<name>.json`."""
    FOLDER.mkdir(exist_ok=True)
    command = ["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]
    content = {
        "command": " ".join(command),
        "date": datetime.date.today().isoformat(),
        "environment": machine(),
        "results": results,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
