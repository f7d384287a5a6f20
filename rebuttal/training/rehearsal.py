"""Each part of a recipe tried once, so that one that cannot work is found before anything is trained.

All raise `ConfigError` with the key of the part, whatever a user's own code raises.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rebuttal.errors import user_code
from rebuttal.training import augmentations
from rebuttal.training.loop import kept_of_group
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import autocast

REHEARSAL_LR = 1e-6  # whether the recipe diverges is for the training to find out


def augmented(recipe: Recipe, inputs: Tensor) -> Tensor:
    """Return the inputs (n, *shape) of a step as the recipe's augmentation gives them."""
    if recipe.augmentation is None:
        return inputs
    with user_code(f"training.augmentation={type(recipe.augmentation).__name__}"):
        random, examples = torch.Generator().manual_seed(0), torch.arange(len(inputs), device=inputs.device)
        given = augmentations.augmented(recipe.augmentation, inputs, random, examples, 1)
        if not isinstance(given, Tensor) or (given.shape, given.dtype) != (inputs.shape, inputs.dtype):
            raise ValueError(f"allowed: to return inputs of shape {list(inputs.shape)} and type {inputs.dtype}")
    return given


def try_optimizer(recipe: Recipe, network: nn.Module) -> int:
    """Take a step with the gradients that the network's parameters hold; return the bytes of what is kept of it."""
    with user_code(f"training.optimizer={type(recipe.optimizer).__name__}"):
        optimizer = replace(recipe, lr=REHEARSAL_LR).make_optimizer(network)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"returned a {type(optimizer).__name__}; allowed: a torch.optim.Optimizer")
        before = [dict(group) for group in optimizer.param_groups]
        optimizer.step()
        _check_groups(before, optimizer.param_groups)
        kept = [item for values in optimizer.state_dict()["state"].values() for item in values.items()]
        for name, value in kept:
            if not isinstance(value, (Tensor, type(None))):
                raise ValueError(f"keeps {name} as a {type(value).__name__}; allowed: tensors, for checkpoints")
        return sum(value.nbytes for _, value in kept if value is not None)


def _check_groups(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Raise `ValueError` if a step changes what a checkpoint does not keep of a group, see `kept_of_group`."""
    for old, new in zip(before, after):
        for name in new.keys() - kept_of_group(new).keys() - {"params"}:
            if new[name] is not old.get(name):
                kind = type(new[name]).__name__
                raise ValueError(f"keeps {name} of a group as a {kind}; allowed: numbers, or tensors of a parameter")


def try_loss(recipe: Recipe, logits: Tensor) -> None:
    """Compute the loss of logits (n, K), and its gradient."""
    with user_code(f"training.loss={type(recipe.loss).__name__}"):
        labels = torch.arange(len(logits), device=logits.device) % logits.shape[1]
        with autocast(logits.device, recipe.precision):
            value = recipe.loss(logits.requires_grad_(), labels)
        if not isinstance(value, Tensor) or value.ndim:
            raise ValueError("allowed: to return the mean over the batch, a tensor without dimensions")
        value.backward()


def try_schedule(recipe: Recipe) -> None:
    """Compute the schedule's factor at its start, in the middle and near its end."""
    start, end = recipe.warmup_epochs, recipe.epochs
    if start >= end:
        return
    with user_code(f"training.schedule={type(recipe.schedule).__name__}"):
        for epoch in (start, (start + end) / 2, end - 1e-3 * (end - start)):
            factor = recipe.schedule(epoch, start, end)
            if not (isinstance(factor, (int, float)) and 0 <= factor < math.inf):
                raise ValueError(f"gives {factor!r} at epoch {epoch:g}; allowed: finite numbers from 0")
