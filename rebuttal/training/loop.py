"""The training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rebuttal.errors import TrainingError
from rebuttal.progress.console import track
from rebuttal.seeds import derive
from rebuttal.signals import DeferredSignals, signals_deferred
from rebuttal.store.checkpoints import Checkpoint, State
from rebuttal.training.augmentations import augmented
from rebuttal.training.evaluation import Evaluation, is_fitted, predict
from rebuttal.training.layout import layout_of_evaluation, layout_of_steps, takes_channels_last
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import BatchGradients, Loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Support:
    """What accompanies a training without affecting its result.

    `progress` is called with (steps done, at most) after each step, `watch` with the row of each epoch, `snapshot` with
    the steps done and the network, before the first step and after each. `in_pieces`: a batch that does not fit into
    memory is processed in pieces, whose gradients add up to the batch's. `keeps_end`: the checkpoint is written at the
    end too, as the result is not stored at once.
    """

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    progress: Callable[[int, int], None] = lambda step, steps: None
    watch: Callable[[dict[str, float]], None] = lambda row: None
    in_pieces: bool = False
    keeps_end: bool = False
    snapshot: Callable[[int, nn.Module], None] = lambda step, network: None

    def after_step(self, step: int, steps: int, network: nn.Module) -> None:
        """Call what is called after each step."""
        self.progress(step, steps)
        self.snapshot(step, network)


def train(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    recipe: Recipe,
    order: np.random.Generator,
    evaluation: Evaluation | None,
    name: str,
    support: Support | None = None,
    augmentation_seed: int = 0,
) -> list[dict[str, float]]:
    """Train `network` in place on `inputs` (n, *shape) and `targets` (n, …); return one row per epoch.

    `order` shuffles the examples each epoch. A row has the mean `loss` of the epoch's steps and, with an `evaluation`,
    their `running_accuracy` and the accuracies that are due: `train_accuracy` also in the first epoch in which it is
    100 %, and in the last one. Nothing is read back from the device before the end of an epoch. `augmentation_seed`: of
    what the recipe's augmentation draws. `name` identifies the training in messages. If the support's checkpoint holds
    its state, it is resumed, on the CPU to the same bits.
    Raises `TrainingError` if the loss, or at the end an output, is not finite, or a batch does not fit into memory.
    """
    support = support or Support()
    checkpoint = support.checkpoint
    steps_per_epoch = recipe.steps_per_epoch(len(inputs))
    steps = recipe.most_steps(len(inputs))
    training = _Training(network, recipe, order, steps_per_epoch, inputs, evaluation)
    _resume(training, checkpoint, f"{name}: resuming from step %d of {steps}")
    for row in training.history:
        support.watch(row)
    support.snapshot(training.step, network)

    gradients = BatchGradients(network, loss, recipe, name, support.in_pieces)
    chosen = partial(_augmented, training, inputs, augmentation_seed)
    for epoch in track(range(1, recipe.epochs + 1), name):
        if epoch <= len(training.history):
            continue
        if training.history and reached(training.history[-1], recipe):
            break
        _start_epoch(network, epoch)
        with signals_deferred() as deferred:
            with layout_of_steps(network, training.optimizer, recipe.precision, training.takes_layout):
                for batch in training.rest_of_epoch(len(inputs)):
                    mean, logits = gradients.backward(chosen(batch), targets.index_select(0, batch))
                    training.descend(mean, None if evaluation is None else evaluation.right(logits, batch))
                    support.after_step(training.step, steps, network)
                    save_if_due(checkpoint, training.state, deferred)
            check_finite(training.losses, epoch, recipe, name)
            network.eval()
            training.end_epoch()
            if deferred:
                checkpoint.save(training.state())
        support.watch(training.history[-1])
    _end(training, inputs, name, support)
    return training.history


def _end(training: _Training, inputs: Tensor, name: str, support: Support) -> None:
    training.network.eval()
    check_last_step(training.network, inputs, training.recipe, name, training.evaluation)
    if support.keeps_end:
        support.checkpoint.save(training.state())


def _resume(training: _Training, checkpoint: Checkpoint, message: str) -> None:
    if state := checkpoint.load():
        training.restore(state)
        log.info(message, training.step)


def save_if_due(checkpoint: Checkpoint, state: Callable[[], State], deferred: DeferredSignals) -> None:
    """After a step: save the state at its interval, and before the process heeds a signal."""
    if deferred or checkpoint.due():
        checkpoint.save(state())
    if deferred:
        deferred.deliver()


def _start_epoch(network: nn.Module, epoch: int) -> None:
    network.train()
    start = getattr(network, "start_epoch", None)
    if callable(start):
        start(epoch)


def _augmented(training: _Training, inputs: Tensor, seed: int, batch: Tensor) -> Tensor:
    """The inputs of the next step, as the recipe's augmentation changes them. Each step has a stream of its own, so
    that a resumed training draws what an uninterrupted one does."""
    chosen = inputs.index_select(0, batch)
    augmentation = training.recipe.augmentation
    if augmentation is None:
        return chosen
    random = torch.Generator().manual_seed(derive(seed, "step", str(training.step)))
    return augmented(augmentation, chosen, random, batch, len(training.history) + 1)


class _Training:
    """The complete state of a training, to be saved in a checkpoint and restored from it."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        order: np.random.Generator,
        steps_per_epoch: int,
        inputs: Tensor,
        evaluation: Evaluation | None,
    ):
        self.network = network
        self.evaluation = evaluation
        self.recipe = recipe
        self.order = order
        self.steps_per_epoch = steps_per_epoch
        self.optimizer = recipe.make_optimizer(network)
        self._rates = [group["lr"] / recipe.lr for group in self.optimizer.param_groups]  # of each group, relative
        self.losses = torch.empty(steps_per_epoch, device=inputs.device)  # of the current epoch, by step
        self.right = torch.full_like(self.losses, math.nan)  # how many inputs of each batch are classified rightly
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._shuffle_state = order.bit_generator.state  # before the current epoch was shuffled
        self.takes_layout = takes_channels_last(network, inputs[:2])

    def rest_of_epoch(self, n: int) -> Iterator[Tensor]:
        """Yield the remaining batches of the current epoch as indices of the n examples; before each, set the learning
        rate and clear the gradients."""
        done = self.step - len(self.history) * self.steps_per_epoch
        for batch in list(batches(n, self.steps_per_epoch, self.order, self.losses.device))[done:]:
            for group, rate in zip(self.optimizer.param_groups, self._rates):
                group["lr"] = rate * self.recipe.learning_rate(self.step, self.steps_per_epoch)
            self.optimizer.zero_grad(set_to_none=True)
            yield batch

    def descend(self, loss: Tensor, right: Tensor | None) -> None:
        """Apply one optimiser step with the gradients that the parameters hold. `loss`: of the batch; `right`: how many
        of its inputs are classified rightly, if that is asked."""
        self.optimizer.step()
        self.losses[self.step % self.steps_per_epoch] = loss
        if right is not None:
            self.right[self.step % self.steps_per_epoch] = right
        self.step += 1

    def end_epoch(self) -> None:
        """Append the epoch's row to the history."""
        known = self.history, self.step, self.losses, self.right
        with layout_of_evaluation(self.network, self.takes_layout):
            self.history.append(epoch_row(self.network, self.recipe, self.evaluation, *known))
        self._shuffle_state = self.order.bit_generator.state

    def state(self) -> State:
        facts = {"step": self.step, "history": self.history, "order": self._shuffle_state}
        facts["groups"] = [kept_of_group(group) for group in self.optimizer.param_groups]
        further = optimizer_tensors(self.optimizer) | best_tensors(self.evaluation)
        return training_state(facts, self.network, further, self.losses, self.right)

    def restore(self, state: State) -> None:
        tensors = state.tensors
        for epoch in range(1, len(state.facts["history"]) + 1):
            _start_epoch(self.network, epoch)  # which may have frozen weights; what it did to them is overwritten
        self.network.load_state_dict(_with_prefix("network", tensors))
        restore_optimizer(self.optimizer, tensors)
        for group, kept in zip(self.optimizer.param_groups, state.facts.get("groups", ())):  # not of earlier versions
            group.update(kept)
        restore_best(self.evaluation, tensors)
        self.losses.copy_(tensors["losses"])
        self.right.copy_(tensors.get("right", self.right))  # checkpoints of earlier versions do not have it
        torch.set_rng_state(tensors["random"])
        if self.losses.is_cuda and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.losses.device)
        self.step, self.history = state.facts["step"], state.facts["history"]
        self.order.bit_generator.state = self._shuffle_state = state.facts["order"]


