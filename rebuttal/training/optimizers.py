"""Optimisers: options of the group `training/optimizer`.

One of your own is a frozen dataclass that is called with a network's parameters, the base learning rate and the weight
decay, and returns a `torch.optim.Optimizer` whose state consists of tensors, so that checkpoints can keep it. One whose
class has `by_module = True` is called with the network instead of its parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import Field, PositiveFloat
from torch import nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from rebuttal.config import Arguments, Offers, checked
from rebuttal.errors import ConfigError, nearest

Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimizerFactory(Protocol):
    """A config object of the group `training/optimizer`."""

    def __call__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return an optimiser; the training loop sets its learning rate before each step."""
        ...


OptimizerOption = Annotated[OptimizerFactory, Offers("__call__", 3, "an option of the group training/optimizer")]


@checked
class SGD:
    """Stochastic gradient descent with momentum, or with Nesterov's."""

    momentum: Momentum = 0.9
    nesterov: bool = False

    def __call__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(parameters, lr, self.momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)


@checked
class ScaledBiasSGD:
    """Nesterov's SGD, in which the biases of batch-norms have `bias_rate` times the learning rate, and the weight decay
    divided by it, so that all parameters shrink by the same share a step (Page 2019; Jordan 2024, section 3.4)."""

    momentum: Momentum = 0.85
    bias_rate: PositiveFloat = 64.0
    by_module: ClassVar[bool] = True

    def __call__(self, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        fast = {norm.bias: None for norm in norms if norm.bias is not None}  # in the network's order
        slow = [p for p in network.parameters() if p not in fast]
        groups = [
            {"params": slow, "lr": lr, "weight_decay": weight_decay},
            {"params": list(fast), "lr": lr * self.bias_rate, "weight_decay": weight_decay / self.bias_rate},
        ]
        return torch.optim.SGD(groups, lr, self.momentum, nesterov=self.momentum > 0, fused=True)


@checked
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    eps: PositiveFloat = 1e-8

    def __call__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(parameters, lr, betas, self.eps, weight_decay=weight_decay, fused=True)


@checked
class TorchOptimizer:
    """An optimiser of `torch.optim` by its `name`, such as RMSprop, with further `arguments`."""

    name: str
    arguments: Arguments = field(default_factory=dict)

    def __call__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        known = {name: kind for name, kind in vars(torch.optim).items() if _is_optimizer(kind)}
        kind = known.get(self.name)
        if kind is None:
            raise ConfigError(
                f"training.optimizer.name={self.name}: no such optimiser of torch.optim; allowed: "
                f"{', '.join(sorted(known))}{nearest(self.name, known)}"
            )
        taken = list(inspect.signature(kind).parameters)[1:]
        given = {"lr": lr, "weight_decay": weight_decay}
        for name in self.arguments:
            if name not in taken or name in given:
                allowed = [one for one in taken if one not in given]
                raise ConfigError(
                    f"training.optimizer.arguments={self.arguments}: {self.name} takes no {name} there; allowed: "
                    f"{', '.join(allowed)}"
                )
        if "weight_decay" not in taken:
            given.pop("weight_decay")
            if weight_decay:
                raise ConfigError(f"training.weight_decay={weight_decay}: {self.name} has none; allowed: 0")
        try:
            made: torch.optim.Optimizer = kind(parameters, **given, **self.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"training.optimizer={self.name}: {error}") from error
        return made


def _is_optimizer(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
