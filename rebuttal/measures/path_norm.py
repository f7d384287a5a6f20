"""Path norms of a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.measures.structure import Affine, Part, Pointwise, Pool, Scale, Sum, is_whitened, parts_of
from rebuttal.measures.subject import Findings, Subject, Surroundings, spread_at


@checked
class PathNorm:
    """`path_norm_l1_log10` and `path_norm_l2_log10`: the sum over all paths from an input, or a bias, to an
    output of the product of |w| along it, and the root of the sum of products of w². `_scaled`: of the norm
    divided by the spread of the logits at the test probes.

    One forward pass of |w| (w²) on the all-ones input, batch-norm folded into its convolution, residual sums
    kept, and each max-pool replaced by the sum over its window (Gonon et al. 2024, Theorem A.1). In float64,
    told as logarithms: a ResNet-18 reaches 1e30. Blind to a rescaling of hidden units.
    Where each image is whitened, the paths begin behind that: `path_norm_…_whitened`.
    """

    needs_layers: ClassVar[bool] = True

    def __call__(self, subject: Subject, around: Surroundings) -> Findings:
        if subject.network is None:
            return Findings()
        shape = tuple(next(iter(around.probes.values())).shape[1:])
        parts = parts_of(subject.network, shape)
        end = "_whitened" if is_whitened(subject.network) else ""
        scale = spread_at(subject, around.probes["test"])
        numbers: dict[str, float | None] = {}
        for power in (1, 2):
            value = path_norm(parts, shape, power)
            name = f"path_norm_l{power}_log10{end}"
            numbers[name] = float(np.log10(value)) if value > 0 else None
            numbers[f"{name}_scaled"] = float(np.log10(value / scale)) if value > 0 and scale > 0 else None
        return Findings(numbers)


@torch.no_grad()
def path_norm(parts: Sequence[Part], shape: tuple[int, ...], power: int) -> float:
    """(Σ over paths of Π |w|^power)^(1/power)."""
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return _run(parts, ones, power).sum().item() ** (1 / power)


def _run(parts: Sequence[Part], x: Tensor, power: int) -> Tensor:
    for part in parts:
        x = _step(part, x, power)
    return x


@singledispatch
def _step(part: Part, x: Tensor, power: int) -> Tensor:
    raise TypeError(part)


@_step.register
def _(part: Pointwise, x: Tensor, power: int) -> Tensor:
    return part(x)  # all values are ≥ 0, where a ReLU is the identity


@_step.register
def _(part: Pool, x: Tensor, power: int) -> Tensor:
    size = part.module.kernel_size
    return F.lp_pool2d(x, 1, size)


@_step.register
def _(part: Sum, x: Tensor, power: int) -> Tensor:
    return _run(part.branch, x, power) + _run(part.skip, x, power)


@_step.register
def _(part: Affine, x: Tensor, power: int) -> Tensor:
    first, *norm = part.modules
    if isinstance(first, nn.Linear):
        return F.linear(x, _size(first.weight, power), _size(first.bias, power))
    if isinstance(first, nn.Conv2d):
        weight, bias = _folded(first, norm[0] if norm else None)
        return F.conv2d(
            x, _size(weight, power), _size(bias, power), first.stride, first.padding, first.dilation, first.groups
        )
    if isinstance(first, Scale):
        return x * _size(1 / first.std, power) + _size(first.mean / first.std, power)
    if isinstance(first, nn.BatchNorm2d):
        scale = first.weight / (first.running_var + first.eps).sqrt()
        bias = first.bias - first.running_mean * scale
        return x * _size(scale, power)[:, None, None] + _size(bias, power)[:, None, None]
    positions = x[0, 0].numel()  # an average over all positions: each weight is 1/positions
    return x.sum(dim=(2, 3), keepdim=True) / positions**power


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """The weight and bias of a convolution with the batch-norm behind it, in evaluation mode."""
    bias = torch.zeros(conv.out_channels, dtype=conv.weight.dtype) if conv.bias is None else conv.bias
    if norm is None:
        return conv.weight, bias
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale


def _size(weight: Tensor | None, power: int) -> Tensor | None:
    return None if weight is None else weight.abs() ** power
