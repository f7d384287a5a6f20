"""Many fully connected networks trained as one: each step is one batched product for each layer.

Small networks leave most of a processor idle. Each member keeps its own data, labels, order, initial weights, learning
rate, schedule and end, and comes to what it would come to alone, up to rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from rebuttal.errors import TrainingError
from rebuttal.models.preprocess import FlattenPixels, Preprocess
from rebuttal.progress.console import track
from rebuttal.signals import signals_deferred
from rebuttal.store.checkpoints import Checkpoint, State
from rebuttal.store.identity import describe
from rebuttal.training.loop import (
    batches,
    best_tensors,
    check_finite,
    check_last_step,
    epoch_row,
    optimizer_tensors,
    reached,
    restore_best,
    restore_optimizer,
    save_if_due,
    training_state,
)
from rebuttal.training.losses import CrossEntropy, LogitError, SoftCrossEntropy, SquaredError
from rebuttal.training.member import Member
from rebuttal.training.optimizers import SGD, AdamW
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import Loss

log = logging.getLogger(__name__)

FIXED = (Preprocess, FlattenPixels, nn.Identity)  # layers that give the same in training, at every step
SEPARABLE = (CrossEntropy, SquaredError, SoftCrossEntropy, LogitError)  # losses that are known for each input


def stackable(network: nn.Module, recipe: Recipe) -> bool:
    """Whether a network can be a member: linear layers and ReLU after a fixed preprocessing layer, in float32, with an
    optimiser that treats each weight apart."""
    preprocess, body = _parts(network)
    fixed = type(preprocess) in FIXED and _is_as_usual(preprocess)
    plain = fixed and _is_plain(body)
    apart = type(recipe.optimizer) in (SGD, AdamW) and recipe.augmentation is None
    return plain and apart and recipe.precision == "float32" and recipe.compile is None


def _is_plain(body: nn.Module) -> bool:
    """Whether a network flattens its inputs and has linear layers, ReLU between two of them, and nothing else."""
    layers = [layer for layer in body if type(layer) is not nn.Identity] if type(body) is nn.Sequential else []
    if not layers or type(layers[0]) is not nn.Flatten or (layers[0].start_dim, layers[0].end_dim) != (1, -1):
        return False
    linear, between = layers[1::2], layers[2::2]
    return (
        len(linear) == len(between) + 1
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(type(layer) is nn.ReLU for layer in between)
        and len(list(body.parameters())) == 2 * len(linear)  # fewer if a layer, or its weights, are used twice
        and all(_is_as_usual(module) for module in body.modules())
    )


def _is_as_usual(module: nn.Module) -> bool:
    """Whether a layer has the parameters of its kind alone, all of them trained, and nothing hooked to it."""
    parameters = dict(module.named_parameters(recurse=False))
    if type(module) is nn.Linear and set(parameters) != {"weight", "bias"}:
        return False
    hooks: list[Any] = [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]
    hooks += [parameter._backward_hooks for parameter in parameters.values()]
    return not any(hooks) and all(parameter.requires_grad for parameter in parameters.values())


def _parts(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    preprocess, body = network.children()
    return preprocess, body


def alike(member: Member) -> tuple[Any, ...]:
    """What the members of a stack have in common."""
    shapes = tuple(tuple(p.shape) for p in member.network.parameters())
    targets = member.targets
    return (*shapes, len(member.inputs), targets.dtype, tuple(targets.shape[1:]), member.recipe.batch_size)


def train_stacked(members: Sequence[Member], checkpoint: Checkpoint | None = None) -> None:
    """Train the members, which are `stackable` and `alike`; each has its history afterwards, or the error that ended
    it.

    If `checkpoint` holds the state of these members, it is resumed, on the CPU to the same bits; members that had ended
    then are left as they are, to be resumed alone. Whoever ends leaves a checkpoint of its own."""
    checkpoint = checkpoint or Checkpoint()
    state = checkpoint.load()
    left = list(members) if state is None else _still_training(members, state)
    if not left:
        return
    stack, words = _Stack(left), f"{len(left)} networks as one"
    if state is not None:
        stack.restore(state)
        log.info("%s: resuming from step %d", words, stack.step)
    if state is None:
        checkpoint.save(stack.state())  # before a member leaves one of its own: the others must go on as they began
    for member in stack.members:
        for row in member.history:
            member.support.watch(row)
        member.support.snapshot(stack.step, member.network)
    for epoch in track(range(1, max(member.recipe.epochs for member in members) + 1), words):
        if stack.members and epoch > len(stack.members[0].history):
            stack.epoch(checkpoint)


def _still_training(members: Sequence[Member], state: State) -> list[Member]:
    """Those that were in the stack when its state was saved; others that had failed are so again."""
    for member in members:
        if (error := state.facts["failed"].get(_key(member))) is not None:
            member.failed = TrainingError(error)
    return [member for member in members if _key(member) in state.facts["training"]]


def _key(member: Member) -> str:
    path = member.support.checkpoint.path
    return member.name if path is None else path.name


class _Stack:
    """The members that still train, their weights as one tensor a layer of which each member's are a part."""

    def __init__(self, members: list[Member]):
        self.members = members = sorted(members, key=_rates)  # those with equal rates are moved by one optimiser
        first = members[0]
        self.count = first.recipe.steps_per_epoch(len(first.inputs))
        self.step = 0
        self.inputs = _prepared(members)
        self.targets = torch.stack([member.targets for member in members])
        self.classes = torch.stack([_classes(member) for member in members])
        self.losses = torch.empty(self.count, len(members), device=self.inputs.device)  # of the current epoch
        self.right = torch.zeros_like(self.losses)  # how many inputs of each batch are classified rightly
        self.weights: list[list[nn.Parameter]] = []  # by group, then by layer: weight, bias, weight, …
        self.optimizers: list[torch.optim.Optimizer] = []
        self.shuffle_states = self._orders()  # before the current epoch was shuffled
        self.failed: dict[str, str] = {}  # the errors that ended members, by their keys
        self._group()

    def _group(self) -> None:
        for group in (list(of) for _, of in groupby(self.members, key=_rates)):
            stacked = [nn.Parameter(torch.stack(of)) for of in zip(*(_detached(m.network) for m in group))]
            self.weights.append(stacked)
            recipe = group[0].recipe
            self.optimizers.append(recipe.optimizer(stacked, recipe.lr, recipe.weight_decay))
            _share(group, stacked)

    def _groups(self) -> Iterator[list[Member]]:
        """Yield those with equal rates, whose weights are one tensor a layer."""
        begin = 0
        for weight, *_ in self.weights:
            yield self.members[begin : begin + len(weight)]
            begin += len(weight)

    def epoch(self, checkpoint: Checkpoint) -> None:
        """Train every member for one epoch, or for what is left of it, and add its row; let those go that end."""
        with signals_deferred() as deferred:
            for member in self.members:
                member.network.train()
            for batch in self._rest_of_epoch():
                self._descend(batch)
                self._tell_of_step()
                save_if_due(checkpoint, self.state, deferred)
            for i, member in enumerate(self.members):
                self._end_epoch(member, self.losses[:, i], self.right[:, i])
            self._keep([not self._ended(member) for member in self.members])
            self.shuffle_states = self._orders()
            if deferred:
                checkpoint.save(self.state())

    def _tell_of_step(self) -> None:
        longest = max(self.members, key=lambda member: member.recipe.epochs)
        longest.support.progress(self.step, longest.recipe.epochs * self.count)
        for member in self.members:
            member.support.snapshot(self.step, member.network)

    def _rest_of_epoch(self) -> Iterator[Tensor]:
        """Yield the remaining batches of the current epoch, as indices (M, n) of each member's inputs."""
        done = self.step - len(self.members[0].history) * self.count
        n, device = self.inputs.shape[1], self.inputs.device
        taken = [list(batches(n, self.count, member.order, device))[done:] for member in self.members]
        return (torch.stack(of) for of in zip(*taken))

    def _descend(self, batch: Tensor) -> None:
        """Take a step of every member on its inputs of the indices `batch` (M, n)."""
        members, n = self.inputs.shape[:2]
        chosen = partial(_rows, places=batch + n * torch.arange(members, device=batch.device)[:, None])
        logits = self._logits(chosen(self.inputs))
        losses = _losses([member.loss for member in self.members], logits, chosen(self.targets))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        for optimizer, group in zip(self.optimizers, self._groups()):
            for parameters in optimizer.param_groups:
                parameters["lr"] = group[0].recipe.learning_rate(self.step, self.count)
            optimizer.step()
        self.losses[self.step % self.count] = losses.detach()
        self.right[self.step % self.count] = (logits.argmax(dim=2) == chosen(self.classes)).sum(dim=1)
        self.step += 1

    def _logits(self, values: Tensor) -> Tensor:
        """Return logits (M, n, K) of inputs (M, n, d)."""
        layers = [torch.cat(of) if len(of) > 1 else of[0] for of in zip(*self.weights)]
        for i in range(0, len(layers), 2):
            values = torch.baddbmm(layers[i + 1][:, None], values, layers[i])
            if i + 2 < len(layers):
                values = values.relu_()
        return values

    def _end_epoch(self, member: Member, losses: Tensor, right: Tensor) -> None:
        network, recipe, evaluation, history = member.network, member.recipe, member.evaluation, member.history
        try:
            check_finite(losses, len(history) + 1, recipe, member.name)
            network.eval()
            history.append(epoch_row(network, recipe, evaluation, history, self.step, losses, right))
            member.support.watch(history[-1])
            if self._ended(member):
                check_last_step(network, member.inputs, recipe, member.name, evaluation)
                member.support.checkpoint.save(_finished(member, losses, right))
        except TrainingError as error:
            member.failed = error

    def _ended(self, member: Member) -> bool:
        if member.failed is not None:
            return True
        return len(member.history) == member.recipe.epochs or reached(member.history[-1], member.recipe)

    def state(self) -> State:
        """What restores the stack: what its members do not share with the start."""
        training = {
            _key(member): {"history": member.history, "order": order}
            for member, order in zip(self.members, self.shuffle_states)
        }
        tensors = {"losses": self.losses, "right": self.right}
        for group, (weights, optimizer) in enumerate(zip(self.weights, self.optimizers)):
            tensors |= {f"weights.{group}.{i}": weight for i, weight in enumerate(weights)}
            tensors |= optimizer_tensors(optimizer, f"optimizer.{group}")
        for member in self.members:
            tensors |= best_tensors(member.evaluation, f"best.{_key(member)}")
        return State({"step": self.step, "training": training, "failed": self.failed}, tensors)

    def _orders(self) -> list[Any]:
        return [member.order.bit_generator.state for member in self.members]

    def restore(self, state: State) -> None:
        """Restore the state of a stack of the same members."""
        for group, (weights, optimizer) in enumerate(zip(self.weights, self.optimizers)):
            for i, weight in enumerate(weights):
                weight.data.copy_(state.tensors[f"weights.{group}.{i}"])
            restore_optimizer(optimizer, state.tensors, f"optimizer.{group}")
        self.losses.copy_(state.tensors["losses"])
        self.right.copy_(state.tensors["right"])
        self.step, self.failed = state.facts["step"], state.facts["failed"]
        for member in self.members:
            kept = state.facts["training"][_key(member)]
            member.history, member.order.bit_generator.state = kept["history"], kept["order"]
            restore_best(member.evaluation, state.tensors, f"best.{_key(member)}")
        self.shuffle_states = self._orders()

    def _keep(self, kept: list[bool]) -> None:
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
        left = [number for number, (weight, *_) in enumerate(self.weights) if len(weight)]
        self.weights, self.optimizers = [self.weights[i] for i in left], [self.optimizers[i] for i in left]
        self.failed |= {_key(member): str(member.failed) for member in self.members if member.failed is not None}
        self._close([i for i, stays in enumerate(kept) if stays])

    def _close(self, left: list[int]) -> None:
        """Leave only these members."""
        rows = torch.tensor(left, device=self.inputs.device, dtype=torch.long)
        self.inputs, self.targets, self.classes = (of[rows] for of in (self.inputs, self.targets, self.classes))
        self.losses, self.right = self.losses[:, rows], self.right[:, rows]
        self.members = [self.members[i] for i in left]

    def _choose(self, number: int, chosen: Tensor) -> None:
        """Leave only the chosen members in a group's weights and in what its optimiser keeps of them."""
        for weight in self.weights[number]:
            state = self.optimizers[number].state[weight]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    state[name] = value[chosen]
            weight.data = weight.data[chosen]
            weight.grad = None


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """Return the values (M, b, …) at these places (M, b) among the M·n of `values` (M, n, …)."""
    chosen = values.flatten(0, 1).index_select(0, places.flatten())
    return chosen.view(*places.shape, *values.shape[2:])


