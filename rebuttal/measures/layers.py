"""The layers of a network, for the measures that are defined on layers.

A network becomes a list of parts in order of use: `Affine` maps, `Pool`, `Response`, and branches side by side, joined
by a `Sum` (a residual block) or a `Joined` (a concatenation). ReLU, dropout (in evaluation mode), flattening and
identity are kept as `Pointwise`. Any other layer is refused by name: skipping it would make every product over layers
wrong.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, singledispatch
from itertools import dropwhile, groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rebuttal.errors import ConfigError
from rebuttal.models.blocks import Concatenation, Residual
from rebuttal.models.preprocess import FlattenPixels, Preprocess, centre_crop
from rebuttal.training.layout import has_convolutions, lay_out, takes_channels_last

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, ResNet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Affine:
    """x ↦ Ax + b on inputs of `shape`: one layer, or a convolution with the batch-norm that follows it."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    batch_norm: nn.BatchNorm2d | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = self.module(x)
        if self.batch_norm is not None:
            x = self.batch_norm(x)
        return x


@dataclass(frozen=True)
class Pointwise:
    """A map that is 1-Lipschitz in every coordinate, or only rearranges or drops coordinates."""

    module: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


@dataclass(frozen=True)
class Pool:
    """The maximum over windows, which may overlap, of inputs of `shape`."""

    module: nn.MaxPool2d
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


@dataclass(frozen=True)
class Response:
    """Local response normalisation, which divides each channel by what its neighbours in the same place add up to."""

    module: nn.LocalResponseNorm

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