def epoch_row(
    network: nn.Module,
    recipe: Recipe,
    evaluation: Evaluation | None,
    history: list[dict[str, float]],
    step: int,
    losses: Tensor,
    right: Tensor,
) -> dict[str, float]:
    """Return the row of an epoch that ends with step `step`, of a network in evaluation mode: from the loss of each of
    its batches and how many inputs of it were classified rightly."""
    row: dict[str, float] = {"epoch": len(history) + 1, "step": step}
    row["lr"] = recipe.learning_rate(step - 1, len(losses))
    row["loss"] = losses.mean().item()
    if evaluation is not None:
        count = right.sum().item()
        row |= {} if math.isnan(count) else {"running_accuracy": count / len(evaluation.classes)}
        last = row["epoch"] == recipe.epochs or reached(row, recipe)
        row |= evaluation.after(network, int(row["epoch"]), last, _goal(recipe, history))
        if evaluation.held_back is not None:
            last = last or reached(row, recipe)  # also by the accuracy, which is known now
            row |= evaluation.held_back.after(network, int(row["epoch"]), last, history)
    return row


def _goal(recipe: Recipe, history: list[dict[str, float]]) -> float | None:
    """The training accuracy of which it is to be known in which epoch it is reached first."""
    if recipe.stop_accuracy is not None:
        return recipe.stop_accuracy
    return None if any(map(is_fitted, history)) else 1.0


