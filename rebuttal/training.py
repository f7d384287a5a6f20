"""The training recipe and the one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.errors import TrainingError
from rebuttal.models.preprocess import Normalisation
from rebuttal.progress import track

EVALUATION_BATCH = 2048

Loss = Callable[[Tensor, Tensor], Tensor]


@checked
class Recipe:
    """Everything that decides how a network is trained, given its data and its initial weights.

    `momentum` is SGD's, or Adam's β₁; `weight_decay` is added to SGD's gradient and decoupled with Adam
    (AdamW). `schedule`: constant; `exponential`, lr × decay^epoch; `cosine`, from lr to 0 at the last step.
    The first `warmup_epochs` rise linearly to lr. Training ends after `epochs`, or at the first epoch whose
    training accuracy reaches `stop_accuracy` or whose mean loss falls to `stop_loss`.
    """

    optimizer: Literal["sgd", "nesterov", "adam"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegativeFloat
    schedule: Literal["constant", "exponential", "cosine"]
    decay: Annotated[float, Field(gt=0, le=1)]
    warmup_epochs: NonNegativeFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    stop_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    stop_loss: PositiveFloat | None
    crop: PositiveInt | None
    normalisation: Normalisation
    precision: Literal["float32", "bfloat16"]

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of optimiser step `step` = 0, 1, …"""
        epoch = step / steps_per_epoch
        if epoch < self.warmup_epochs:
            return self.lr * (step + 1) / math.ceil(self.warmup_epochs * steps_per_epoch)
        if self.schedule == "exponential":
            return self.lr * self.decay ** int(epoch)
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        parameters = network.parameters()
        if self.optimizer == "adam":
            betas = (self.momentum, 0.999)
            return torch.optim.AdamW(parameters, self.lr, betas, weight_decay=self.weight_decay, fused=True)
        nesterov = self.optimizer == "nesterov" and self.momentum > 0
        return torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=nesterov, fused=True
        )


def train(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    recipe: Recipe,
    order: np.random.Generator,
    evaluate: Callable[[nn.Module], dict[str, float]],
    name: str,
) -> list[dict[str, float]]:
    """Train `network` in place on `inputs` (n, *shape) and `targets` (n, …); returns a row an epoch.

    `order` shuffles the examples each epoch. `evaluate` is called on the network at the end of each epoch,
    in evaluation mode; its numbers, among them `train_accuracy`, join the row. Nothing is read back from
    the device before the end of an epoch. `name` says in messages whose training it is.
    Raises `TrainingError` when the loss is no longer finite.
    """
    device = inputs.device
    optimizer = recipe.make_optimizer(network)
    steps_per_epoch = math.ceil(len(inputs) / recipe.batch_size)
    losses = torch.empty(steps_per_epoch, device=device)
    history: list[dict[str, float]] = []
    step = 0
    for epoch in track(range(1, recipe.epochs + 1), name):
        network.train()
        for i, batch in enumerate(batches(len(inputs), steps_per_epoch, order, device)):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, steps_per_epoch)
            with _autocast(device, recipe.precision):
                value = loss(network(inputs.index_select(0, batch)), targets.index_select(0, batch))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            losses[i] = value.detach()
            step += 1
        _check_finite(losses, epoch, recipe, name)
        network.eval()
        row = {"epoch": epoch, "step": step, "lr": optimizer.param_groups[0]["lr"]}
        row["loss"] = losses.mean().item()
        history.append(row | evaluate(network))
        if _reached(history[-1], recipe):
            break
    return history


def batches(n: int, count: int, order: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    """The indices 0 … n−1, shuffled, in `count` batches whose sizes differ by at most one: no tiny last
    batch for batch-norm to stumble over."""
    shuffled = torch.from_numpy(order.permutation(n)).to(device)
    return iter(shuffled.tensor_split(count))


@torch.inference_mode()
def predict(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Logits (n, K), of at least single precision, of inputs (n, *shape), in large batches."""
    logits = torch.cat([network(batch) for batch in inputs.split(EVALUATION_BATCH)])
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def time_to_fit(history: list[dict[str, float]]) -> dict[str, float | None]:
    """Epochs and optimiser steps until training accuracy first reached 100 %, looked at each epoch's end;
    null (censored) where the budget ended first."""
    fitted = next((row for row in history if row["train_accuracy"] == 1.0), None)
    return {
        "epochs_to_fit": fitted["epoch"] if fitted else None,
        "steps_to_fit": fitted["step"] if fitted else None,
    }


def _autocast(device: torch.device, precision: str):
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _check_finite(losses: Tensor, epoch: int, recipe: Recipe, name: str) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise TrainingError(
            f"{name}: the loss became {losses[bad[0, 0]].item()} at step {bad[0, 0].item() + 1} of epoch {epoch}; "
            f"try a smaller training.lr (now {recipe.lr}), training.warmup_epochs above {recipe.warmup_epochs}, "
            "or training.precision=float32"
        )


def _reached(row: dict[str, float], recipe: Recipe) -> bool:
    accurate = recipe.stop_accuracy is not None and row["train_accuracy"] >= recipe.stop_accuracy
    low = recipe.stop_loss is not None and row["loss"] <= recipe.stop_loss
    return accurate or low
