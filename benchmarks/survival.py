"""What surviving costs: checkpoints and status while a network trains, and a sweep whose runs are all in the store.

    python -m benchmarks.survival                       # both
    python -m benchmarks.survival --jobs 200 --rounds 5

`beside`: what `checkpoint.due()` and the status file take of the time of training, by the same epochs with and without
them in turn, medians over rounds. `checkpoint`: one written to the disk, over the least time between two at the default
settings. A sweep of `--jobs` jobs, 20 different runs that are in the store, is given as one command.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.nn import functional as F

from benchmarks.record import record
from benchmarks.throughput import IMAGES, settings
from rebuttal.config import CONFIG_DIR
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.progress.status_file import StatusFile
from rebuttal.store.checkpoints import COST, Checkpoint
from rebuttal.training.loop import Support, _Training, train

RUNS = 20


def beside(name: str, rounds: int, folder: Path) -> dict[str, float]:
    """One line of the table."""
    model, recipe = settings(name)
    epochs = max(2, IMAGES[name] // 1280)  # more of a fast network, so that each timing takes seconds
    recipe = replace(recipe, epochs=epochs)
    preprocess = CropAndNormalise(crop=28, normalisation="per_image").layer((3, 32, 32), False)
    network = nn.Sequential(preprocess, model.network(preprocess.output_shape, 10))
    inputs = torch.randint(256, (IMAGES[name], 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (IMAGES[name],))
    interval = default_interval()
    status = StatusFile(folder / name)
    beginning = copy.deepcopy(network.state_dict())

    def seconds(support: Support) -> float:
        network.load_state_dict(beginning)  # a network that has fitted is slower: its gradients are denormal numbers
        began = time.perf_counter()
        order = np.random.default_rng(0)
        train(network, inputs, labels, F.cross_entropy, recipe, order, None, "benchmark", support)
        return time.perf_counter() - began

    with status.alive([]):
        seconds(Support())  # warms up
        ratios = []
        for _ in range(rounds):  # too short for a checkpoint to be due
            saving = seconds(Support(Checkpoint(folder / name / "checkpoint", interval), status.step))
            ratios.append(saving / seconds(Support()))
    state = _Training(network, recipe, np.random.default_rng(0), 1, torch.device("cpu"))
    state.descend(_loss(network, inputs[:2], labels[:2]))
    writing = median(_time_to_save(folder / name / "checkpoint", state) for _ in range(rounds))
    share = writing / (writing + max(interval, writing / COST))
    return {"beside": median(ratios) - 1, "seconds to write": writing, "share of writing": share}


def _loss(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    loss = F.cross_entropy(network(inputs), labels)
    loss.backward()
    return loss.detach()


def _time_to_save(path: Path, training: _Training) -> float:
    began = time.perf_counter()
    Checkpoint(path).save(training.state())
    return time.perf_counter() - began


def default_interval() -> float:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train").checkpoint


def finished_sweep(jobs: int, folder: Path) -> float:
    """`checkpoint` decides nothing, so that jobs which differ in it are runs that the store holds."""
    command = [sys.executable, "-m", "rebuttal.train", "-m", "experiment=baseline", "dataset=uniform_noise"]
    command += ["dataset.shape=[8]", "model=mlp_toy", "debug=tiny", "hydra.sweeper.params=null", f"seed=range({RUNS})"]
    subprocess.run([*command, "hydra.sweep.dir=made"], cwd=folder, check=True, capture_output=True)
    began = time.perf_counter()
    again = [*command, f"checkpoint=range(1,{jobs // RUNS + 1})", "hydra.sweep.dir=again"]
    said = subprocess.run(again, cwd=folder, check=True, capture_output=True, text=True).stdout
    took = time.perf_counter() - began
    assert f"{jobs} from store" in said, said
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help=f"a multiple of {RUNS}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=list(IMAGES), help=", ".join(IMAGES))
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        print("of the time of training:  beside   a checkpoint    its share      all")
        results: dict[str, Any] = {}
        for name in arguments.models:
            found = results[name] = beside(name, arguments.rounds, Path(folder))
            share, writing = found["share of writing"], found["seconds to write"]
            print(
                f"{name:<10} {found['beside']:>8.1%} {writing:>14.2f} s {share:>12.2%} {found['beside'] + share:>8.1%}"
            )
        took = results["seconds for a finished sweep"] = finished_sweep(arguments.jobs, Path(folder))
        results["jobs of the finished sweep"] = arguments.jobs
        print(f"{arguments.jobs} jobs from the store: {took:.1f} s, {took / arguments.jobs * 1000:.0f} ms a job")
    record("survival", results)


if __name__ == "__main__":
    main()
