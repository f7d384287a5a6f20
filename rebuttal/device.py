"""Where a run computes. The device never changes what is computed, only how fast."""

from __future__ import annotations

import torch

from rebuttal.errors import ConfigError


def resolve(name: str) -> torch.device:
    """`auto` is the GPU where there is one, else the CPU. Raises `ConfigError` for an absent GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: no CUDA device is visible here; allowed: auto, cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        torch.backends.cudnn.deterministic = True
    return torch.device(name)
