"""A run is a guest in its process: it computes alike whatever the caller has set there, and changes nothing."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch

from rebuttal.config import ONE_AT_A_TIME
from rebuttal.signals import DEFERRED


@contextmanager
def isolated() -> Iterator[None]:
    """Within the block torch and NumPy have their usual settings, whatever the caller chose; afterwards, also after an
    error, the process is as the caller left it.

    Threads wait for each other here, because torch's settings and random generators belong to the process."""
    with ONE_AT_A_TIME, ExitStack() as stack:
        for kept in (_random_states, _torch_switches, _logging, _main_thread_signals, _paths, warnings.catch_warnings):
            stack.enter_context(kept())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext())
        # On the CPU by default; the context costs time at each call of torch, so that it is entered only if needed.
        elsewhere = torch.get_default_device().type != "cpu"
        stack.enter_context(torch.device("cpu") if elsewhere else nullcontext())
        yield


@contextmanager
def _random_states() -> Iterator[None]:
    legacy, python = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(python)


@contextmanager
def _torch_switches() -> Iterator[None]:
    """The number type of new tensors, and the choice of algorithms."""
    dtype, cudnn = torch.get_default_dtype(), torch.backends.cudnn
    deterministic = torch.get_deterministic_debug_mode()
    enabled, benchmark = cudnn.enabled, cudnn.benchmark
    torch.set_default_dtype(torch.float32)
    torch.set_deterministic_debug_mode("default")  # use_deterministic_algorithms imports torch's compiler: seconds
    cudnn.enabled, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_deterministic_debug_mode(deterministic)
        cudnn.enabled, cudnn.benchmark = enabled, benchmark


@contextmanager
def _logging() -> Iterator[None]:
    """Handlers and level of the root logger: libraries that a run imports may add to them."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)


@contextmanager
def _main_thread_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # others cannot set handlers
        yield
        return
    handlers = {number: signal.getsignal(number) for number in DEFERRED}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: not set from Python, so that a run does not replace it either
                signal.signal(number, handler)


@contextmanager
def _paths() -> Iterator[None]:
    folder, paths = Path.cwd(), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = paths
        with suppress(OSError):  # it may have been deleted meanwhile
            os.chdir(folder)
