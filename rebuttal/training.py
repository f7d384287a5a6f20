"""The training recipe and the one training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rebuttal.checkpoint import Checkpoint, State, warnings_put_off
from rebuttal.config import LIMIT, checked
from rebuttal.errors import TrainingError, out_of_memory
from rebuttal.models.preprocess import Normalisation
from rebuttal.progress import track

log = logging.getLogger(__name__)

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
    warmup_epochs: Annotated[float, Field(ge=0, lt=LIMIT)]  # as epochs
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


@dataclass(frozen=True)
class Support:
    """What goes on beside a training without deciding its result.

    `progress` is told (step, of how many) after each step, `watch` each epoch's row. `in_pieces`: a batch
    that memory cannot hold goes through the network in pieces, whose gradients add up to the batch's.
    """

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: Callable[[int, int], None] = lambda step, steps: None
    watch: Callable[[dict[str, float]], None] = lambda row: None
    in_pieces: bool = False


def train(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    recipe: Recipe,
    order: np.random.Generator,
    evaluate: Callable[[nn.Module], dict[str, float]],
    name: str,
    support: Support | None = None,
) -> list[dict[str, float]]:
    """Train `network` in place on `inputs` (n, *shape) and `targets` (n, …); returns a row an epoch.

    `order` shuffles the examples each epoch. `evaluate` is called on the network at the end of each epoch,
    in evaluation mode; its numbers, among them `train_accuracy`, join the row. Nothing is read back from
    the device before the end of an epoch. `name` says in messages whose training it is. Where the support's
    checkpoint holds a state of this training, it goes on from there: on the CPU, to the same weights bit for bit.
    Raises `TrainingError` when the loss, or at the end an output, is no longer finite, or a batch needs more memory
    than there is.
    """
    support = support or Support()
    checkpoint = support.checkpoint
    steps_per_epoch = math.ceil(len(inputs) / recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    training = _Training(network, recipe, order, steps_per_epoch, inputs.device)
    if state := checkpoint.load():
        training.restore(state)
        log.info("%s: goes on from step %d of %d", name, training.step, steps)
        for row in training.history:
            support.watch(row)
    pieces = _Pieces(network, loss, recipe, name, support.in_pieces)
    for epoch in track(range(1, recipe.epochs + 1), name):
        if epoch <= len(training.history):
            continue
        if training.history and _reached(training.history[-1], recipe):
            break
        network.train()
        with warnings_put_off() as warned:
            for batch in training.rest_of_epoch(len(inputs)):
                training.descend(pieces.backward(inputs.index_select(0, batch), targets.index_select(0, batch)))
                support.progress(training.step, steps)
                if warned or checkpoint.due():
                    checkpoint.save(training.state())
                if warned:
                    warned.deliver()
            _check_finite(training.losses, epoch, recipe, name)
            network.eval()
            training.end_epoch(evaluate(network))
            if warned:
                checkpoint.save(training.state())
        support.watch(training.history[-1])
    network.eval()
    if not predict(network, inputs[:EVALUATION_BATCH]).isfinite().all():  # of the last step no loss tells
        raise TrainingError(f"{name}: after the last step the network's outputs are not finite; {_calmer(recipe)}")
    return training.history


class _Training:
    """Everything that changes while a network is trained, so that it can be kept and taken up again."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        order: np.random.Generator,
        steps_per_epoch: int,
        device: torch.device,
    ):
        self.network = network
        self.recipe = recipe
        self.order = order
        self.steps_per_epoch = steps_per_epoch
        self.optimizer = recipe.make_optimizer(network)
        self.losses = torch.empty(steps_per_epoch, device=device)  # of this epoch's steps
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._order_of_epoch = order.bit_generator.state  # before the current one was shuffled

    def rest_of_epoch(self, n: int) -> Iterator[Tensor]:
        """The batches of the current epoch that are still to come. The learning rate is set for each."""
        done = self.step - len(self.history) * self.steps_per_epoch
        for batch in list(batches(n, self.steps_per_epoch, self.order, self.losses.device))[done:]:
            self.optimizer.param_groups[0]["lr"] = self.recipe.learning_rate(self.step, self.steps_per_epoch)
            self.optimizer.zero_grad(set_to_none=True)
            yield batch

    def descend(self, loss: Tensor) -> None:
        """One step along the gradients, which are there; `loss` is that of the batch."""
        self.optimizer.step()
        self.losses[self.step % self.steps_per_epoch] = loss
        self.step += 1

    def end_epoch(self, found: dict[str, float]) -> None:
        row = {"epoch": len(self.history) + 1, "step": self.step}
        row["lr"] = self.recipe.learning_rate(self.step - 1, self.steps_per_epoch)
        row["loss"] = self.losses.mean().item()
        self.history.append(row | found)
        self._order_of_epoch = self.order.bit_generator.state  # before the next one is shuffled

    def state(self) -> State:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in values.items() if tensor is not None}
        tensors |= {"losses": self.losses, "random": torch.get_rng_state()}
        if self.losses.is_cuda:
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.losses.device)
        facts = {"step": self.step, "history": self.history, "order": self._order_of_epoch}
        return State(facts, tensors)

    def restore(self, state: State) -> None:
        tensors = state.tensors
        self.network.load_state_dict(_below("network", tensors))
        values: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer", tensors).items():
            i, _, key = name.partition(".")
            values.setdefault(int(i), {})[key] = tensor
        self.optimizer.load_state_dict({"state": values, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.losses.copy_(tensors["losses"])
        torch.set_rng_state(tensors["random"])
        if self.losses.is_cuda and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.losses.device)
        self.step, self.history = state.facts["step"], state.facts["history"]
        self.order.bit_generator.state = self._order_of_epoch = state.facts["order"]


def _below(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


class _Pieces:
    """Takes batches through the network, whole or in as many pieces as memory asks for."""

    def __init__(self, network: nn.Module, loss: Loss, recipe: Recipe, name: str, allowed: bool):
        self.network = network
        self.loss = loss
        self.recipe = recipe
        self.name = name
        self.count = 1
        # Batch-norm's statistics are those of what goes through at a time: pieces would change the result.
        self.separable = not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
        self.allowed = allowed

    def backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Leaves the gradients of the batch's mean loss, and gives that loss."""
        while True:
            try:
                return self._backward(inputs, targets)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if not (self.allowed and self.separable and self.count < len(inputs)):
                    raise TrainingError(self._advice()) from error
            self.network.zero_grad(set_to_none=True)
            self.count *= 2
            log.warning("%s: out of memory; batches go through in %d pieces from now on", self.name, self.count)

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        parts = []
        for x, y in zip(inputs.tensor_split(self.count), targets.tensor_split(self.count)):
            with _autocast(inputs.device, self.recipe.precision):
                value = self.loss(self.network(x), y)
            value = value if self.count == 1 else value * (len(x) / len(inputs))
            value.backward()
            parts.append(value.detach())
        return parts[0] if self.count == 1 else torch.stack(parts).sum()

    def _advice(self) -> str:
        said = f"{self.name}: out of memory; training.batch_size={self.recipe.batch_size}: try a smaller one"
        if not self.separable:
            return f"{said} (batch_size=auto cannot help: batch-norm needs the whole batch at once)"
        return said if self.allowed else f"{said}, or batch_size=auto, which gives the same results in smaller pieces"


def batches(n: int, count: int, order: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    """The indices 0 … n−1, shuffled, in `count` batches whose sizes differ by at most one: no tiny last
    batch for batch-norm to stumble over."""
    shuffled = torch.from_numpy(order.permutation(n)).to(device)
    return iter(shuffled.tensor_split(count))


@torch.inference_mode()
def predict(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Logits (n, K), of at least single precision, of inputs (n, *shape), in batches as large as memory allows."""
    size = EVALUATION_BATCH
    while True:
        try:
            logits = torch.cat([network(batch) for batch in inputs.split(size)])
            return logits.to(torch.promote_types(logits.dtype, torch.float32))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2


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
            f"{_calmer(recipe)}"
        )


def _calmer(recipe: Recipe) -> str:
    return (
        f"try a smaller training.lr (now {recipe.lr}), training.warmup_epochs above {recipe.warmup_epochs}, "
        "or training.precision=float32"
    )


def _reached(row: dict[str, float], recipe: Recipe) -> bool:
    accurate = recipe.stop_accuracy is not None and row["train_accuracy"] >= recipe.stop_accuracy
    low = recipe.stop_loss is not None and row["loss"] <= recipe.stop_loss
    return accurate or low
