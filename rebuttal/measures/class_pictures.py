"""Pictures of a function's classes on planes: into how many regions they fall apart, how well they compress."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import scipy  # which imports its parts when they are used
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.agreement import centred
from rebuttal.measures.measure import Findings, Probes, Subject, distribution, evaluate
from rebuttal.measures.plane import Plane


@checked
class ClassPictures:
    """On `planes` planes through three random probes of one kind, each at `resolution`² points of the square twice as
    wide as the one around its triangle, as means over the planes:

    `fragmentation_<kind>`: the connected regions of equal predicted class, where a cell has four neighbours (Somepalli
    et al. 2022: the fragmentation score). At most the number of cells; a region thinner than a cell may be
    missed, so compare equal resolutions only.

    `lempel_ziv_<kind>`: the complexity K_LZ of Dingle, Camargo & Louis 2018 and Valle-Pérez et al. 2019, in bits, of
    the string of n = `resolution`² bits [f_k > mean over the classes], read row by row from the bottom, every other row
    backwards; the mean over k. For two classes it is the complexity of the predicted class. log2(n) for a constant,
    about n for random bits.

    None if no three probes span a plane. Cost for each kind: `planes` · `resolution`² forward passes, and K strings a
    plane that are parsed on the CPU.
    """

    planes: PositiveInt
    resolution: Annotated[int, Field(ge=8)]

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            planes = Plane.some(inputs, self.planes, probes.rng)
            pictures = [self._picture(subject, plane) for plane in planes]
            for i, name in enumerate(("fragmentation", "lempel_ziv")):
                values = torch.tensor([picture[i] for picture in pictures], dtype=torch.float64)
                found |= distribution(f"{name}_{kind}", values) if pictures else Findings({f"{name}_{kind}": None})
        return found

    def _picture(self, subject: Subject, plane: Plane) -> tuple[float, float]:
        """Return the regions and the complexity of the picture on one plane."""
        logits = evaluate(subject, plane.grid(self.resolution)).cpu()
        classes = logits.argmax(dim=1).reshape(self.resolution, -1).numpy()
        bits = (centred(logits) > 0).T.reshape(-1, self.resolution, self.resolution)
        return float(regions(classes)), float(np.mean([lempel_ziv(boustrophedon(each)) for each in bits]))


def regions(classes: np.ndarray) -> int:
    """Return the number of connected regions of equal class in a picture (H, W), by four neighbours."""
    return sum(int(scipy.ndimage.label(classes == each)[1]) for each in np.unique(classes))


def boustrophedon(bits: Tensor) -> str:
    """Return a picture (H, W) of bits as a string, row by row, every other row backwards: what follows each other in
    the string are neighbours in the picture."""
    rows = bits.clone()
    rows[1::2] = rows[1::2].flip(1)
    return "".join("1" if bit else "0" for bit in rows.flatten().tolist())


def lempel_ziv(string: str) -> float:
    """Return K_LZ of a string of n symbols: log2(n) for a constant, else log2(n) times the mean of the numbers of
    phrases of the string and of its reverse."""
    scale = float(np.log2(len(string)))
    if len(set(string)) == 1:
        return scale
    return scale * (phrases(string) + phrases(string[::-1])) / 2


def phrases(string: str) -> int:
    """Return the number of phrases of Lempel & Ziv 1976: each is the shortest that has not occurred before, where an
    occurrence may overlap it; the last may be cut off by the end."""
    count = start = 0
    while start < len(string):
        length, at = 1, 0
        # A longer phrase occurs no earlier than its beginning does.
        while start + length <= len(string):
            at = string.find(string[start : start + length], at, start + length - 1)
            if at < 0:
                break
            length += 1
            while start + length <= len(string) and string[at + length - 1] == string[start + length - 1]:
                length += 1
        count += 1
        start += length
    return count
