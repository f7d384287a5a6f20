"""Show the state of a sweep, from any terminal; changes nothing.

python -m rebuttal.status                        # the latest sweep below multirun/ and outputs/
python -m rebuttal.status multirun/toy/2026-01-31_12-00-00-000000
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rebuttal.errors import UserError
from rebuttal.launch.sweep import Sweep, count_states, job_table
from rebuttal.progress.console import signs_replaced, wide_console

DEFAULT_FOLDERS = ("multirun", "outputs")


def latest(folders: list[Path]) -> Sweep:
    """Return the sweep that started last below `folders`. Raises `UserError` if there is none."""
    began = {path.parent: _began(path) for folder in folders for path in folder.rglob("sweep.json")}
    if not began:
        raise UserError(
            f"no sweep below {', '.join(map(str, folders))}; allowed: folders that python -m rebuttal.train -m writes"
        )
    return Sweep(max(began, key=lambda folder: began[folder]))


def _began(path: Path) -> float:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


@signs_replaced()
def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        "python -m rebuttal.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="where to look for sweeps (default: multirun outputs)")
    folders = parser.parse_args().folders or [Path(name) for name in DEFAULT_FOLDERS]
    try:
        sweep = latest(folders)
        jobs = sweep.jobs()
    except (UserError, OSError, ValueError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    wide_console.print(job_table(jobs))
    wide_console.print(f"{sweep.folder}: {count_states(jobs)}", soft_wrap=True)


if __name__ == "__main__":
    main()
