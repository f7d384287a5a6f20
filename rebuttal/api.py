"""The Python API, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pandas as pd
from hydra import compose, initialize_config_dir

from rebuttal.config import CONFIG_DIR
from rebuttal.launch.expand import packages_in
from rebuttal.progress.console import console
from rebuttal.runs.execute import execute
from rebuttal.runs.load import load

__all__ = ["load", "run", "run_baseline_replication"]


def run(experiment: str, overrides: Sequence[str] = (), folder: str | None = None) -> pd.DataFrame:
    """Run one experiment with Hydra overrides, e.g. `run("two_stage", ["model=resnet18", "seed=0"])`.

    Returns a row a metric, with the columns `stage`, `measure`, `value`. `folder`: where to leave the
    files of the run; none by default. Raises `ConfigError` for a setting that cannot be used.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", *overrides])
    metrics = execute(cfg, folder, packages_in(overrides)).metrics
    rows = [(*name.split("/", 1), value) for name, value in metrics.items()]
    return pd.DataFrame(rows, columns=["stage", "measure", "value"])


def run_baseline_replication(
    architectures: Sequence[str] = ("resnet18",),
    seeds: Sequence[int] = (42,),
    epochs: int = 50,
    verbose: bool = True,
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """The comparison of Zhang et al. 2017, Table 1: each architecture on true and on random labels.

    Returns a row a network: `architecture`, `labels` ("none": true, or "random"), `seed`, and the metrics
    of the `fit` stage. `overrides` go to each run, e.g. `["dataset=image_folder", "dataset.root=…"]`.
    """
    rows = []
    for architecture, labels, seed in product(architectures, ("none", "random"), seeds):
        chosen = [f"model={architecture}", f"corruption={labels}", f"seed={seed}", f"training.epochs={epochs}"]
        found = run("baseline", [*chosen, *overrides]).set_index("measure")["value"]
        rows.append({"architecture": architecture, "labels": labels, "seed": seed, **found})
        if verbose:
            train_accuracy, test_accuracy = found["train_accuracy"], found["test_accuracy"]
            said = f"train {train_accuracy:.2%}, test {test_accuracy:.2%}"
            console.print(f"{architecture}, labels={labels}, seed={seed}: {said}")
    return pd.DataFrame(rows)
