"""Where a run computes. The device never changes what is computed, only how fast."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rebuttal.errors import ConfigError


def resolve(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for here: `auto` is the GPU if there is one, else the CPU.

    Raises `ConfigError` for a GPU that is absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: no CUDA device is visible here; allowed: auto, cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def configured(device: str, threads: int | None) -> Iterator[None]:
    """Within the block torch uses `threads` CPU threads (None: as many as before) and, on a GPU, deterministic
    convolutions; afterwards it is as it was."""
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    if threads is not None:
        torch.set_num_threads(threads)
    if resolve(device).type == "cuda":
        torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]


def machine() -> dict[str, Any]:
    """What decides the last bits of a result, JSON-able: processor, instruction set, GPU, versions and threads."""
    return {
        "cpu": _cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def require_memory(size: int, what: str) -> None:
    """Raise `ConfigError` if the machine has less memory than `size` bytes in all.

    The system would grant them, and kill the process when they are written to.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ConfigError(f"{what} take {size / 2**30:.4g} GiB; allowed: at most this machine's {memory / 2**30:.4g}")
