"""Where a run computes, and in which precision. The device changes what is computed only by rounding."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from rebuttal.errors import ConfigError

T = TypeVar("T")


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
    """Within the block torch uses `threads` CPU threads (None: as many as before), float32 without TF32 and, on a GPU,
    deterministic convolutions; afterwards it is as it was."""
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    if threads is not None:
        torch.set_num_threads(threads)
    if resolve(device).type == "cuda":
        torch.backends.cudnn.deterministic = True
    try:
        with float32_arithmetic():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]


@contextmanager
def float32_arithmetic(tf32: bool = False) -> Iterator[None]:
    """Within the block matrix products and convolutions of float32 tensors are computed in float32 or, with `tf32`, on
    GPUs that have it, in TF32, whose factors have 10 bits of mantissa; afterwards torch's flags are as they were.

    torch's default is TF32 for convolutions only."""
    cudnn, operations = torch.backends.cudnn, _operations()
    # torch refuses to read these two if the caller has set flags of single operations.
    products = _readable(torch.get_float32_matmul_precision, "highest")
    convolutions = _readable(lambda: cudnn.allow_tf32, True)
    before = [operation.fp32_precision for operation in operations]
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    for operation in operations:
        operation.fp32_precision = "ieee"  # else it would follow torch.backends.fp32_precision
    if tf32:
        torch.backends.cuda.matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        cudnn.allow_tf32 = convolutions
        for operation, precision in zip(operations, before):
            operation.fp32_precision = precision


def _operations() -> list[Any]:
    """torch's precision flags by operation and library; before torch 2.9 there are none."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return []
    cudnn, cpu = backends.cudnn, backends.mkldnn
    return [backends.cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn]


def _readable(read: Callable[[], T], default: T) -> T:
    try:
        return read()
    except RuntimeError:
        return default


def machine() -> dict[str, Any]:
    """What decides the last bits of a result, JSON-able: processor, instruction set, GPU if this process uses one (to
    name another would start CUDA), versions and threads."""
    return {
        "cpu": _cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


@cache
def _cpu_model() -> str:
    models = [line.partition(": ")[2] for line in _cpu_facts() if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _cpu_facts() -> list[str]:
    """What Linux says of the processors, a line a fact."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16, without which they take up to hundreds of times as
    long as in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not _cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})  # the last on ARM


@cache
def _cpu_flags() -> set[str]:
    return {flag for line in _cpu_facts() if line.startswith(("flags", "Features")) for flag in line.split()}


def require_memory(size: int, what: str, device: torch.device | None = None) -> None:
    """Raise `ConfigError` if the machine, or the GPU that `device` is, has less memory than `size` bytes in all.

    The system would grant them, and kill the process when they are written to.
    """
    memory, whose = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "machine"
    if device is not None and device.type == "cuda":
        memory, whose = torch.cuda.get_device_properties(device).total_memory, "GPU"
    if size > memory:
        raise ConfigError(f"{what} take {size / 2**30:.4g} GiB; allowed: at most this {whose}'s {memory / 2**30:.4g}")
