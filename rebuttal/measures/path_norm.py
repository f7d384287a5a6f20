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
from rebuttal.measures.layers import (
    Affine,
    Joined,
    Part,
    Pointwise,
    Pool,
    Scale,
    Sum,
    batch_norm_bias,
    batch_norm_scale,
    folded,
    is_whitened,
    padding_of,
    parts_of,
    pool_windows,
    unsupported,
)
from rebuttal.measures.measure import Findings, Probes, Subject, spread_at


@checked
class PathNorm:
    """`path_norm_l1_log10` and `path_norm_l2_log10`: the sum over all paths from an input, or a bias, to an
    output of the product of |w| along it, and the root of the sum of products of w². `_scaled`: of the norm
    divided by the spread of the logits at the test probes.

    Computed by one forward pass of |w| (w²) on the all-ones input, with batch-norm folded into its convolution,
    residual sums and concatenations kept, and each max-pool replaced by the sum over its window (Gonon et al. 2024,
    Theorem A.1).
    In float64, reported as logarithms: a ResNet-18 reaches 1e30. Invariant to a rescaling of hidden units.
    Undefined with local response normalisation, through which no path leads whose weights could be multiplied.
    If each image is whitened, the paths begin after whitening: `path_norm_…_whitened`.
    """

    needs_layers: ClassVar[bool] = True
    needs_paths: ClassVar[bool] = True

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        if subject.network is None or unsupported(subject.network, paths=True):
            return Findings()
        parts = parts_of(subject.network, probes.shape)
        end = "_whitened" if is_whitened(subject.network) else ""
        scale = spread_at(subject, probes.inputs["test"])
        numbers: dict[str, float | None] = {}
        for power in (1, 2):
            value = path_norm(parts, probes.shape, power)
            name = f"path_norm_l{power}_log10{end}"
            numbers[name] = float(np.log10(value)) if value > 0 else None
            numbers[f"{name}_scaled"] = float(np.log10(value / scale)) if value > 0 and scale > 0 else None
        return Findings(numbers)


@torch.no_grad()
def path_norm(parts: Sequence[Part], shape: tuple[int, ...], power: int) -> float:
    """Return (Σ over paths of Π |w|^power)^(1/power)."""
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return float(_propagate(parts, ones, power).sum().item() ** (1 / power))


def _propagate(parts: Sequence[Part], x: Tensor, power: int) -> Tensor:
    """Apply the parts to x ≥ 0 with every weight w replaced by |w|^power."""
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
    size, stride, padding = zip(*pool_windows(part.module))
    return F.avg_pool2d(x, size, stride, padding, divisor_override=1)


@_step.register
def _(part: Sum, x: Tensor, power: int) -> Tensor:
    return _propagate(part.branch, x, power) + _propagate(part.skip, x, power)


@_step.register
def _(part: Joined, x: Tensor, power: int) -> Tensor:
    return torch.cat([_propagate(branch, x, power) for branch in part.branches], dim=1)


@_step.register
def _(part: Affine, x: Tensor, power: int) -> Tensor:
    module = part.module
    if isinstance(module, nn.Linear):
        offset = None if module.bias is None else _magnitude(module.bias, power)
        return F.linear(x, _magnitude(module.weight, power), offset)
    if isinstance(module, nn.Conv2d):
        weight, bias = (_magnitude(w, power) for w in folded(module, part.batch_norm))
        return F.conv2d(x, weight, bias, module.stride, padding_of(module), module.dilation, module.groups)
    if isinstance(module, Scale):
        return x * _magnitude(1 / module.std, power) + _magnitude(module.mean / module.std, power)
    if isinstance(module, nn.BatchNorm2d):
        scale = batch_norm_scale(module)
        bias = batch_norm_bias(module) - module.get_buffer("running_mean") * scale
        return x * _magnitude(scale, power)[:, None, None] + _magnitude(bias, power)[:, None, None]
    positions = x[0, 0].numel()  # an average over all positions: each weight is 1/positions
    average: Tensor = x.sum(dim=(2, 3), keepdim=True) / positions**power
    return average


def _magnitude(weight: Tensor, power: int) -> Tensor:
    magnitude: Tensor = weight.abs() ** power
    return magnitude