@dataclass(frozen=True)
class Sum:
    """branch(x) + skip(x); an empty skip is the identity."""

    branch: tuple[Part, ...]
    skip: tuple[Part, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return run(self.branch, x) + run(self.skip, x)


@dataclass(frozen=True)
class Joined:
    """The outputs of the branches for the same x, one after the other along the channels."""

    branches: tuple[tuple[Part, ...], ...]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([run(branch, x) for branch in self.branches], dim=1)


Part = Affine | Pointwise | Pool | Response | Sum | Joined


@dataclass(frozen=True)
class Composition:
    """Affine maps that follow each other, with what only rearranges coordinates between them, as one affine map on
    inputs of `shape`."""

    name: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return run(self.parts, x)


class Scale(nn.Module):
    """Per-channel normalisation as an affine map in float64: (x − mean)/std."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess):
        super().__init__()
        self.register_buffer("mean", preprocess.mean.double())
        self.register_buffer("std", preprocess.std.double())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Crop(nn.Module):
    """A centre crop: a selection of coordinates."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return centre_crop(x, self.size)


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Apply the parts in order."""
    for part in parts:
        x = part(x)
    return x


def is_whitened(network: nn.Module) -> bool:
    """True if the first layer whitens each image. That is not affine: results for the layers then hold on whitened
    inputs only."""
    return any(isinstance(m, Preprocess) and m.normalisation == "per_image" for m in network.modules())


def runs_as(module: nn.Module, *kinds: type) -> bool:
    """True if the module is of one of these classes and computes what that class does: a subclass may have a `forward`
    of its own, and hooks may change inputs and outputs."""
    kind = next((base for base in type(module).__mro__ if base in kinds and base is not object), None)
    hooked = module._forward_hooks or module._forward_pre_hooks
    return kind is not None and type(module).forward is kind.forward and not hooked  # type: ignore[attr-defined]


def parts_of(network: nn.Module, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return the parts of a network on inputs of `shape`, as float64 copies in evaluation mode.

    Raises `ConfigError` that names a layer of an unsupported kind.
    """
    network = copy.deepcopy(network).double().cpu().eval()
    with torch.no_grad():
        parts, _ = _with_shapes(_expand(network, ""), torch.zeros(1, *shape, dtype=torch.float64))
    return parts


def check_layers(network: nn.Module, paths: bool = False) -> None:
    """Raise `ConfigError` that names a layer of an unsupported kind. Runs nothing, so that weights may be absent.

    `paths`: also a layer through which no paths lead whose weights could be multiplied."""
    for layer in _layers(_expand(network, "")):
        if paths and isinstance(layer.module, nn.LocalResponseNorm):
            raise ConfigError(
                f"stages.*.functions: layer {layer.name} is a LocalResponseNorm, which path norms do not support, "
                "because it divides by a sum of squares; allowed: piecewise linear networks"
            )


def unsupported(network: nn.Module, paths: bool = False) -> str | None:
    """Why the measures of layers, or those of `paths`, cannot take a network, in one line; None if they can."""
    try:
        check_layers(network, paths)
    except ConfigError as error:
        return str(error)
    return None


def affine_parts(parts: Sequence[Part]) -> list[Affine]:
    """Return every affine map in order, including those inside branches."""
    found: list[Affine] = []
    for part in parts:
        if isinstance(part, Affine):
            found.append(part)
        elif isinstance(part, Sum):
            found += affine_parts(part.branch) + affine_parts(part.skip)
        elif isinstance(part, Joined):
            found += [inner for branch in part.branches for inner in affine_parts(branch)]
    return found


def composed(parts: Sequence[Part]) -> Iterator[Part | Composition]:
    """Yield the parts in order, affine maps that follow each other as one `Composition`.

    What comes before the first of them, such as a crop, only selects or rearranges coordinates: without it the map has
    the same operator norm."""
    for linear, group in groupby(parts, _is_linear):
        chain = tuple(group)
        maps = [part for part in chain if isinstance(part, Affine)]
        if linear and len(maps) > 1:
            after = tuple(dropwhile(lambda part: isinstance(part, Pointwise), chain))
            yield Composition("+".join(part.name for part in maps), after, maps[0].shape)
        else:
            yield from chain


def _is_linear(part: Part) -> bool:
    """True for what is affine in evaluation mode."""
    return isinstance(part, Affine) or (isinstance(part, Pointwise) and not isinstance(part.module, nn.ReLU))


def batch_norm_scale(norm: nn.BatchNorm2d) -> Tensor:
    """Return the factor (C,) by which a batch-norm multiplies each channel in evaluation mode.

    With `affine=False` it has no weights, which stands for weights of 1."""
    deviation = (norm.get_buffer("running_var") + norm.eps).sqrt()
    return (torch.ones_like(deviation) if norm.weight is None else norm.weight) / deviation


def batch_norm_bias(norm: nn.BatchNorm2d) -> Tensor:
    """Return the bias (C,) of a batch-norm: 0 with `affine=False`."""
    return torch.zeros_like(norm.get_buffer("running_mean")) if norm.bias is None else norm.bias


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution with the batch-norm that follows it, in evaluation mode."""
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    if norm is None:
        return conv.weight, bias
    scale = batch_norm_scale(norm)
    offset = batch_norm_bias(norm) + (bias - norm.get_buffer("running_mean")) * scale
    return conv.weight * scale[:, None, None, None], offset


def padding_of(conv: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding of a convolution that `check_layers` accepts, which is given in numbers."""
    assert not isinstance(conv.padding, str)
    return conv.padding


def faster(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a network with the same outputs in evaluation mode, up to rounding, that is faster on inputs like these:
    a frozen copy, `fused`, and on a CPU with the weights of convolutions channels last. One for which there is nothing
    to gain, or that cannot be copied, is returned as it is."""
    found = fused(network)
    if inputs.device.type != "cpu" or not has_convolutions(network):
        return found
    try:
        copied = found if found is not network else copy.deepcopy(network).eval().requires_grad_(False)
    except Exception as error:  # which others' code may raise as it likes
        log.info("%s is measured without a copy: %s", type(network).__name__, error)
        return found
    if not takes_channels_last(copied, inputs[:2]):
        return found
    lay_out(copied, torch.channels_last)
    return copied


def fused(network: nn.Module) -> nn.Module:
    """Return a network with the same outputs in evaluation mode, up to rounding, that is faster: a frozen copy whose
    batch-norms are folded into the convolutions before them. A network with other layers is returned as it is."""
    if unsupported(network):
        return network
    network = copy.deepcopy(network).eval().requires_grad_(False)
    items = list(_expand(network, ""))
    used = [id(layer.module) for layer in _layers(items)]
    held = [id(of.get("weight")) for of in (dict(m.named_parameters(recurse=False)) for m in network.modules())]
    for conv, norm in _pairs(items):
        # A layer, or weights, with another use would be scaled there too.
        if used.count(id(conv)) == used.count(id(norm)) == held.count(id(conv.weight)) == 1:
            weight, bias = folded(copy.deepcopy(conv).double(), copy.deepcopy(norm).double())
            conv.weight.data, conv.bias = weight.to(conv.weight), nn.Parameter(bias.to(conv.weight), False)
            _replace(network, norm, nn.Identity())
    return network


def _layers(items: _Items) -> Iterator[_Layer]:
    """Yield every layer, as often as it is used."""
    for item in items:
        if isinstance(item, _Block):
            for branch in item.branches:
                yield from _layers(branch)
        else:
            yield item


def _pairs(items: _Items) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Yield each convolution that a batch-norm follows, with that batch-norm."""
    for item, norm in _with_batch_norms(items):
        if isinstance(item, _Block):
            for branch in item.branches:
                yield from _pairs(branch)
        elif isinstance(item.module, nn.Conv2d) and norm is not None:
            yield item.module, norm


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in network.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)


@dataclass(frozen=True)
class _Layer:
    """A module whose input shape is not known yet."""

    name: str
    module: nn.Module


@dataclass(frozen=True)
class _Block:
    """Branches side by side whose input shape is not known yet, and what joins their outputs."""

    joined_by: type[Sum] | type[Joined]
    branches: tuple[list[_Layer | _Block], ...]


_Items = list[_Layer | _Block]


def _with_shapes(items: _Items, x: Tensor) -> tuple[tuple[Part, ...], Tensor]:
    """Return the parts with their input shapes, and their output at `x`."""
    parts: list[Part] = []
    for item, batch_norm in _with_batch_norms(items):
        part = _part(item, batch_norm, x)
        x = part(x)
        parts.append(part)
    return tuple(parts), x


def _with_batch_norms(items: _Items) -> Iterator[tuple[_Layer | _Block, nn.BatchNorm2d | None]]:
    """Yield each item, a convolution together with the batch-norm that follows it."""
    modules = [item.module if isinstance(item, _Layer) else None for item in items]
    i = 0
    while i < len(items):
        following = modules[i + 1] if isinstance(modules[i], nn.Conv2d) and i + 1 < len(items) else None
        batch_norm = following if isinstance(following, nn.BatchNorm2d) else None
        yield items[i], batch_norm
        i += 1 if batch_norm is None else 2


def _part(item: _Layer | _Block, batch_norm: nn.BatchNorm2d | None, x: Tensor) -> Part:
    if isinstance(item, _Block):
        branches = tuple(_with_shapes(branch, x)[0] for branch in item.branches)
        return Joined(branches) if item.joined_by is Joined else Sum(*branches)
    if isinstance(item.module, nn.MaxPool2d):
        return Pool(item.module, tuple(x.shape[1:]))
    if isinstance(item.module, nn.LocalResponseNorm):
        return Response(item.module)
    if isinstance(item.module, (nn.ReLU, nn.Dropout, nn.Flatten, nn.Identity, Crop)):
        return Pointwise(item.module)
    return Affine(item.name, item.module, tuple(x.shape[1:]), batch_norm)


def _expand(module: nn.Module, name: str) -> _Items:
    """Return a module's layers in order of use. Raises `ConfigError` that names a layer of an unsupported kind."""
    if any(base.__module__.startswith("torchvision.") for base in type(module).__mro__):
        _register_torchvision()
    if not runs_as(module, *_expand_by_type.registry):
        return _expand_by_type.registry[object](module, name)
    return _expand_by_type(module, name)


@singledispatch
def _expand_by_type(module: nn.Module, name: str) -> _Items:
    raise ConfigError(
        f"stages.*.functions: layer {name or 'network'} is a {type(module).__name__}, which operator and path norms do "
        "not support; allowed: Linear, Conv2d, BatchNorm2d, ReLU, Dropout, Flatten, Identity, MaxPool2d, "
        "LocalResponseNorm (not in path norms), AdaptiveAvgPool2d(1), Sequential, rebuttal's Residual and "
        "Concatenation, and torchvision's BasicBlock and ResNet"
    )


@_expand_by_type.register
def _(module: nn.Conv2d, name: str) -> _Items:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ConfigError(
            f"stages.*.functions: layer {name} is a Conv2d with {module.padding_mode} padding "
            f"{module.padding!r}; allowed: zeros, as a number"
        )
    return [_Layer(name, module)]


@_expand_by_type.register(nn.Linear)
@_expand_by_type.register(nn.ReLU)
@_expand_by_type.register(nn.Dropout)
@_expand_by_type.register(nn.Flatten)
@_expand_by_type.register(nn.Identity)
def _(module: nn.Module, name: str) -> _Items:
    return [_Layer(name, module)]


@_expand_by_type.register
def _(module: nn.BatchNorm2d, name: str) -> _Items:
    if module.running_var is None:
        raise ConfigError(
            f"stages.*.functions: layer {name} is a BatchNorm2d with track_running_stats=False, whose output for one "
            "input depends on the others; allowed: True"
        )
    return [_Layer(name, module)]


@_expand_by_type.register
def _(module: nn.Sequential, name: str) -> _Items:
    return _expand_children(module, name, list(module._modules))  # named_children() omits a layer used twice


@_expand_by_type.register
def _(module: Residual, name: str) -> _Items:
    return [_Block(Sum, tuple(_expand_children(module, name, [child]) for child in ("branch", "skip")))]


@_expand_by_type.register
def _(module: Concatenation, name: str) -> _Items:
    prefix = f"{name}.branches" if name else "branches"
    branches = module.branches._modules
    return [_Block(Joined, tuple(_expand_children(module.branches, prefix, [child]) for child in branches))]


@_expand_by_type.register
def _(module: nn.LocalResponseNorm, name: str) -> _Items:
    if not (module.k > 0 and module.alpha >= 0 and module.beta > 0):
        raise ConfigError(
            f"stages.*.functions: layer {name} is a LocalResponseNorm with k={module.k}, alpha={module.alpha} and "
            f"beta={module.beta}; allowed: k and beta above 0, alpha 0 or more"
        )
    return [_Layer(name, module)]


@_expand_by_type.register
def _(module: nn.MaxPool2d, name: str) -> _Items:
    if _pair(module.dilation) != (1, 1) or module.ceil_mode:
        raise ConfigError(
            f"stages.*.functions: layer {name} is a MaxPool2d with dilation={module.dilation} and "
            f"ceil_mode={module.ceil_mode}; allowed: dilation=1 and ceil_mode=False"
        )
    return [_Layer(name, module)]


def pool_windows(pool: nn.MaxPool2d) -> Iterator[tuple[int, int, int]]:
    """Yield size, stride and padding of a max-pool's windows, along the height and along the width."""
    return zip(_pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding))


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


