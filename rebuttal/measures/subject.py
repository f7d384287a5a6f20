"""What a measure is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from rebuttal.training import predict


@dataclass(frozen=True)
class Subject:
    """A function under study: from inputs (n, *shape) in input space to logits (n, K).

    `network` is null where the function has no layers to look into. `differentiable` is false for step
    functions, whose derivative, 0 wherever it exists, would say nothing about their smoothness.
    """

    function: Callable[[Tensor], Tensor]
    network: nn.Module | None
    differentiable: bool
    classes: int


@dataclass(frozen=True)
class Surroundings:
    """Where a subject is looked at: `probes` by kind, float32 (n, *shape) each; the true training labels'
    counterpart `labels` (n,) of the training probes, as the network was given them; `memory`, bytes that a
    measure may use at a time; `rng`, for what a measure draws itself."""

    probes: dict[str, Tensor]
    labels: Tensor
    memory: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Findings:
    """Named numbers (null: undefined for this function) and, for distributions, arrays of values."""

    numbers: dict[str, float | None] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def __or__(self, other: Findings) -> Findings:
        return Findings(self.numbers | other.numbers, self.arrays | other.arrays)

    def prefixed(self, name: str) -> Findings:
        return Findings(
            {f"{name}_{key}": value for key, value in self.numbers.items()},
            {f"{name}_{key}": value for key, value in self.arrays.items()},
        )


def distribution(name: str, values: Tensor, scale: float | None = None) -> Findings:
    """The mean of per-probe `values` (n,), with its 95 % t-interval over probes where n ≥ 2, and the values
    themselves; with `scale`, the mean also divided by it."""
    values = values.double().cpu()
    mean = values.mean().item()
    numbers: dict[str, float | None] = {name: mean}
    if len(values) > 1:
        from scipy.stats import t

        half = t.ppf(0.975, len(values) - 1) * values.std().item() / len(values) ** 0.5
        numbers |= {f"{name}_low": mean - half, f"{name}_high": mean + half}
    if scale is not None:
        numbers[f"{name}_scaled"] = mean / scale if scale > 0 else None
    return Findings(numbers, {name: values})


def spread(logits: Tensor) -> float:
    """√(mean over inputs of ‖f(x) − f̄‖²): the size of what f says, whatever its offset; dividing by it
    makes a measure blind to a rescaling of f."""
    logits = logits.double()
    return (logits - logits.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()


def spread_at(subject: Subject, inputs: Tensor) -> float:
    return spread(predict(subject.function, inputs))


def chunks(subject: Subject, inputs: Tensor, memory: int, copies: int = 1) -> Iterator[Tensor]:
    """`inputs` in chunks whose backward pass needs about `memory` bytes: what autograd saves for one input,
    and `copies` × K gradients of it."""
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.element_size() * tensor.nelement()
        return tensor

    one = inputs[:1].clone().requires_grad_()
    parameters = 0 if subject.network is None else sum(p.numel() for p in subject.network.parameters()) * 4
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        subject.function(one)
    each = max(saved - parameters, 0) + copies * subject.classes * one.numel() * 8
    return iter(inputs.split(max(1, memory // (2 * each))))
