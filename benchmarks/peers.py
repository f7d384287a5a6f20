"""Whole commands of this tool beside scripts that do the same work in the usual way, each in a process of its own.

    python -m benchmarks.peers
    python -m benchmarks.peers toy --rounds 5

`toy`: the toy experiment (11 trainings). `many`: 100 of its networks on random labels of their own, as a sweep with
`hydra/launcher=stacked`. Both beside `benchmarks.usual`, judged after every epoch, as scripts are, and after the last
one only. This tool judges at log-spaced epochs, draws the toy's figures, and writes and stores all networks; scripts do
not. `leak`: a cell of the leak's phase diagram with its controls, which has no peer here: the published diagram took
about ten days on one A5000 (Behrens and Zdeborová 2025, arXiv 2506.14457, figure 6a). Commands take turns; each figure
is the median over rounds, each ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import usual
from benchmarks.record import record

TOOL, SCRIPT = [sys.executable, "-m", "rebuttal.train"], [sys.executable, usual.__file__]
MANY = 100
SWEEP = ["-m", "experiment=baseline", "model=mlp_toy", "dataset=uniform_noise", "training=adam"]
SWEEP += [f"dataset.shape=[{usual.SIZE}]", f"dataset.train_size={usual.MANY_INPUTS}"]
SWEEP += [f"training.epochs={usual.MANY_EPOCHS}", "hydra.sweeper.params=null", "hydra/launcher=stacked"]


def script(what: str) -> dict[str, list[str]]:
    often, once = ([*SCRIPT, what, "--networks", str(MANY), "--judge", judge] for judge in ("every", "last"))
    return {"script, every epoch": often, "script, once": once}


CONTESTS = {
    "toy": {"this tool": [*TOOL, "experiment=toy"]} | script("toy"),
    "many": {"this tool": [*TOOL, *SWEEP, f"seed=range({MANY})"]} | script("many"),
    "leak": {"this tool": [*TOOL, "experiment=leak"]},
}


def seconds(command: list[str]) -> float:
    """How long a command takes in a new folder, from its start to its end."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began


def compete(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Seconds of each command, and of each script over this tool: medians over the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    ours = taken["this tool"]
    ratios = {
        f"{name} / this tool": median(theirs / mine for theirs, mine in zip(found, ours))
        for name, found in taken.items()
        if found is not ours
    }
    return {name: median(found) for name, found in taken.items()} | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contests", nargs="*", default=list(CONTESTS), help=", ".join(CONTESTS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.contests:
        results[name] = compete(CONTESTS[name], arguments.rounds)
        print(f"{name:<5} " + ", ".join(f"{key} {value:.3g}" for key, value in results[name].items()), flush=True)
    record("peers", results)


if __name__ == "__main__":
    main()
