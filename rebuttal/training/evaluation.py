"""Evaluation of a network on many inputs, and what is evaluated while one trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from rebuttal.errors import out_of_memory

EVALUATION_BATCH = 2048
SPARE = 128  # how many inputs, beyond those that decide, tell that a training accuracy is not reached
SURE = 1e-3  # of the largest logit: by how much a wrong class must lead to be wrong in a batch of any size

Schedule = Literal["every", "log", "last"]
HELD_BACK = "held_back_loss"


@torch.inference_mode()
def predict(network: Callable[[Tensor], Tensor], inputs: Tensor, size: int = EVALUATION_BATCH) -> Tensor:
    """Return logits (n, K), of at least single precision, for inputs (n, *shape).

    The batch size is halved until a batch fits into memory."""
    while True:
        try:
            logits = torch.cat([network(batch) for batch in inputs.split(size)])
            return logits.to(torch.promote_types(logits.dtype, torch.float32))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2


def accuracy(logits: Tensor, classes: Tensor) -> float:
    """Return the share of inputs whose largest logit is that of their class."""
    right = int((logits.argmax(dim=1) == classes).sum())
    # On a GPU the mean of 49 ones is below 1, and a network that fits would not count as one.
    return right / len(classes)


def is_due(epoch: int, schedule: Schedule) -> bool:
    """Whether accuracies are evaluated at the end of epoch 1, 2, …: `log` at 1, 2, 3, 4, 6, 8, 12, 16, …"""
    if schedule == "log":
        return epoch & (epoch - 1) == 0 or (epoch % 3 == 0 and (epoch // 3) & (epoch // 3 - 1) == 0)
    return schedule == "every"


def evaluated_epochs(epochs: int, schedule: Schedule) -> int:
    """At how many of `epochs` epochs accuracies are evaluated: those that are due, and the last."""
    before = epochs - 1
    if schedule == "log":  # powers of two, and three times powers of two
        return before.bit_length() + (before // 3).bit_length() + 1
    return epochs if schedule == "every" else 1


@dataclass
class HeldBack:
    """Inputs (n, *shape) that a training does not see. At the epochs 1, 2, 3, 4, 6, 8, 12, 16, … and at the last one
    its loss on them is taken, less the `floor` that no network gets below, and the weights with the lowest loss are
    kept. Cross-entropy with probabilities has their entropy as its floor, beside which what is learnt is little, and
    lost in single precision: where the targets are no classes, the loss is taken in double precision.

    These epochs decide the result, so that no setting moves them."""

    inputs: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    floor: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # the network's state with the lowest loss so far

    def after(
        self, network: nn.Module, epoch: int, last: bool, history: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        """Return the `held_back_loss` of the network, in evaluation mode, after an epoch where it is taken."""
        if not (last or is_due(epoch, "log")):
            return {}
        logits = predict(network, self.inputs)
        exact = logits.double() if self.targets.is_floating_point() else logits
        value = self.loss(exact, self.targets).item() - self.floor
        if not math.isfinite(value):  # the training will say so
            return {}
        if value < min((row[HELD_BACK] for row in history if HELD_BACK in row), default=math.inf):
            self.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        return {HELD_BACK: value}


@dataclass
class Evaluation:
    """Evaluates a network that trains on `inputs` (n, *shape), whose right `classes` are (n,), and on held-out inputs
    and their classes by the name of the accuracy.

    At the epochs of the `schedule` and at the last one all accuracies are taken. At every other epoch it is found out,
    exactly but mostly from a few inputs, whether a training accuracy is reached; if it is, all are taken there too.
    `held_back`: further inputs, by which the best weights are chosen.
    """

    inputs: Tensor
    classes: Tensor
    held_out: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    schedule: Schedule = "every"
    held_back: HeldBack | None = None
    logits: dict[str, Tensor] = field(default_factory=dict)  # as last evaluated, by the name of the accuracy

    def __post_init__(self) -> None:
        self._wrong = torch.empty(0, dtype=torch.long, device=self.classes.device)

    def right(self, logits: Tensor, batch: Tensor) -> Tensor:
        """Return how many of the inputs with the indices `batch` these logits classify rightly."""
        return (logits.argmax(dim=1) == self.classes.index_select(0, batch)).sum()

    def after(self, network: nn.Module, epoch: int, last: bool, goal: float | None) -> dict[str, float]:
        """Return the accuracies of the network, in evaluation mode, after an epoch; none if they are not due and the
        training accuracy is below the `goal` (None: it is not asked)."""
        if last or is_due(epoch, self.schedule):
            return self._accuracies(network)
        if goal is None or self._is_surely_below(network, goal):
            return {}
        logits = predict(network, self.inputs)
        if accuracy(logits, self.classes) < goal:
            self._remember(logits, goal)
            return {}
        return self._accuracies(network, logits)

    def _accuracies(self, network: nn.Module, logits: Tensor | None = None) -> dict[str, float]:
        self.logits = {"train_accuracy": predict(network, self.inputs) if logits is None else logits}
        found = {"train_accuracy": accuracy(self.logits["train_accuracy"], self.classes)}
        for name, (inputs, classes) in self.held_out.items():
            self.logits[name] = predict(network, inputs)
            found[name] = accuracy(self.logits[name], classes)
        return found

    def _is_surely_below(self, network: nn.Module, goal: float) -> bool:
        """From the inputs that were wrong when many were evaluated last, or at first from a part of all."""
        few = self._wrong if len(self._wrong) else self._part()
        if len(few) == 0:
            return False
        logits, classes = predict(network, self.inputs.index_select(0, few)), self.classes.index_select(0, few)
        wrong = int((_lead(logits, classes) > SURE * logits.abs().amax()).sum())
        if wrong <= allowed_errors(len(self.inputs), goal):
            return False
        if len(self._wrong) == 0:
            self._wrong = few.index_select(0, self._most_wrong(logits, classes, goal))
        return True

    def _part(self) -> Tensor:
        """Indices of inputs from all over; none where that would spare little."""
        stride = len(self.inputs) // EVALUATION_BATCH
        return torch.arange(0, len(self.inputs), stride, device=self.classes.device) if stride > 1 else self._wrong

    def _remember(self, logits: Tensor, goal: float) -> None:
        self._wrong = self._most_wrong(logits, self.classes, goal)

    def _most_wrong(self, logits: Tensor, classes: Tensor, goal: float) -> Tensor:
        """The positions of those that are the most wrong."""
        lead = _lead(logits, classes)
        count = min(2 * allowed_errors(len(self.inputs), goal) + SPARE, int((lead > 0).sum()))
        return lead.topk(count).indices


def _lead(logits: Tensor, classes: Tensor) -> Tensor:
    """By how much the best other class leads over the right one, (n,); below 0 if the right one leads."""
    right = logits.gather(1, classes[:, None]).squeeze(1)
    return logits.scatter(1, classes[:, None], -math.inf).amax(dim=1) - right


def allowed_errors(n: int, goal: float) -> int:
    """Return how many of n may be wrong if the share that is right reaches the goal."""
    about = max(0, math.floor(n * (1 - goal)) - 1)
    return next(errors - 1 for errors in _from(about) if errors > n or (n - errors) / n < goal)


def _from(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


def time_to_fit(history: list[dict[str, float]]) -> dict[str, float | None]:
    """Return the epochs and optimiser steps until training accuracy, evaluated at the end of each epoch, first
    reached 100 %; None (censored) if training ended before."""
    fitted = next((row for row in history if is_fitted(row)), None)
    return {
        "epochs_to_fit": fitted["epoch"] if fitted else None,
        "steps_to_fit": fitted["step"] if fitted else None,
    }


def is_fitted(row: dict[str, float]) -> bool:
    """Whether the training accuracy of an epoch was 100 %; a row has it at least where it was so first."""
    return row.get("train_accuracy") == 1.0