@_expand_by_type.register
def _(module: nn.AdaptiveAvgPool2d, name: str) -> _Items:
    if module.output_size not in (1, (1, 1)):
        raise ConfigError(f"stages.*.functions: layer {name} is an AdaptiveAvgPool2d; allowed: to size 1")
    return [_Layer(name, module)]


@cache
def _register_torchvision() -> None:
    """Support torchvision's residual networks. Not at import, because importing torchvision takes a second."""
    from torchvision.models.resnet import BasicBlock, ResNet

    _expand_by_type.register(BasicBlock, _expand_basic_block)
    _expand_by_type.register(ResNet, _expand_resnet)


def _expand_basic_block(module: BasicBlock, name: str) -> _Items:
    branch = _expand_children(module, name, ["conv1", "bn1", "relu", "conv2", "bn2"])
    skip = [] if module.downsample is None else _expand(module.downsample, f"{name}.downsample")
    return [_Block(Sum, (branch, skip)), _Layer(f"{name}.relu", module.relu)]


def _expand_resnet(module: ResNet, name: str) -> _Items:
    trunk = _expand_children(
        module, name, ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    )
    return [*trunk, _Layer(f"{name}.flatten", nn.Flatten()), *_expand_children(module, name, ["fc"])]


@_expand_by_type.register
def _(module: FlattenPixels, name: str) -> _Items:
    return [_Layer(name, nn.Flatten(module.start_dim, module.end_dim))]


@_expand_by_type.register
def _(module: Preprocess, name: str) -> _Items:
    crop: _Items = [] if module.crop is None else [_Layer(f"{name}.crop", Crop(module.crop))]
    scale: _Items = [_Layer(name, Scale(module))] if module.normalisation == "per_channel" else []
    return crop + scale


def _expand_children(module: nn.Module, name: str, children: Sequence[str]) -> _Items:
    prefix = f"{name}." if name else ""
    return [item for child in children for item in _expand(getattr(module, child), prefix + child)]