def _classes(member: Member) -> Tensor:
    """The right class of each input, (n,); without an evaluation nobody asks."""
    if member.evaluation is None:
        return torch.zeros(len(member.inputs), dtype=torch.long, device=member.inputs.device)
    return member.evaluation.classes


def _finished(member: Member, losses: Tensor, right: Tensor) -> State:
    """The state of a member that has ended, as one that trained alone would leave it."""
    order = member.order.bit_generator.state
    facts = {"step": member.history[-1]["step"], "history": member.history, "order": order}
    return training_state(facts, member.network, best_tensors(member.evaluation), losses, right)


def _prepared(members: Sequence[Member]) -> Tensor:
    """Return the inputs (M, n, d) of the members' first linear layers."""
    with torch.no_grad():
        first: Tensor = _parts(members[0].network)[0].eval()(members[0].inputs).flatten(1)
        every = first.new_empty((len(members), *first.shape))
        for i, member in enumerate(members):  # one at a time, for the memory
            every[i] = _parts(member.network)[0].eval()(member.inputs).flatten(1) if i else first
    return every


def _rates(member: Member) -> str:
    recipe = member.recipe
    parts = (describe(part) for part in (recipe.optimizer, recipe.schedule))
    return str((*parts, recipe.lr, recipe.weight_decay, recipe.warmup_epochs, recipe.epochs))


