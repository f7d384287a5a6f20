"""Examples: inputs and labels as whole tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "student", "test"]


@dataclass(frozen=True)
class Examples:
    """`inputs` (n, *shape): float32 in input space, or uint8 pixels, whose 255 is 1.0 in input space; `labels` (n,):
    int64 in 0 … classes − 1."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Examples:
        return Examples(self.inputs.to(device), self.labels.to(device))


def in_unit_range(inputs: Tensor) -> Tensor:
    """Return inputs as floats in input space: uint8 pixels divided by 255, floats unchanged."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs
