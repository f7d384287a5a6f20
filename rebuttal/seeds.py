"""One seed, many named random streams: changing one use of randomness never changes another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: str) -> int:
    """Return a 63-bit seed for the stream `names`, e.g. `derive(0, "student", "order")`."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return NumPy's generator for a named stream.

    Data is drawn with NumPy on the CPU, whose draws are sequential: the first n of a longer draw equal a draw of n,
    so that datasets of different sizes are nested.
    """
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def torch_stream(seed: int, *names: str) -> Iterator[None]:
    """Within the block the global generators follow a named stream: torch's, which layers' initialisation and dropout
    use, and NumPy's and Python's, which a user's model may use. Afterwards they are as they were.

    Of CUDA's generators only that of the current device. This never starts CUDA: if CUDA starts within the block, its
    generator begins with the stream, and if after the block, with the seed that torch's had before."""
    stream = derive(seed, *names)
    legacy, python = np.random.get_state(), random.getstate()
    in_use = torch.cuda.is_initialized()
    before = torch.initial_seed()
    with torch.random.fork_rng([torch.cuda.current_device()] if in_use else [], device_type="cuda"):
        torch.default_generator.manual_seed(stream)
        torch.cuda.manual_seed(stream)  # postponed until CUDA starts
        np.random.seed(stream % 2**32)
        random.seed(stream)
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(python)
            if not in_use:
                torch.cuda.manual_seed(before)
