"""Fits a network that was written for other images or classes to those of a dataset, and checks it by dry passes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rebuttal.errors import ConfigError, UserError, out_of_memory
from rebuttal.seeds import torch_stream

MAX_SIDE = 256  # pixels; up to here a refusal says how large images must be
LARGE_KERNEL = 7  # of a first convolution for large images, which becomes 3×3 in the small stem


@dataclass(frozen=True)
class Blueprint:
    """What is to be built: `build()` gives a network, which is to take inputs (n, *shape) and give logits (n, classes).
    `key` stands for `build`: equal keys, equal networks. `what` begins every message. `small_stem`: change the first
    layers as `_stem_sizes` says. `positions`: so many must be left along each side by the first convolution."""

    what: str
    key: Hashable
    build: Callable[[], Any] = field(compare=False)
    shape: tuple[int, ...]
    classes: int
    small_stem: bool = False
    positions: int = 0


@dataclass(frozen=True)
class _Plan:
    """What a network needs to fit: a new first convolution of this name, without the pool that follows it, and a new
    last layer. `passes`: it has its weights only after a first pass. `aside`: it cannot be built on the meta device."""

    first: str | None = None
    pool: str | None = None
    last: str | None = None
    passes: bool = False
    aside: bool = False


def adapted(blueprint: Blueprint) -> nn.Module:
    """Return the network of a blueprint, fitted to the data by as little as it needs: nothing; a new first convolution
    for the number of channels; a new last linear layer for the number of classes. A layer is replaced only if it is
    certain which: it is the first or last with weights that runs, it runs once, and nothing shares its weights.

    What it needs is found by dry passes without values, once for equal blueprints. Layers that take their sizes from
    the first inputs get them from a pass in evaluation mode, which draws nothing but their weights. What cannot run
    without values is tried on the CPU.

    Raises `ConfigError` for a network that still does not fit.
    """
    plan = _plan(blueprint)
    if not (plan.aside and on_meta()):
        return _carried_out(plan, blueprint)
    with torch.device("cpu"), _apart():
        return _carried_out(plan, blueprint).to("meta")


def on_meta() -> bool:
    """True within `torch.device("meta")`."""
    return torch.empty(0).device.type == "meta"


@dataclass(frozen=True)
class _Trial:
    """A dry pass: the names of the innermost modules in the order in which they ran, and its output or error."""

    ran: list[str]
    output: Any = None
    error: Exception | None = None


@lru_cache(maxsize=256)
def _plan(blueprint: Blueprint) -> _Plan:
    """Find what a network needs to fit. Raises `ConfigError` if it cannot be fitted."""
    try:
        with torch.device("meta"), _apart():
            plan, network = _planned(blueprint)
            _require_logits(blueprint, _tried(network, blueprint.shape, training=True), " in training")
            return plan
    except Exception as error:
        if not _needs_values(error.__cause__ or error):
            raise
    with torch.device("cpu"), _apart():
        return replace(_planned(blueprint)[0], aside=True)


def _planned(blueprint: Blueprint) -> tuple[_Plan, nn.Module]:
    """Return the plan and the fitted network."""
    network = _built(blueprint)
    before = _weights(network)
    trial = _tried(network, blueprint.shape)
    plan = _with_input_layer(network, trial.ran, blueprint)
    if plan.first is not None:
        network = _with_stem(network, plan, blueprint)
        trial = _tried(network, blueprint.shape)
    if trial.error is not None:
        raise ConfigError(_cannot_take(blueprint, network, trial.error)) from trial.error
    plan = replace(plan, passes=_weights(network) != before, last=_output_layer(network, trial, blueprint.classes))
    if plan.last is not None:
        network = _with_head(network, plan.last, blueprint.classes)
        trial = _tried(network, blueprint.shape)
    _require_logits(blueprint, trial)
    _require_positions(blueprint, network, trial.ran)
    return plan, network


def _carried_out(plan: _Plan, blueprint: Blueprint) -> nn.Module:
    network = _built(blueprint)
    if plan.first is not None:
        network = _with_stem(network, plan, blueprint)
    if plan.passes:
        _tried(network, blueprint.shape)
    return network if plan.last is None else _with_head(network, plan.last, blueprint.classes)


def _apart() -> AbstractContextManager[None]:
    """A stream of its own, so that finding out about a network changes no other."""
    return torch_stream(0, "model", "shapes")


def _weights(network: nn.Module) -> dict[str, bool]:
    """The names of all weights, and whether they have sizes."""
    return {name: is_lazy(weight) for name, weight in network.named_parameters()}


def _built(blueprint: Blueprint) -> nn.Module:
    what = blueprint.what
    try:
        network = blueprint.build()
    except Exception as error:  # others' code may raise anything
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(f"{what}: cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{what}: gives {_in_words(network)}; allowed: what gives a torch.nn.Module")
    return network


def _tried(network: nn.Module, shape: tuple[int, ...], training: bool = False) -> _Trial:
    """Run the network on two inputs of zeros, and leave every module in the mode in which it was."""
    ran: list[str] = []
    modes = [(module, module.training) for module in network.modules()]
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: ran.append(name))
        for name, module in network.named_modules()
        if next(module.children(), None) is None
    ]
    try:
        network.train(training)
        with torch.no_grad():
            return _Trial(ran, network(torch.zeros(2, *shape)))
    except Exception as error:  # others' code may raise anything
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        return _Trial(ran, error=error)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode


def _with_input_layer(network: nn.Module, ran: list[str], blueprint: Blueprint) -> _Plan:
    """Plan a first convolution for the channels of the images and, if wanted, the small stem; nothing if nothing is to
    be changed, or it is not certain what."""
    first = next((name for name in ran if _has_weights(network.get_submodule(name))), None)
    conv = None if first is None else network.get_submodule(first)
    shape = blueprint.shape
    if first is None or not isinstance(conv, nn.Conv2d) or len(shape) != 3 or not _runs_once(network, ran, first):
        return _Plan()
    small = blueprint.small_stem and max(conv.stride) > 1
    same = (conv.kernel_size, conv.in_channels) == (_stem_sizes(conv, small)[0], shape[0])
    if (same and not small) or (not same and type(conv) is not nn.Conv2d):  # a subclass may compute something else
        return _Plan()
    return _Plan(first, _first_pool(network, ran[ran.index(first) + 1 :]) if small else None)


def _with_stem(network: nn.Module, plan: _Plan, blueprint: Blueprint) -> nn.Module:
    assert plan.first is not None
    conv = network.get_submodule(plan.first)
    assert isinstance(conv, nn.Conv2d)
    if plan.pool is not None:
        network = _with_module(network, plan.pool, nn.Identity())
    small = blueprint.small_stem and max(conv.stride) > 1
    return _with_module(network, plan.first, _stem(conv, blueprint.shape[0], small))


def _stem_sizes(conv: nn.Conv2d, small: bool) -> tuple[Any, Any, Any]:
    """Return kernel, stride and padding of the first convolution. The `small` one does not shrink the image: a large
    kernel becomes 3×3, a smaller one only loses its stride; patches become 2×2."""
    kernel, stride = conv.kernel_size, conv.stride
    if small and kernel == stride:
        return (min(2, kernel[0]), min(2, kernel[1])), (min(2, kernel[0]), min(2, kernel[1])), conv.padding
    if small and max(kernel) >= LARGE_KERNEL:
        return (3, 3), (1, 1), (1, 1)
    return kernel, (1, 1) if small else stride, conv.padding


def _stem(conv: nn.Conv2d, channels: int, small: bool) -> nn.Conv2d:
    """Return the first convolution for that many channels. It keeps its weights unless they change their shape; new
    ones get He's initialisation."""
    kernel, stride, padding = _stem_sizes(conv, small)
    if (kernel, channels) == (conv.kernel_size, conv.in_channels):
        conv.stride = stride
        return conv
    new = nn.Conv2d(channels, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _first_pool(network: nn.Module, following: list[str]) -> str | None:
    """Return the name of a max-pool between the first convolution and the next one."""
    for name in following:
        module = network.get_submodule(name)
        if isinstance(module, nn.MaxPool2d):
            return name
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            break
    return None


def _output_layer(network: nn.Module, trial: _Trial, classes: int) -> str | None:
    """Return the name of the linear layer that gives the outputs, if their number is another and it is certain."""
    width = _width(trial.output)
    last = next((name for name in reversed(trial.ran) if _has_weights(network.get_submodule(name))), None)
    if last is None or width in (None, classes) or not _runs_once(network, trial.ran, last):
        return None
    layer = network.get_submodule(last)
    return last if type(layer) is nn.Linear and layer.out_features == width else None


def _with_head(network: nn.Module, name: str, classes: int) -> nn.Module:
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return _with_module(network, name, nn.Linear(layer.in_features, classes, bias=layer.bias is not None))


def _with_module(network: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Put a module in the place of another; return the network, which is `new` itself if the place is the root."""
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
    return network


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _runs_once(network: nn.Module, ran: list[str], name: str) -> bool:
    """True for a module that runs once and stands in one place, so that nothing else uses its weights."""
    module = network.get_submodule(name)
    places = sum(other is module for _, other in network.named_modules(remove_duplicate=False))
    holders = sum(module.weight is weight for _, weight in network.named_parameters(remove_duplicate=False))
    return ran.count(name) == places == holders == 1


def _width(output: Any) -> int | None:
    """The number of logits of two inputs; None for other outputs."""
    return output.shape[1] if isinstance(output, Tensor) and output.ndim == 2 and len(output) == 2 else None


def _require_logits(blueprint: Blueprint, trial: _Trial, when: str = "") -> None:
    """Raise `ConfigError` if a dry pass failed or gave no logits."""
    what, inputs = blueprint.what, f"inputs of shape {list(blueprint.shape)}"
    if trial.error is not None:
        raise ConfigError(f"{what}: fails{when} for {inputs}: {_line(trial.error)}") from trial.error
    if _width(trial.output) != blueprint.classes or not trial.output.is_floating_point():
        needed = f"allowed: logits of shape (2, {blueprint.classes}), floats"
        raise ConfigError(f"{what}: gives{when} {_in_words(trial.output)} for 2 {inputs}; {needed}")


def _require_positions(blueprint: Blueprint, network: nn.Module, ran: list[str]) -> None:
    """Raise `ConfigError` if the first convolution shrinks the image too much."""
    modules = (network.get_submodule(name) for name in ran)
    conv = next((module for module in modules if isinstance(module, nn.Conv2d)), None)
    if conv is not None and min(blueprint.shape[1:]) // max(conv.stride) < blueprint.positions:
        raise ConfigError(
            f"{blueprint.what}: its first convolution has a stride of {max(conv.stride)}, too much for inputs of shape "
            f"{list(blueprint.shape)}, and no small stem is known for it; allowed: model.stem=own, or another network"
        )


def _needs_values(error: BaseException) -> bool:
    """True for the errors of code that reads values of tensors, which there are none of on the meta device."""
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower()


def _cannot_take(blueprint: Blueprint, network: nn.Module, error: Exception) -> str:
    shape = blueprint.shape
    side = _least_side(network, shape[0]) if len(shape) == 3 and on_meta() else None
    allowed = f"; allowed: images of at least {side}x{side}" if side and side > min(shape[1:]) else ""
    return f"{blueprint.what}: cannot take inputs of shape {list(shape)}: {_line(error)}{allowed}"


def _least_side(network: nn.Module, channels: int) -> int | None:
    """The smallest square images that the network takes; None for one that does not take `MAX_SIDE`."""

    def takes(side: int) -> bool:
        return _tried(network, (channels, side, side)).error is None

    sides = range(1, MAX_SIDE)
    return sides[bisect_left(sides, True, key=takes)] if takes(MAX_SIDE) and takes(MAX_SIDE - 1) else None


def _in_words(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"outputs of shape {tuple(output.shape)}, {str(output.dtype).removeprefix('torch.')}"
    inside = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    shapes = [str(tuple(item.shape)) for item in inside if isinstance(item, Tensor)]
    return f"a {type(output).__name__}" + (f" of shapes {', '.join(shapes)}" if shapes else "")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
