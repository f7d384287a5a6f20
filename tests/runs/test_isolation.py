import logging
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rebuttal.runs.isolation import isolated


def state():
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "random": (random.getstate(), str(np.random.get_state()), torch.default_generator.get_state().tolist()),
        "numpy": np.geterr(),
        "logging": (list(logging.getLogger().handlers), logging.getLogger().level, logging.root.manager.disable),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)],
        "paths": (Path.cwd(), list(sys.path)),
        "warnings": list(warnings.filters),
    }


USUAL = state() | {"deterministic": (False, False), "device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture
def unusual(tmp_path, monkeypatch):
    """A caller that has set everything otherwise than it is usual."""
    monkeypatch.chdir(tmp_path)
    before, handler = state(), logging.NullHandler()
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: None)
    logging.getLogger().addHandler(handler)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), np.errstate(all="raise"):
        yield
    signal.signal(signal.SIGUSR2, previous)
    logging.getLogger().removeHandler(handler)
    torch.set_default_dtype(before["dtype"])
    torch.set_default_device(before["device"])
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def mess(folder):
    random.random()
    np.random.rand()
    torch.rand(1, device="cpu")
    torch.set_default_dtype(torch.float16)
    torch.use_deterministic_algorithms(True, warn_only=True)
    logging.getLogger().addHandler(logging.StreamHandler())
    logging.getLogger().setLevel("DEBUG")
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    sys.path.insert(0, "elsewhere")
    os.chdir(folder)


def test_within_it_torch_is_as_usual_whatever_the_caller_has_set(unusual):
    with isolated():
        for name in ("dtype", "device", "deterministic", "modes"):
            assert state()[name] == USUAL[name], name
        assert np.geterr() == {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
        assert torch.ones(2, requires_grad=True).sum().requires_grad


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_process_is_as_it_was(fails, unusual, tmp_path):
    (tmp_path / "other").mkdir()
    before = state()
    try:
        with isolated():
            mess(tmp_path / "other")
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert state() == before


def test_threads_wait_for_each_other():
    inside, most = [], []

    def enter():
        with isolated():
            inside.append(1)
            most.append(len(inside))
            torch.randn(100, 100) @ torch.randn(100, 100)
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
