"""Where a run computes. The device never changes what is computed, only how fast."""

from __future__ import annotations

import os

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


def require_memory(size: int, what: str) -> None:
    """Raises `ConfigError` where the machine has less memory than `size` bytes, all of it counted. The system would
    grant them, and kill the process when they are written to."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise ConfigError(f"{what} take {size / 2**30:.4g} GiB; allowed: at most this machine's {there / 2**30:.4g}")
