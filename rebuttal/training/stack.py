"""Many fully connected networks trained as one: each step is one batched product for each layer.

Small networks leave most of a processor idle. Each member keeps its own data, labels, order, initial weights, learning
rate, schedule and end, and comes to what it would come to alone, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from rebuttal.errors import TrainingError
from rebuttal.training.loop import batches, check_finite, check_last_step, reached
from rebuttal.training.losses import CrossEntropy, SquaredError
from rebuttal.training.member import Member
from rebuttal.training.optimizers import SGD, AdamW
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import Loss

LAYERS = (nn.Flatten, nn.Linear, nn.ReLU, nn.Identity)


def stackable(network: nn.Module, recipe: Recipe) -> bool:
    """Whether a network can be a member: linear layers and ReLU after a fixed preprocessing layer, in float32, with an
    optimiser that treats each weight apart."""
    preprocess, body = _parts(network)
    plain = isinstance(body, nn.Sequential) and all(type(layer) in LAYERS for layer in body)
    plain = plain and not list(preprocess.parameters())
    apart = type(recipe.optimizer) in (SGD, AdamW) and recipe.augmentation is None
    return plain and apart and recipe.precision == "float32"


def _parts(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    preprocess, body = network.children()
    return preprocess, body


def alike(member: Member) -> tuple[Any, ...]:
    """What the members of a stack have in common."""
    shapes = tuple(tuple(p.shape) for p in member.network.parameters())
    targets = member.targets
    return (*shapes, len(member.inputs), targets.dtype, tuple(targets.shape[1:]), member.recipe.batch_size)


def train_stacked(members: Sequence[Member]) -> None:
    """Train the members, which are `stackable` and `alike`, from their first step on; each has its history afterwards,
    or the error that ended it."""
    stack = _Stack(list(members))
    while stack.members:
        stack.epoch()
        stack.keep([not stack.ended(member) for member in stack.members])


class _Stack:
    """The members that still train, their weights as one tensor a layer of which each member's are a part."""

    def __init__(self, members: list[Member]):
        self.members = members = sorted(members, key=_rates)  # those with equal rates are moved by one optimiser
        first = members[0]
        self.count = math.ceil(len(first.inputs) / first.recipe.batch_size)  # steps an epoch
        self.step = 0
        with torch.inference_mode():
            prepared = [_parts(member.network)[0].eval()(member.inputs).flatten(1) for member in members]
        self.inputs = torch.stack([values.clone() for values in prepared])
        self.targets = torch.stack([member.targets for member in members])
        self.classes = torch.stack([member.evaluation.classes for member in members])
        self.sizes: list[int] = []  # of the groups with equal rates
        self.weights: list[list[nn.Parameter]] = []  # by group, then by layer: weight, bias, weight, …
        self.optimizers: list[torch.optim.Optimizer] = []
        self._group()

    def _group(self) -> None:
        self.sizes = [len(list(of)) for _, of in groupby(self.members, key=_rates)]
        for group in self._groups():
            stacked = [nn.Parameter(torch.stack(of)) for of in zip(*(_detached(m.network) for m in group))]
            self.weights.append(stacked)
            recipe = group[0].recipe
            self.optimizers.append(recipe.optimizer(stacked, recipe.lr, recipe.weight_decay))
            _share(group, stacked)

    def _groups(self) -> Iterator[list[Member]]:
        begin = 0
        for size in self.sizes:
            yield self.members[begin : begin + size]
            begin += size

    def epoch(self) -> None:
        """Train every member for one epoch, and add its row."""
        for member in self.members:
            member.network.train()
        taken = [list(batches(self.inputs.shape[1], self.count, m.order, self.inputs.device)) for m in self.members]
        rows = torch.arange(len(self.members), device=self.inputs.device)[:, None]
        losses = torch.empty(self.count, len(self.members), device=self.inputs.device)
        right = torch.zeros(len(self.members), device=self.inputs.device)
        for number, batch in enumerate(torch.stack(of) for of in zip(*taken)):
            logits = self._logits(self.inputs[rows, batch])
            losses[number] = self._descend(logits, self.targets[rows, batch])
            right += (logits.argmax(dim=2) == self.classes[rows, batch]).sum(dim=1)
            self.step += 1
            for member in self.members:
                member.support.after_step(self.step, member.recipe.epochs * self.count, member.network)
        for i, member in enumerate(self.members):
            self._end_epoch(member, losses[:, i], right[i].item())

    def _logits(self, values: Tensor) -> Tensor:
        """Return logits (M, n, K) of inputs (M, n, d)."""
        layers = [torch.cat(of) if len(of) > 1 else of[0] for of in zip(*self.weights)]
        for i in range(0, len(layers), 2):
            values = torch.baddbmm(layers[i + 1][:, None], values, layers[i].transpose(1, 2))
            if i + 2 < len(layers):
                values = values.relu()
        return values

    def _descend(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Take a step down each member's loss, (M,), which is returned."""
        losses = _losses([member.loss for member in self.members], logits, targets)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        for optimizer, group in zip(self.optimizers, self._groups()):
            for parameters in optimizer.param_groups:
                parameters["lr"] = group[0].recipe.learning_rate(self.step, self.count)
            optimizer.step()
        return losses.detach()

    def _end_epoch(self, member: Member, losses: Tensor, right: float) -> None:
        row: dict[str, float] = {"epoch": len(member.history) + 1, "step": self.step}
        row["lr"] = member.recipe.learning_rate(self.step - 1, self.count)
        row["loss"] = losses.mean().item()
        row["running_accuracy"] = right / self.inputs.shape[1]
        try:
            check_finite(losses, int(row["epoch"]), member.recipe, member.name)
            member.network.eval()
            last = row["epoch"] == member.recipe.epochs or reached(row, member.recipe)
            row |= member.evaluation.after(member.network, int(row["epoch"]), last, member.goal())
            member.history.append(row)
            member.support.watch(row)
            if self.ended(member):
                check_last_step(member.network, member.inputs, member.recipe, member.name, member.evaluation)
        except TrainingError as error:
            member.failed = error

    def ended(self, member: Member) -> bool:
        if member.failed is not None:
            return True
        return len(member.history) == member.recipe.epochs or reached(member.history[-1], member.recipe)

    def keep(self, kept: list[bool]) -> None:
        """Let the other members go with weights of their own, and close the ranks."""
        if all(kept):
            return
        begin = 0
        for number, group in enumerate(list(self._groups())):
            chosen = torch.tensor([i for i in range(len(group)) if kept[begin + i]], dtype=torch.long)
            begin += len(group)
            for member in group:
                _own(member.network)
            self._choose(number, chosen.to(self.inputs.device))
            _share([group[i] for i in chosen.tolist()], self.weights[number])
            self.sizes[number] = len(chosen)
        left = [number for number, size in enumerate(self.sizes) if size]
        self.weights, self.optimizers = [self.weights[i] for i in left], [self.optimizers[i] for i in left]
        self.sizes = [self.sizes[i] for i in left]
        rows = torch.tensor([i for i, stays in enumerate(kept) if stays], device=self.inputs.device, dtype=torch.long)
        self.inputs, self.targets, self.classes = (of[rows] for of in (self.inputs, self.targets, self.classes))
        self.members = [member for member, stays in zip(self.members, kept) if stays]

    def _choose(self, number: int, chosen: Tensor) -> None:
        """Leave only the chosen members in a group's weights and in what its optimiser keeps of them."""
        for weight in self.weights[number]:
            state = self.optimizers[number].state[weight]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    state[name] = value[chosen]
            weight.data = weight.data[chosen]
            weight.grad = None


def _rates(member: Member) -> str:
    recipe = member.recipe
    return str((recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule, recipe.warmup_epochs, recipe.epochs))


def _losses(losses: Sequence[Loss], logits: Tensor, targets: Tensor) -> Tensor:
    """Return each member's loss, (M,); members with one loss are computed at once."""
    found: list[tuple[list[int], Tensor]] = []
    for loss in _distinct(losses):
        of = [i for i, other in enumerate(losses) if other == loss]
        every = len(of) == len(losses)
        x, y = (logits, targets) if every else (logits[of], targets[of])
        found.append((of, _by_member(loss, x, y)))
    if len(found) == 1:
        return found[0][1]
    places = torch.tensor([i for of, _ in found for i in of], device=logits.device)
    return torch.cat([values for _, values in found])[places.argsort()]


def _by_member(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    if isinstance(loss, (CrossEntropy, SquaredError)):
        return torch.vmap(loss)(logits, targets)
    return torch.stack([loss(x, y) for x, y in zip(logits, targets)])  # torch cannot batch all that it may be made of


def _distinct(losses: Sequence[Loss]) -> list[Callable[[Tensor, Tensor], Tensor]]:
    found: list[Callable[[Tensor, Tensor], Tensor]] = []
    for loss in losses:
        if loss not in found:
            found.append(loss)
    return found


def _detached(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]


def _share(members: Sequence[Member], stacked: Sequence[Tensor]) -> None:
    """Let each member's network have its part of the stack as its weights."""
    for i, member in enumerate(members):
        for parameter, of_all in zip(member.network.parameters(), stacked):
            parameter.data = of_all.data[i]


def _own(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
