"""Golden trajectories: the metrics and loss curves of every experiment at `debug=tiny`, as they are meant to be.

    make golden                    # renew them on purpose, after a change that is meant to change results

`<experiment>.json` holds the run's metrics and history, `environment.json` where they were recorded. In the same
environment they must repeat exactly; elsewhere (another CPU or library rounds differently) within `TOLERANCE`, but for
those of a hash, to which inputs that differ in a last bit are others; with other versions of the libraries all but a
share of `STRAYS`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np

from rebuttal.device import machine
from tests.conftest import save_images

FOLDER = Path(__file__).parent
ON_IMAGES = ("corruption", "frequency", "smoothness", "baseline", "interpolation", "zhang")
EXPERIMENTS = sorted(path.stem for path in (FOLDER.parent.parent / "conf" / "experiment").glob("*.yaml"))
# Shares are of 60 held-out inputs, of which few may change sides; all else is continuous.
TOLERANCE = {"absolute": 0.1, "relative": 0.05}
STRAYS = 0.05  # a chaotic training may end elsewhere


def overrides(experiment: str, images: Path) -> list[str]:
    """The command line of the recorded run: one thread, so that it repeats bit for bit."""
    real = ["dataset=image_folder", f"dataset.root={images}"] if experiment in ON_IMAGES else []
    small = ["model=mlp_toy"] if experiment in ON_IMAGES[:3] else []
    return [f"experiment={experiment}", "debug=tiny", "threads=1", *small, *real]


def save_golden_images(root: Path) -> Path:
    """160 training and 160 test images 3×32×32 of two classes, always the same."""
    save_images(root, {f"{split}/{name}": 80 for split in ("train", "test") for name in ("cat", "dog")}, size=(32, 32))
    return root


def outcome(run: Path) -> dict[str, Any]:
    """What a run's folder says of its numbers. One that trains nothing has no history."""
    history = run / "history.csv"
    rows = [
        {"stage": row.pop("stage"), **{k: json.loads(v or "null") for k, v in row.items()}}
        for row in DictReader(history.read_text().splitlines() if history.exists() else ())
    ]
    return {"metrics": json.loads((run / "metrics.json").read_text()), "history": rows}


def environment() -> dict[str, Any]:
    """What decides the last bits of the recorded results, which were computed by one thread."""
    return machine() | {"threads": 1}


def assert_golden(experiment: str, run: Path) -> None:
    """Compare a run with the recorded one, exactly where the environment is the same."""
    known = json.loads((FOLDER / f"{experiment}.json").read_text())
    found = outcome(run)
    recorded, here = json.loads((FOLDER / "environment.json").read_text()), environment()
    if recorded == here:
        assert found == known
        return
    assert found["metrics"].keys() == known["metrics"].keys()
    assert len(found["history"]) == len(known["history"])
    pairs = [(name, found["metrics"][name], value) for name, value in known["metrics"].items()]
    for row, known_row in zip(found["history"], known["history"]):
        pairs += [(f"history: {name}", row[name], value) for name, value in known_row.items()]
    strays = [pair for pair in pairs if "hash" not in pair[0] and not is_close(*pair[1:])]
    same_versions = all(recorded[name] == here[name] for name in ("torch", "numpy"))
    assert len(strays) <= (0 if same_versions else STRAYS * len(pairs)), strays


def is_close(found: Any, known: Any) -> bool:
    if isinstance(known, float) and isinstance(found, float):
        return bool(np.isclose(found, known, rtol=TOLERANCE["relative"], atol=TOLERANCE["absolute"]))
    return bool(found == known)


def record(folder: Path) -> None:
    """Run every experiment and store what came out."""
    images = save_golden_images(folder / "images")
    for experiment in EXPERIMENTS:
        run = folder / experiment
        at = [*overrides(experiment, images), f"hydra.run.dir={run}", f"store={folder / 'store'}"]
        subprocess.run([sys.executable, "-m", "rebuttal.train", *at], check=True)
        (FOLDER / f"{experiment}.json").write_text(json.dumps(outcome(run), indent=1) + "\n")
    (FOLDER / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
