"""Functions from inputs to logits: the network of a `fit` stage, and the null functions set against it.

Each is a config object with `fit`, the stage that it comes from or stands in for, and with
`function(session)`, which gives a callable from inputs (n, *shape) to logits (n, K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.seeds import generator
from rebuttal.session import Session
from rebuttal.stages.fit import Fit

Function = Callable[[Tensor], Tensor]


@checked
class Trained:
    """The network that `fit` trained, in evaluation mode."""

    fit: Fit

    def function(self, session: Session) -> Function:
        return self.fit.network(session)

    def identity(self, session: Session) -> Any:
        return {"function": "trained", "fit": self.fit.identity(session)}


@checked
class Untrained:
    """The same network before its first step: same architecture, same initial weights."""

    fit: Fit

    def function(self, session: Session) -> Function:
        return self.fit.initial_network(session).eval()

    def identity(self, session: Session) -> Any:
        return {"function": "untrained", "fit": self.fit.initial_identity(session)}


@checked
class Hash:
    """A fixed pseudo-random answer for each input, unrelated to that of any other input, however near.

    Logits are independent standard normals, so the labels are uniform. There is nothing to learn: a
    student's kappa must be 0.
    """

    fit: Fit

    def function(self, session: Session) -> Function:
        return HashFunction.draw(session.open(self.fit.dataset).classes, self.fit.seed)

    def identity(self, session: Session) -> Any:
        classes = session.open(self.fit.dataset).classes
        return {"function": "hash", "version": 1, "classes": classes, "seed": self.fit.seed}


@dataclass(frozen=True)
class HashFunction:
    """logit_k(x) = Φ⁻¹(u_k), where u_k are the top 24 bits of mix(Σ_i a_i·bits(x_i) + b_k) modulo 2^64.

    bits(x_i) is coordinate i as a float32 bit pattern and a_i an odd pseudo-random number; mix is
    SplitMix64's finaliser (Steele et al. 2014), so that one changed bit changes every logit.
    """

    keys: tuple[int, ...]
    seed: int

    @classmethod
    def draw(cls, classes: int, seed: int) -> HashFunction:
        keys = generator(seed, "hash", "classes").integers(-(2**63), 2**63 - 1, size=classes)
        return cls(tuple(keys.tolist()), seed)

    def __call__(self, inputs: Tensor) -> Tensor:
        bits = in_unit_range(inputs).flatten(1).contiguous().view(torch.int32).cpu().numpy().astype(np.uint64)
        factors = generator(self.seed, "hash", "inputs").integers(2**63, size=bits.shape[1]).astype(np.uint64)
        sums = (bits * (2 * factors + 1)).sum(axis=1, dtype=np.uint64)
        words = _mix(sums[:, None] + np.array(self.keys, dtype=np.int64).astype(np.uint64))
        uniform = ((words >> np.uint64(40)).astype(np.float64) + 0.5) / 2**24
        return torch.special.ndtri(torch.from_numpy(uniform)).float().to(inputs.device)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
