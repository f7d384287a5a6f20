"""The layers of a network, for the measures whose mathematics needs them.

A network becomes a list of parts in order of use: `Affine` maps, `Pool` and `Sum` (a residual block).
ReLU, dropout (in evaluation mode), flattening and identity are kept as `Pointwise`. What is not known here is
refused by name: to skip a layer would make every product over layers wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from rebuttal.errors import ConfigError
from rebuttal.models.preprocess import Preprocess, centre_crop


@dataclass(frozen=True)
class Affine:
    """x ↦ Ax + b on inputs of `shape`; a convolution and its batch-norm are one map."""

    name: str
    modules: tuple[nn.Module, ...]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for module in self.modules:
            x = module(x)
        return x


@dataclass(frozen=True)
class Pointwise:
    """1-Lipschitz in every coordinate, or a mere rearrangement of coordinates."""

    module: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)


@dataclass(frozen=True)
class Pool:
    """The maximum over windows that do not overlap."""

    module: nn.MaxPool2d

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)


@dataclass(frozen=True)
class Sum:
    """branch(x) + skip(x); an empty skip is the identity."""

    branch: tuple[Part, ...]
    skip: tuple[Part, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return run(self.branch, x) + run(self.skip, x)


Part = Affine | Pointwise | Pool | Sum


class Scale(nn.Module):
    """Per-channel normalisation as an affine map in float64: (x − mean)/std."""

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        self.register_buffer("mean", preprocess.mean.double())
        self.register_buffer("std", preprocess.std.double())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Crop(nn.Module):
    """A centre crop: a selection of coordinates."""

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        self.size = preprocess.crop

    def forward(self, x: Tensor) -> Tensor:
        return centre_crop(x, self.size)


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    for part in parts:
        x = part(x)
    return x


def is_whitened(network: nn.Module) -> bool:
    """Whether the first layer whitens each image, which is not affine: what is said of the layers then
    holds on whitened inputs only."""
    return any(isinstance(m, Preprocess) and m.normalisation == "per_image" for m in network.modules())


def parts_of(network: nn.Module, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """The parts of a network on inputs of `shape`, as float64 copies in evaluation mode.

    Raises `ConfigError` that names a layer of an unknown kind.
    """
    network = copy.deepcopy(network).double().cpu().eval()
    with torch.no_grad():
        parts, _ = _shaped(_expand(network, ""), torch.zeros(1, *shape, dtype=torch.float64))
    return parts


def check_layers(network: nn.Module) -> None:
    """Raise `ConfigError` that names a layer of an unknown kind; runs nothing, so that weights may be absent."""
    _expand(network, "")


def affine_parts(parts: Sequence[Part]) -> list[Affine]:
    """Every affine map, those inside residual blocks too, in order."""
    found: list[Affine] = []
    for part in parts:
        if isinstance(part, Affine):
            found.append(part)
        elif isinstance(part, Sum):
            found += affine_parts(part.branch) + affine_parts(part.skip)
    return found


# A module before its input shape is known: (name, module), or (branch, skip) of a residual block.
_Raw = list


def _shaped(raw: _Raw, x: Tensor) -> tuple[tuple[Part, ...], Tensor]:
    """Parts with their input shapes, batch-norms joined to the convolutions before them."""
    parts: list[Part] = []
    i = 0
    while i < len(raw):
        name, module = raw[i]
        if name is None:
            branch, _ = _shaped(module[0], x)
            skip, _ = _shaped(module[1], x)
            part: Part = Sum(branch, skip)
        elif isinstance(module, nn.MaxPool2d):
            part = Pool(module)
        elif isinstance(module, (nn.ReLU, nn.Dropout, nn.Flatten, nn.Identity, Crop)):
            part = Pointwise(module)
        else:
            joined = (module,)
            if isinstance(module, nn.Conv2d) and i + 1 < len(raw) and isinstance(raw[i + 1][1], nn.BatchNorm2d):
                joined, i = (module, raw[i + 1][1]), i + 1
            part = Affine(name, joined, tuple(x.shape[1:]))
        x = part(x)
        parts.append(part)
        i += 1
    return tuple(parts), x


@singledispatch
def _expand(module: nn.Module, name: str) -> _Raw:
    raise ConfigError(
        f"stages.*.functions: layer {name or 'network'} is a {type(module).__name__}, which operator and path norms do "
        "not know; allowed: Linear, Conv2d, BatchNorm2d, ReLU, Dropout, Flatten, Identity, non-overlapping MaxPool2d, "
        "AdaptiveAvgPool2d(1), Sequential, and torchvision's BasicBlock and ResNet"
    )


@_expand.register
def _(module: nn.Conv2d, name: str) -> _Raw:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ConfigError(
            f"stages.*.functions: layer {name} is a Conv2d with {module.padding_mode} padding "
            f"{module.padding!r}; allowed: zeros, as a number"
        )
    return [(name, module)]


@_expand.register(nn.Linear)
@_expand.register(nn.BatchNorm2d)
@_expand.register(nn.ReLU)
@_expand.register(nn.Dropout)
@_expand.register(nn.Flatten)
@_expand.register(nn.Identity)
def _(module: nn.Module, name: str) -> _Raw:
    return [(name, module)]


@_expand.register
def _(module: nn.Sequential, name: str) -> _Raw:
    return _in_order(module, name, [child for child, _ in module.named_children()])


@_expand.register
def _(module: nn.MaxPool2d, name: str) -> _Raw:
    if module.kernel_size != module.stride or module.padding != 0:
        raise ConfigError(
            f"stages.*.functions: layer {name} is a MaxPool2d whose windows overlap; allowed: stride = size"
        )
    return [(name, module)]


@_expand.register
def _(module: nn.AdaptiveAvgPool2d, name: str) -> _Raw:
    if module.output_size not in (1, (1, 1)):
        raise ConfigError(f"stages.*.functions: layer {name} is an AdaptiveAvgPool2d; allowed: to size 1")
    return [(name, module)]


@_expand.register
def _(module: BasicBlock, name: str) -> _Raw:
    branch = _in_order(module, name, ["conv1", "bn1", "relu", "conv2", "bn2"])
    skip = [] if module.downsample is None else _expand(module.downsample, f"{name}.downsample")
    return [(None, (branch, skip)), (f"{name}.relu", module.relu)]


@_expand.register
def _(module: ResNet, name: str) -> _Raw:
    trunk = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    return [*_in_order(module, name, trunk), (f"{name}.flatten", nn.Flatten()), *_in_order(module, name, ["fc"])]


@_expand.register
def _(module: Preprocess, name: str) -> _Raw:
    crop = [] if module.crop is None else [(f"{name}.crop", Crop(module))]
    return crop + ([(name, Scale(module))] if module.normalisation == "per_channel" else [])


def _in_order(module: nn.Module, name: str, children: Sequence[str]) -> _Raw:
    prefix = f"{name}." if name else ""
    return [item for child in children for item in _expand(getattr(module, child), prefix + child)]
