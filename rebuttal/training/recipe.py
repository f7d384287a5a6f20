"""The training recipe."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from rebuttal.config import LIMIT, checked
from rebuttal.models.preprocess import Normalisation


@checked
class Recipe:
    """Everything that decides how a network is trained, given its data and its initial weights.

    `momentum` is SGD's, or Adam's β₁; `weight_decay` is added to SGD's gradient and decoupled with Adam
    (AdamW). `schedule`: constant; `exponential`, lr × decay^epoch; `cosine`, from lr to 0 at the last step.
    The first `warmup_epochs` rise linearly to lr. Training ends after `epochs`, or at the first epoch whose
    training accuracy reaches `stop_accuracy` or whose mean loss falls to `stop_loss`. `crop` and `normalisation`:
    see `rebuttal.models.preprocess`. `precision`: of matrix products and convolutions in training; `tf32` is float32
    on devices without it. Weights are always float32, and so is evaluation.
    """

    optimizer: Literal["sgd", "nesterov", "adam"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegativeFloat
    schedule: Literal["constant", "exponential", "cosine"]
    decay: Annotated[float, Field(gt=0, le=1)]
    warmup_epochs: Annotated[float, Field(ge=0, lt=LIMIT)]  # the limit that `config.build` sets on epochs
    epochs: PositiveInt
    batch_size: PositiveInt
    stop_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    stop_loss: PositiveFloat | None
    crop: PositiveInt | None
    normalisation: Normalisation
    precision: Literal["float32", "tf32", "bfloat16"]

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of optimiser step `step` = 0, 1, …"""
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
        """Return a new optimiser of the network's parameters at the base learning rate `lr`; the training loop sets the
        scheduled rate before each step."""
        parameters = network.parameters()
        if self.optimizer == "adam":
            betas = (self.momentum, 0.999)
            return torch.optim.AdamW(parameters, self.lr, betas, weight_decay=self.weight_decay, fused=True)
        nesterov = self.optimizer == "nesterov" and self.momentum > 0
        return torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=nesterov, fused=True
        )
