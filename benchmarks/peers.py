"""Whole commands of this tool beside scripts that do the same work in the usual way, each in a process of its own.

    python -m benchmarks.peers
    python -m benchmarks.peers toy --rounds 5

`toy`: the toy experiment (11 trainings). `many`: 100 of its networks on random labels of their own, as a sweep with
`hydra/launcher=stacked`. Both beside `benchmarks.usual`, by one schedule of evaluation at a time: after every epoch, as
scripts do, and after the last one only. This tool draws figures, and writes and stores all networks; scripts do not.
`leak`: a cell of the leak's phase diagram with its controls, which has no peer here: the published diagram took about
ten days on one A5000 (Behrens and Zdeborová 2025, arXiv 2506.14457, figure 6a). Commands take turns; each figure is the
median over rounds, each ratio the median of the rounds' ratios.
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


def beside_script(what: str, *asked: str) -> dict[str, dict[str, list[str]]]:
    """By schedule of evaluation: this tool's command, and the script's."""
    return {
        f"{what}, {schedule}": {
            "this tool": [*TOOL, *asked, f"evaluate={judge}"],
            "script": [*SCRIPT, what, "--networks", str(MANY), "--judge", judge],
        }
        for schedule, judge in (("every epoch", "every"), ("once", "last"))
    }


CONTESTS = {
    "toy": beside_script("toy", "experiment=toy"),
    "many": beside_script("many", *SWEEP, f"seed=range({MANY})"),
    "leak": {"leak": {"this tool": [*TOOL, "experiment=leak"]}},
}


def seconds(command: list[str]) -> float:
    """How long a command takes in a new folder, from its start to its end."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began


def compete(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Seconds of each command, and of the script over this tool: medians over the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    found = {name: median(times) for name, times in taken.items()}
    if "script" in taken:
        found["script / this tool"] = median(theirs / ours for theirs, ours in zip(taken["script"], taken["this tool"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contests", nargs="*", default=list(CONTESTS), help=", ".join(CONTESTS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.contests:
        for schedule, commands in CONTESTS[name].items():
            results[schedule] = found = compete(commands, arguments.rounds)
            print(f"{schedule:<17} " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()), flush=True)
    record("peers", results)


if __name__ == "__main__":
    main()
