"""What several convolutional models are built of: layers side by side, and He's initial weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """branch(x) + skip(x)."""

    def __init__(self, branch: nn.Module, skip: nn.Module):
        super().__init__()
        self.branch = branch
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.branch(x) + self.skip(x)
        return total


class Concatenation(nn.Module):
    """The outputs of several branches for the same input, one after the other along the channels (dimension 1)."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def he_initialised(convolution: nn.Conv2d, mode: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    """Apply He initialisation (2015), without which a deep network without batch-norm does not start to learn.

    `mode`: `fan_in` keeps the variance of what goes forward, `fan_out` that of gradients; they differ where a layer
    has other numbers of inputs and outputs."""
    nn.init.kaiming_normal_(convolution.weight, mode=mode, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
