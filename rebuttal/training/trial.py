"""A trial of whether members train faster as one than one by one: a few steps of each."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rebuttal.training.member import Member
from rebuttal.training.recipe import Recipe
from rebuttal.training.stack import train_stacked

STEPS = (8, 32)  # of each round, at least and at most
SHARE = 160  # a round has one of so many of a training's steps, if these are not too few or too many
WORTH_IT = 300  # steps of a training


def is_worth_it(recipe: Recipe, n: int) -> bool:
    """Whether a training on n inputs is so long that a trial of a few steps costs little."""
    return recipe.most_steps(n) >= WORTH_IT


def trial(members: Sequence[Member]) -> dict[str, float]:
    """Return the seconds of a few steps of all members, `stacked` and `alone`, one after the other."""
    times: dict[str, list[float]] = {"stacked": [], "alone": []}
    steps = _steps(members)
    for _ in range(3):  # alternately, for a machine that others use too; the first is not counted
        together, first = [_few_steps(member, steps) for member in members], _few_steps(members[0], steps)
        times["stacked"].append(_seconds(partial(train_stacked, together)))
        times["alone"].append(len(members) * _seconds(first.train_alone))
    return {way: min(seconds[1:]) for way, seconds in times.items()}


def _steps(members: Sequence[Member]) -> int:
    """How many steps a round has: as many for each member, however long they train."""
    least, most = STEPS
    return min(max(least, max(member.recipe.most_steps(len(member.inputs)) for member in members) // SHARE), most)


def _few_steps(member: Member, steps: int) -> Member:
    """The member with so many inputs and epochs that it takes a few steps, and a network of its own."""
    n = min(steps * member.recipe.batch_size, len(member.inputs))
    epochs = math.ceil(steps / member.recipe.steps_per_epoch(n))
    recipe = replace(member.recipe, epochs=epochs, stop_accuracy=None, stop_loss=None)
    order = np.random.default_rng(0)
    network = copy.deepcopy(member.network)
    return Member(network, member.inputs[:n], member.targets[:n], member.loss, recipe, order, None, "trial")


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