def training_state(
    facts: dict[str, Any], network: nn.Module, further: dict[str, Tensor], losses: Tensor, right: Tensor
) -> State:
    """What a checkpoint of a training holds. `facts`: step, history and order; `further`: of its optimiser, and its
    best weights; `losses`, `right`: of the current epoch, by step."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= further | {"losses": losses, "right": right, "random": torch.get_rng_state()}
    if losses.is_cuda:
        tensors["random.cuda"] = torch.cuda.get_rng_state(losses.device)
    return State(facts, tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer, name: str = "optimizer") -> dict[str, Tensor]:
    """What an optimiser keeps of each parameter, by `<name>.<number>.<key>`."""
    kept = optimizer.state_dict()["state"].items()
    return {f"{name}.{i}.{key}": tensor for i, values in kept for key, tensor in values.items() if tensor is not None}


def kept_of_group(group: dict[str, Any]) -> dict[str, Any]:
    """The numbers that an optimiser keeps of a group of parameters, such as its count of steps: what JSON holds."""
    return {name: value for name, value in group.items() if isinstance(value, (int, float)) and math.isfinite(value)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], name: str = "optimizer") -> None:
    """Restore what `optimizer_tensors` gave."""
    values: dict[int, dict[str, Tensor]] = {}
    for place, tensor in _with_prefix(name, tensors).items():
        i, _, key = place.partition(".")
        values.setdefault(int(i), {})[key] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def best_tensors(evaluation: Evaluation | None, name: str = "best") -> dict[str, Tensor]:
    """The best weights so far, by `<name>.<parameter>`; none if no inputs are held back."""
    held_back = None if evaluation is None else evaluation.held_back
    return {} if held_back is None else {f"{name}.{key}": tensor for key, tensor in held_back.best.items()}


def restore_best(evaluation: Evaluation | None, tensors: dict[str, Tensor], name: str = "best") -> None:
    """Restore what `best_tensors` gave."""
    if evaluation is not None and evaluation.held_back is not None:
        evaluation.held_back.best = _with_prefix(name, tensors)


def _with_prefix(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def batches(n: int, count: int, order: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    """Return the indices 0 … n−1, shuffled, in `count` batches whose sizes differ by at most one.

    A small last batch would give batch-norm poor statistics."""
    shuffled = torch.from_numpy(order.permutation(n)).to(device)
    return iter(shuffled.tensor_split(count))


def check_finite(losses: Tensor, epoch: int, recipe: Recipe, name: str) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise TrainingError(
            f"{name}: the loss became {losses[bad[0, 0]].item()} at step {bad[0, 0].item() + 1} of epoch {epoch}; "
            f"{_advice(recipe)}"
        )


def check_last_step(
    network: nn.Module, inputs: Tensor, recipe: Recipe, name: str, evaluation: Evaluation | None
) -> None:
    """Raise `TrainingError` if the outputs are not finite: after the last step no loss is computed."""
    logits = None if evaluation is None else evaluation.logits.get("train_accuracy")  # nor if it was finished before
    if logits is None:
        logits = predict(network, inputs[: recipe.batch_size])
    if not logits.isfinite().all():
        raise TrainingError(f"{name}: after the last step the network's outputs are not finite; {_advice(recipe)}")


def _advice(recipe: Recipe) -> str:
    return (
        f"try a smaller training.lr (now {recipe.lr}), training.warmup_epochs above {recipe.warmup_epochs}, "
        "or training.precision=float32"
    )


def reached(row: dict[str, float], recipe: Recipe) -> bool:
    accurate = recipe.stop_accuracy is not None and row.get("train_accuracy", 0.0) >= recipe.stop_accuracy
    low = recipe.stop_loss is not None and row["loss"] <= recipe.stop_loss
    return accurate or low
