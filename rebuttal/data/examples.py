"""Examples: inputs and labels as whole tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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

    @property
    def nbytes(self) -> int:
        """Their size in memory, in bytes."""
        return self.inputs.nbytes + self.labels.nbytes

    def to(self, device: torch.device) -> Examples:
        return Examples(self.inputs.to(device), self.labels.to(device))


def in_unit_range(inputs: Tensor) -> Tensor:
    """Return inputs as floats in input space: uint8 pixels divided by 255, floats unchanged.

    The result is the same on every device, bit for bit: CUDA would multiply by 1/255, which rounds differently, so all
    devices but the CPU look the CPU's quotients up."""
    if inputs.dtype != torch.uint8:
        return inputs
    if inputs.device.type in ("cpu", "meta"):
        return inputs.float().div_(255)
    return look_up(_quotients(inputs.device), inputs)


def look_up(table: Tensor, inputs: Tensor) -> Tensor:
    """Return table[x] for each x of the uint8 `inputs`; `table` (256,) is on their device."""
    return table.index_select(0, inputs.reshape(-1).int()).reshape(inputs.shape)


@cache
def _quotients(device: torch.device) -> Tensor:
    """Return x/255 for x = 0 … 255 as the CPU rounds it, (256,) float32 on `device`."""
    with torch.inference_mode(False):  # tensors made in inference mode could not be used in training
        return torch.arange(256, dtype=torch.float32, device="cpu").div_(255).to(device)
