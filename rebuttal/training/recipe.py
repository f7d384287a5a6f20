"""The training recipe."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from rebuttal.config import LIMIT, checked
from rebuttal.models.preprocess import CropAndNormalise, Preprocessing
from rebuttal.store.identity import describe
from rebuttal.training.augmentations import AugmentationOption
from rebuttal.training.losses import CrossEntropy, LossOption
from rebuttal.training.optimizers import SGD, AdamW, OptimizerOption
from rebuttal.training.schedules import Constant, Cosine, Exponential, ScheduleOption


def _settled(precision: Any) -> Any:
    if precision not in ("float32", "tf32", "bfloat16"):
        raise ValueError("allowed: auto (in the config of a run), float32, tf32, bfloat16")
    return precision


@checked
class Recipe:
    """Everything that decides how a network is trained, given its data and its initial weights.

    `optimizer`, `schedule`, `loss`, `augmentation`: options of the groups `training/optimizer` and so on. `lr`: the
    base learning rate, by which the schedule's factor is multiplied. The first `warmup_epochs` rise linearly to it.
    `weight_decay` is added to SGD's gradient and decoupled with Adam (AdamW). Training ends after `epochs`, or at the
    first epoch whose training accuracy reaches `stop_accuracy` or whose mean loss falls to `stop_loss`. `precision`: of
    matrix products and convolutions in training; `tf32` is float32 on devices without it. Weights are always float32,
    and so is evaluation. `compile`: a mode of `torch.compile` in which the network's steps are compiled, which rounds
    otherwise; evaluation is not compiled.
    """

    optimizer: OptimizerOption
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: ScheduleOption
    warmup_epochs: Annotated[float, Field(ge=0, lt=LIMIT)]  # the limit that `config.build` sets on epochs
    epochs: PositiveInt
    batch_size: PositiveInt
    loss: LossOption
    augmentation: AugmentationOption | None
    stop_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    stop_loss: PositiveFloat | None
    precision: Annotated[Literal["float32", "tf32", "bfloat16"], BeforeValidator(_settled)]
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None

    def steps_per_epoch(self, n: int) -> int:
        """Return how many optimiser steps an epoch of n inputs has."""
        return math.ceil(n / self.batch_size)

    def most_steps(self, n: int) -> int:
        """Return how many optimiser steps a training on n inputs has, if nothing stops it earlier."""
        return self.epochs * self.steps_per_epoch(n)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of optimiser step `step` = 0, 1, …"""
        epoch = step / steps_per_epoch
        if epoch < self.warmup_epochs:
            return self.lr * (step + 1) / math.ceil(self.warmup_epochs * steps_per_epoch)
        return self.lr * self.schedule(epoch, self.warmup_epochs, self.epochs)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return a new optimiser of the network's parameters at the base learning rate `lr`; the training loop sets the
        scheduled rate before each step."""
        given: Any = network if getattr(self.optimizer, "by_module", False) else network.parameters()
        return self.optimizer(given, self.lr, self.weight_decay)

    def identity(self, preprocess: Preprocessing) -> dict[str, Any]:
        """Return what decides a network that is trained by this recipe on inputs that are preprocessed so.

        In the form of when all of it were keys of the recipe, where that had a word for it: networks of then are
        found."""
        numbers = ("lr", "weight_decay", "warmup_epochs", "epochs", "batch_size", "stop_accuracy", "stop_loss")
        return {
            "kind": "rebuttal.Recipe",
            **{name: getattr(self, name) for name in numbers},
            "precision": self.precision,
            # Before, steps of a run in bfloat16 saw weights of earlier steps.
            **({"rounding": "of each step"} if self.precision == "bfloat16" else {}),
            **({} if self.compile is None else {"compile": self.compile}),
            **_optimizer(self.optimizer),
            **_schedule(self.schedule),
            **({} if self.loss == CrossEntropy() else {"loss": describe(self.loss)}),
            **({} if self.augmentation is None else {"augmentation": describe(self.augmentation)}),
            **_preprocess(preprocess),
        }


def _optimizer(option: Any) -> dict[str, Any]:
    if type(option) is SGD:  # not a class of the user's made of it, whose source and fields count
        return {"optimizer": "nesterov" if option.nesterov else "sgd", "momentum": option.momentum}
    if type(option) is AdamW and option == AdamW(beta1=option.beta1):
        return {"optimizer": "adam", "momentum": option.beta1}
    return {"optimizer": describe(option)}


def _schedule(option: Any) -> dict[str, Any]:
    if type(option) in (Constant, Cosine):
        return {"schedule": type(option).__name__.lower(), "decay": 1.0}
    if type(option) is Exponential:
        return {"schedule": "exponential", "decay": option.decay}
    return {"schedule": describe(option)}


def _preprocess(option: Any) -> dict[str, Any]:
    if type(option) is CropAndNormalise:
        return {"crop": option.crop, "normalisation": option.normalisation}
    return {"preprocess": describe(option)}
