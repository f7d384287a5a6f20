"""Which inputs a student asks its teacher about, other than new ones of a dataset."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rebuttal.data.examples import in_unit_range
from rebuttal.seeds import generator
from rebuttal.stages.function import Logits
from rebuttal.training.evaluation import predict

BISECTIONS = 8  # questions on the line between two inputs, which locate the boundary to 1/256 of its length


def permutation(role: str, seed: int, size: int) -> Tensor:
    """Return the numbers 0 … size − 1 in a random order, (size,), from the stream of a `role`."""
    return torch.from_numpy(generator(seed, "mimic", role).permutation(size))


def with_boundary(teacher: Logits, inputs: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Return as many inputs (n, *shape), of which a `share` lies on lines between two of the others to which the
    teacher gives different classes: the midpoint, then the midpoint of the half in which the class changes, and so on,
    `BISECTIONS` of each line. The rest are the first of `inputs`; all n are questions that the teacher answers.

    Without two classes among the first there is no boundary to find, and all `inputs` are returned."""
    count = round(share * len(inputs))
    first = in_unit_range(inputs[: len(inputs) - count])
    found = _on_lines(teacher, first, -(-count // BISECTIONS), rng)
    return inputs if found is None else torch.cat([first, found[:count]])


def _on_lines(teacher: Logits, inputs: Tensor, lines: int, rng: np.random.Generator) -> Tensor | None:
    """Return the midpoints, (lines · BISECTIONS, *shape), a line's one after the other; None without two classes."""
    classes = predict(teacher, inputs).argmax(dim=1)
    pairs = _pairs(classes.cpu().numpy(), lines, rng)
    if pairs is None:
        return None
    here, there = (inputs[torch.from_numpy(ends).to(inputs.device)] for ends in pairs.T)
    own = classes[torch.from_numpy(pairs[:, 0]).to(classes.device)]
    midpoints = []
    for _ in range(BISECTIONS):
        middle = (here + there) / 2
        same = (predict(teacher, middle).argmax(dim=1) == own).reshape(-1, *[1] * (inputs.ndim - 1))
        here, there = torch.where(same, middle, here), torch.where(same, there, middle)
        midpoints.append(middle)
    return torch.stack(midpoints, dim=1).flatten(0, 1)


def _pairs(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Draw pairs of indices, (count, 2), of inputs of different classes; None if all are of one."""
    if (classes == classes[:1]).all():
        return None
    starts = rng.integers(len(classes), size=count)
    others = [rng.choice(np.flatnonzero(classes != classes[start])) for start in starts]
    return np.stack([starts, np.array(others, dtype=starts.dtype)], axis=1)