def _losses(losses: Sequence[Loss], logits: Tensor, targets: Tensor) -> Tensor:
    """Return each member's loss, (M,); members with one loss are computed at once."""
    found: list[tuple[list[int], Tensor]] = []
    for loss in _distinct(losses):
        of = [i for i, other in enumerate(losses) if _same(loss, other)]
        every = len(of) == len(losses)
        x, y = (logits, targets) if every else (logits[of], targets[of])
        found.append((of, _by_member(loss, x, y)))
    if len(found) == 1:
        return found[0][1]
    places = torch.tensor([i for of, _ in found for i in of], device=logits.device)
    return torch.cat([values for _, values in found])[places.argsort()]


def _by_member(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    # A user's, also one that inherits from these, is known as a mean alone.
    if isinstance(loss, SEPARABLE) and type(loss) in SEPARABLE:
        return loss.of_each(logits.flatten(0, 1), targets.flatten(0, 1)).view(len(logits), -1).mean(dim=1)
    return torch.stack([loss(x, y) for x, y in zip(logits, targets)])


def _distinct(losses: Sequence[Loss]) -> list[Callable[[Tensor, Tensor], Tensor]]:
    found: list[Callable[[Tensor, Tensor], Tensor]] = []
    for loss in losses:
        if not any(_same(loss, other) for other in found):
            found.append(loss)
    return found


def _same(one: Loss, other: Loss) -> bool:
    """Whether two losses are one; a user's may be called equal and not be."""
    return one is other or (type(one) in SEPARABLE and one == other)


def _detached(network: nn.Module) -> list[Tensor]:
    """A network's weights, those of a layer as (in, out): their gradient then lies in memory as it is computed."""
    return [parameter.detach().t() for parameter in network.parameters()]


def _share(members: Sequence[Member], stacked: Sequence[Tensor]) -> None:
    """Let each member's network have its part of the stack as its weights."""
    for i, member in enumerate(members):
        for parameter, of_all in zip(member.network.parameters(), stacked):
            parameter.data = of_all.data[i].t()


def _own(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
