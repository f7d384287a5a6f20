"""One seed, many named streams: changing one use of chance never reshuffles another."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream `names`, e.g. `derive(0, "student", "order")`."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str) -> np.random.Generator:
    """NumPy's generator for a named stream.

    Data is drawn with NumPy on the CPU, whose draws come one after the other: the first n of a longer
    draw equal a draw of n, which makes data sets of different sizes nested.
    """
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def torch_stream(seed: int, *names: str):
    """Within the block torch's global generators (which layers' initialisation and dropout use) follow a
    named stream; afterwards they go on as if nothing had happened."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *names))
        yield
