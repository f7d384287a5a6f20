"""Small networks: what evaluation adds to training, and what training many as one saves.

    python -m benchmarks.small
    python -m benchmarks.small --members 100 --device cuda

`student`: 2,000 steps on 100 inputs, judged on 10,000, as `bare` PyTorch without any evaluation, and by
`rebuttal.training.train` with `evaluate=every` and `evaluate=log`. `stack`: networks of the toy experiment
(100-256-128-64-10, AdamW, batches of 128 of 3,840 inputs), `stacked`, on a CPU alone but a thread each
`side by side`, and one after the other in the same process (`alone`); `matrix`: the share of the rate of 2048×2048
float32 products that the stack reaches. All take turns, so that they meet the same machine; each figure is the median
over rounds, each ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.record import record
from benchmarks.throughput import matrix_rate, seconds
from rebuttal import device
from rebuttal.models import MLP
from rebuttal.training import AdamW, Constant, CrossEntropy, Recipe
from rebuttal.training.evaluation import Evaluation, Schedule
from rebuttal.training.member import Member
from rebuttal.training.side_by_side import Task, side_by_side
from rebuttal.training.stack import train_stacked

SIZE, CLASSES, HIDDEN = 100, 10, (256, 128, 64)  # of the toy experiment
STUDENT_INPUTS, STUDENT_STEPS, JUDGED = 100, 2000, 10_000
INPUTS, EPOCHS = 3840, 5  # of each member of a stack


def recipe(epochs: int) -> Recipe:
    return Recipe(
        optimizer=AdamW(),
        lr=1e-3,
        weight_decay=0.0,
        schedule=Constant(),
        warmup_epochs=0.0,
        epochs=epochs,
        batch_size=128,
        loss=CrossEntropy(),
        augmentation=None,
        stop_accuracy=None,
        stop_loss=None,
        precision="float32",
    )


def member(seed: int, n: int, epochs: int, where: torch.device, schedule: Schedule, judged: int = 0) -> Member:
    """A training on `n` inputs of noise with random labels, judged on `judged` others."""
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n + judged, SIZE, generator=chance).to(where)
    classes = torch.randint(CLASSES, (n + judged,), generator=chance).to(where)
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Identity(), MLP(hidden=HIDDEN).network((SIZE,), CLASSES)).to(where)
    held_out = {"agreement": (inputs[n:], classes[n:])} if judged else {}
    evaluation = Evaluation(inputs[:n], classes[:n], held_out, schedule)
    settings, order = recipe(epochs), np.random.default_rng(seed)
    return Member(network, inputs[:n], classes[:n], settings.loss, settings, order, evaluation, "benchmark")


def bare(one: Member) -> None:
    """The same steps as those of `one` on all of its inputs, and nothing else."""
    optimizer = torch.optim.AdamW(one.network.parameters(), one.recipe.lr, weight_decay=0.0)
    for _ in range(one.recipe.epochs):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(one.network(one.inputs), one.targets).backward()
        optimizer.step()


def student(where: torch.device) -> dict[str, float]:
    """Seconds of each way to train a student."""

    def new(schedule: Schedule) -> Member:
        return member(0, STUDENT_INPUTS, STUDENT_STEPS, where, schedule, JUDGED)

    found = {"bare": seconds(partial(bare, new("log")), where)}
    found["every"] = seconds(new("every").train_alone, where)
    found["log"] = seconds(new("log").train_alone, where)
    return found | {"log/bare": found["log"] / found["bare"], "every/bare": found["every"] / found["bare"]}


def stack(count: int, where: torch.device) -> dict[str, float]:
    """Seconds of each way to train `count` networks."""
    together, beside, apart = ([member(seed, INPUTS, EPOCHS, where, "last") for seed in range(count)] for _ in range(3))
    found = {"stacked": seconds(lambda: train_stacked(together), where)}
    if where.type == "cpu":
        tasks = [Task([one]) for one in beside]
        found["side by side"] = seconds(lambda: side_by_side(tasks, torch.get_num_threads()), where)
    found["alone"] = seconds(lambda: [one.train_alone() for one in apart], where)
    sizes = (SIZE, *HIDDEN, CLASSES)
    weights = sum(a * b for a, b in pairwise(sizes))
    passes = 6 * weights - 2 * sizes[0] * sizes[1]  # forward and both gradients; the inputs need none
    work = count * (EPOCHS * passes + 2 * weights) * INPUTS  # the last evaluation included
    ratios = {f"alone/{way}": found["alone"] / took for way, took in found.items() if way != "alone"}
    return found | ratios | {"matrix": work / found["stacked"] / matrix_rate(where)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[9, 30], help="networks in a stack")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    where = device.resolve(arguments.device)
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    contests: dict[str, Callable[[], dict[str, float]]] = {"student": partial(student, where)}
    contests |= {f"stack of {count}": partial(stack, count, where) for count in arguments.members}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in contests}
    with device.configured(where.type, None):
        for turn in range(arguments.rounds + 1):
            for name, contest in contests.items():
                found = contest()
                rounds[name] += [found] if turn > 0 else []  # the first round warms up
    results = {name: {key: median(one[key] for one in found) for key in found[0]} for name, found in rounds.items()}
    for name, row in results.items():
        print(f"{name:<12} " + "  ".join(f"{key} {value:.3g}" for key, value in row.items()))
    record("small", results, where)


if __name__ == "__main__":
    main()
