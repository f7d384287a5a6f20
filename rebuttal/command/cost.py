"""The cost of training a network: parameters, arithmetic, memory, disk and, from a few timed steps, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from typing import Any
from weakref import WeakSet, finalize

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rebuttal.device import configured
from rebuttal.seeds import generator
from rebuttal.stages.networks import empty_network, new_network, parameter_count, rehearse, weight_bytes
from rebuttal.stages.stage import Work
from rebuttal.training.evaluation import EVALUATION_BATCH, predict
from rebuttal.training.layout import channels_last, layout_of_evaluation, takes_channels_last
from rebuttal.training.loop import Support, train
from rebuttal.training.recipe import Recipe
from rebuttal.training.schedules import Constant
from rebuttal.training.step import autocast

TIMED_SECONDS = 1.0
TIMED_BATCHES = 4  # distinct batches used for timing
MAX_TIMING_EPOCHS = 25  # upper bound on passes over them


@dataclass(frozen=True)
class Cost:
    """The cost of one training with all of its epochs. `flops`: multiplications and additions of matrix products and
    convolutions; `memory`: peak bytes of data, weights, gradients, optimiser and activations; `disk`: bytes of the
    weights; `seconds`: on the device that timed it."""

    parameters: int
    flops: float
    memory: int
    disk: int
    seconds: float


def cost(work: Work, device: torch.device, threads: int | None = None) -> Cost:
    """Estimate the cost of `work` on `device`, where a few of its steps are timed with so many CPU threads (None: as
    many as torch has). Raises `ConfigError` for a network or a recipe that cannot work."""
    network = empty_network(work.model, work.preprocess, work.source)
    inputs = work.source.examples("test", 0).inputs
    tried = _repeated(inputs, work.rehearsed).to(device)
    states = rehearse(work.model, work.preprocess, work.recipe, work.source, tried)
    batch = ceil(work.examples / work.recipe.steps_per_epoch(work.examples))  # the largest: they are of even sizes
    evaluated = min(work.evaluated, EVALUATION_BATCH)
    forward = _flops(lambda: network(_like(inputs, batch))) / batch
    both = _flops(lambda: _loss(network, _like(inputs, batch)).backward()) / batch
    weights = weight_bytes(network)
    data = work.evaluated * inputs[0].nbytes  # the training inputs are among them
    return Cost(
        parameters=parameter_count(network),
        flops=work.recipe.epochs * work.examples * both + work.evaluations * work.evaluated * forward,
        memory=data + weights + states + _peak_bytes_of(work, network, inputs, batch, evaluated, device),
        disk=weights,
        seconds=_seconds(work, inputs, batch, evaluated, device, threads),
    )


def _like(inputs: Tensor, count: int) -> Tensor:
    return torch.empty((count, *inputs.shape[1:]), dtype=inputs.dtype, device="meta")


def _loss(network: nn.Module, inputs: Tensor) -> Tensor:
    return F.cross_entropy(network(inputs), torch.zeros(len(inputs), dtype=torch.long, device=inputs.device))


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _peak_bytes_of(
    work: Work, empty: nn.Module, inputs: Tensor, batch: int, evaluated: int, device: torch.device
) -> int:
    """Peak bytes of the gradients and intermediate tensors of a training step followed by an evaluation. In bfloat16
    they are counted at work: autocast passes over tensors on the meta device."""
    precision = work.recipe.precision
    if precision != "bfloat16":
        return _peak_bytes(empty, _like(inputs, batch), _like(inputs, evaluated), precision)
    network = new_network(work.model, work.preprocess, work.source, 0, "cost").to(device)
    trained, judged = _repeated(inputs, batch).to(device), _repeated(inputs, evaluated).to(device)
    with channels_last(network, when=takes_channels_last(network, trained[:2])):
        return _peak_bytes(network, trained, judged, precision)


def _peak_bytes(network: nn.Module, trained: Tensor, judged: Tensor, precision: str) -> int:
    def step() -> None:
        given = trained.clone()  # a batch is a copy; what is judged is a view of the data, which are counted elsewhere
        with autocast(given.device, precision):
            loss = _loss(network.train(), given)
        loss.backward()

    network.zero_grad()
    with _LiveBytes() as living:
        step()
        network.eval()
        with torch.no_grad():
            network(judged)
    return int(living.peak)


class _LiveBytes(TorchDispatchMode):
    """Count the bytes of the live tensors that were created within the block; tensors on the meta device take no
    memory but count all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: WeakSet[torch.UntypedStorage] = WeakSet()

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._known.update(_storages((args, kwargs)))  # tensors created elsewhere do not count
        made = operation(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage not in self._known:
                self._known.add(storage)
                self._now += storage.nbytes()
                finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self._now)
        return made

    def _free(self, size: int) -> None:
        self._now -= size


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _seconds(
    work: Work, inputs: Tensor, batch: int, evaluated: int, device: torch.device, threads: int | None
) -> float:
    with configured(device.type, threads):  # as a run computes
        return _seconds_of_training(work, inputs, batch, evaluated, device)


def _seconds_of_training(work: Work, inputs: Tensor, batch: int, evaluated: int, device: torch.device) -> float:
    steps_per_epoch = work.recipe.steps_per_epoch(work.examples)
    network = new_network(work.model, work.preprocess, work.source, 0, "cost").to(device)
    evaluation = _seconds_of_evaluation(network.eval(), _repeated(inputs, evaluated).to(device)) / evaluated
    step = _seconds_of_step(network, _repeated(inputs, TIMED_BATCHES * batch).to(device), batch, work.recipe)
    return work.recipe.epochs * steps_per_epoch * step + work.evaluations * work.evaluated * evaluation


def _repeated(inputs: Tensor, count: int) -> Tensor:
    return inputs[torch.arange(count) % len(inputs)]


def _seconds_of_evaluation(network: nn.Module, inputs: Tensor) -> float:
    times: list[float] = []
    with layout_of_evaluation(network, takes_channels_last(network, inputs[:2])):
        while len(times) < 3 or sum(times) < TIMED_SECONDS / 10:
            began = time.perf_counter()
            predict(network, inputs).argmax(dim=1).cpu()
            times.append(time.perf_counter() - began)
    return median(times)


def _seconds_of_step(network: nn.Module, inputs: Tensor, batch: int, recipe: Recipe) -> float:
    """Time a step of the training loop itself, at a learning rate that changes nothing."""
    targets = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
    frozen = replace(recipe, lr=1e-9, batch_size=batch, schedule=Constant(), warmup_epochs=0.0, stop_accuracy=None)
    frozen = replace(frozen, stop_loss=None)
    times: list[float] = []

    def tick(step: int, steps: int) -> None:
        if inputs.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    def steps(epochs: int) -> np.ndarray:
        times.clear()
        order, support = generator(0, "cost"), Support(progress=tick)
        train(
            network,
            inputs,
            targets,
            recipe.loss,
            replace(frozen, epochs=epochs),
            order,
            None,
            "cost",
            support,
        )
        return np.diff(times)

    first = steps(epochs=1)
    again = min(MAX_TIMING_EPOCHS, int(TIMED_SECONDS / (first.min() * TIMED_BATCHES)))
    return float(np.median(steps(again) if again > 0 else first))
