"""The interface of a measure, and helpers that several measures share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rebuttal.config import Offers
from rebuttal.training.evaluation import EVALUATION_BATCH, predict

# Bytes of a network's intermediate tensors for a batch on the CPU: above, each is in new pages of memory, which take
# as long as the convolutions.
BATCH_BYTES = 128 * 2**20
LEAST_BATCH = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """A function under study: from inputs (n, *shape) in input space to logits (n, K).

    `network`: None if the function has no layers to inspect. `differentiable`: False for step functions, whose
    derivative, 0 wherever it exists, says nothing about smoothness. `classes`: K. `kept`: what several measures need,
    kept by the first that computes it.
    """

    function: Callable[[Tensor], Tensor]
    network: nn.Module | None
    differentiable: bool
    classes: int
    kept: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gave when it was first asked for."""
        if key not in self.kept:
            self.kept[key] = compute()
        found: T = self.kept[key]
        return found

    def once_at(self, inputs: Tensor, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` gave when it was first asked for at this tensor of inputs."""
        # The inputs are kept too: the identity of a tensor that is gone may become another's.
        return self.once((name, id(inputs)), lambda: (inputs, compute()))[1]


@dataclass(frozen=True)
class Probes:
    """The points at which a subject is evaluated, and the resources for it.

    `inputs`: points of each kind, float32 (n, *shape). `labels`: (n,), the labels that the network, or the teacher of a
    student, was given for the inputs of kind `train`, which need not be the true ones. `memory`: bytes that a measure
    may use at a time. `rng`: for the random draws of the measure itself.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    memory: int
    rng: np.random.Generator

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(next(iter(self.inputs.values())).shape[1:])


@dataclass(frozen=True)
class Findings:
    """Named numbers (None: undefined for this function) and, for distributions, arrays of values."""

    numbers: dict[str, float | None] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def __or__(self, other: Findings) -> Findings:
        return Findings(self.numbers | other.numbers, self.arrays | other.arrays)


class Measure(Protocol):
    """A config object that measures a function: a frozen dataclass with the measure's parameters."""

    def __call__(self, subject: Subject, probes: Probes) -> Findings: ...


MeasureOption = Annotated[Measure, Offers("__call__", 2, "a measure, such as those of rebuttal.measures")]


def distribution(name: str, values: Tensor, scale: float | None = None) -> Findings:
    """Return the mean of per-probe `values` (n,), its 95 % t-interval over probes if n ≥ 2, and the values themselves.

    `scale`: also return the mean divided by it, None if it is 0."""
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
    """Return √(mean over inputs of ‖f(x) − f̄‖²) of logits (n, K): the scale of f's outputs, whatever their offset.

    Dividing a measure by it makes the measure invariant to a rescaling of f."""
    logits = logits.double()
    return (logits - logits.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()


def spread_at(subject: Subject, inputs: Tensor) -> float:
    """Return the `spread` of the subject's logits at `inputs`."""
    return spread(logits_at(subject, inputs))


def logits_at(subject: Subject, inputs: Tensor) -> Tensor:
    """Return the subject's logits (n, K) at probes, evaluated once for all measures."""
    return subject.once_at(inputs, "logits", lambda: evaluate(subject, inputs))


def evaluate(subject: Subject, inputs: Tensor) -> Tensor:
    """Return the subject's logits (n, K) at `inputs`, in batches that suit the processor."""
    return predict(subject.function, inputs, batch_size(subject, inputs))


def batch_size(subject: Subject, inputs: Tensor) -> int:
    """Return how many of the inputs a network takes at a time."""
    if inputs.device.type != "cpu" or not isinstance(subject.function, nn.Module) or not subject.differentiable:
        return EVALUATION_BATCH
    return min(EVALUATION_BATCH, max(LEAST_BATCH, BATCH_BYTES // max(1, saved_bytes(subject, inputs))))


def chunks(subject: Subject, inputs: Tensor, memory: int, copies: int = 1) -> Iterator[Tensor]:
    """Split `inputs` into chunks whose backward pass needs about `memory` bytes, or fewer if that is faster.

    Counted for each input: the tensors that autograd saves, and `copies` × K gradients."""
    bytes_per_input = saved_bytes(subject, inputs) + copies * subject.classes * inputs[0].numel() * 8
    fitting = max(1, memory // (2 * bytes_per_input))
    return iter(inputs.split(min(fitting, batch_size(subject, inputs))))


def saved_bytes(subject: Subject, inputs: Tensor) -> int:
    """Return the bytes of the tensors that autograd saves for one of the inputs, less what the function holds."""
    return subject.once(("saved", inputs.shape[1:], inputs.dtype), lambda: _saved_bytes(subject, inputs[:1].clone()))


def _saved_bytes(subject: Subject, one: Tensor) -> int:
    saved = 0
    function = subject.function
    held = (*function.parameters(), *function.buffers()) if isinstance(function, nn.Module) else ()
    weights = {tensor.data_ptr() for tensor in held}

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes if tensor.data_ptr() not in weights else 0
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        subject.function(one.requires_grad_())
    return saved
