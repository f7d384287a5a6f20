"""The nearest-neighbour classifier: pure memorisation of the training set."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session

ROWS, BLOCK = 512, 4096  # inputs, and training inputs, whose distances are in memory at a time


@checked
class NearestNeighbour:
    """The label of the nearest training input (Euclidean), as one-hot logits: pure memorisation of the training set."""

    fit: Fit
    differentiable: ClassVar[bool] = False
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        examples = self.fit.training_examples(session)
        inputs = in_unit_range(examples.inputs).flatten(1)
        labels = F.one_hot(examples.labels, session.open(self.fit.dataset).classes).float()

        def nearest(x: Tensor) -> Tensor:
            rows = in_unit_range(x).flatten(1).to(inputs).split(ROWS)
            return torch.cat([labels[nearest_of(row, inputs)] for row in rows])

        return nearest

    def identity(self, session: Session) -> Any:
        return {"function": "nearest_neighbour", "version": 2, "data": self.fit.data_identity(session)}


def nearest_of(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return which of `inputs` (m, d) is the nearest to each of `rows` (n, d), (n,).

    In float64 and around the mean of the inputs: in float32 ‖x‖² − 2x·y + ‖y‖² cancels for inputs that are close
    together, such as the steps of a walk, or far from 0."""
    middle = inputs[:BLOCK].double().mean(dim=0)
    rows = rows.double() - middle
    least = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
    found = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    for number, block in enumerate(inputs.split(BLOCK)):
        block = block.double() - middle
        squares, at = (block.square().sum(dim=1) - 2 * rows @ block.T).min(dim=1)
        found = torch.where(squares < least, number * BLOCK + at, found)
        least = torch.minimum(squares, least)
    return found
