"""A fixed pseudo-random label for each input, of which nothing can be learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.seeds import generator
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session


@checked
class Hash:
    """Fixed pseudo-random logits for each input, unrelated to those of any other input, however near.

    Logits are independent standard normals, so labels are uniform. Nothing can be learnt of it: a student's kappa must
    be 0.
    """

    fit: Fit
    differentiable: ClassVar[bool] = False
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        return HashFunction.draw(session.open(self.fit.dataset).classes, self.fit.seed)

    def identity(self, session: Session) -> Any:
        classes = session.open(self.fit.dataset).classes
        return {"function": "hash", "version": 1, "classes": classes, "seed": self.fit.seed}


@dataclass(frozen=True)
class HashFunction:
    """logit_k(x) = Φ⁻¹((t_k + ½)/2^24), where t_k is the top 24 bits of mix(Σ_i a_i·bits(x_i) + b_k) modulo 2^64.

    bits(x_i) is the float32 bit pattern of coordinate i, a_i an odd pseudo-random number drawn from `seed`, b_k one of
    `keys`; mix is SplitMix64's finaliser (Steele et al. 2014), so that one changed bit changes every logit.
    """

    keys: tuple[int, ...]
    seed: int

    @classmethod
    def draw(cls, classes: int, seed: int) -> HashFunction:
        """Draw the hash of a seed, with one key per class."""
        keys = generator(seed, "hash", "classes").integers(-(2**63), 2**63 - 1, size=classes)
        return cls(tuple(keys.tolist()), seed)

    def __call__(self, inputs: Tensor) -> Tensor:
        bits = in_unit_range(inputs).flatten(1).contiguous().view(torch.int32).cpu().numpy().astype(np.uint64)
        factors = generator(self.seed, "hash", "inputs").integers(2**63, size=bits.shape[1]).astype(np.uint64)
        sums = (bits * (2 * factors + 1)).sum(axis=1, dtype=np.uint64)
        words = _mix(sums[:, None] + np.array(self.keys, dtype=np.int64).astype(np.uint64))
        uniform = ((words >> np.uint64(40)).astype(np.float64) + 0.5) / 2**24
        normal: Tensor = torch.special.ndtri(torch.from_numpy(uniform))
        return normal.float().to(inputs.device)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
