"""What every dataset gives: examples as whole tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Split = Literal["train", "student", "test"]


@dataclass(frozen=True)
class Examples:
    """`inputs` (n, *shape): float32 in input space, or uint8 pixels, 255 of which are 1.0 there;
    `labels` (n,) int64 in 0 … classes − 1."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Examples:
        return Examples(self.inputs.to(device), self.labels.to(device))


class Source(Protocol):
    """An opened dataset. Same seed, same examples, on every device."""

    shape: tuple[int, ...]
    classes: int

    def examples(self, split: Split, seed: int) -> Examples:
        """Raises `ConfigError` where the split holds nothing."""

    def identity(self, split: Split) -> Any:
        """JSON-able: everything but the seed that decides the split's examples."""


def in_unit_range(inputs: Tensor) -> Tensor:
    """Inputs as floats in input space: uint8 pixels divided by 255, floats as they are."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs
