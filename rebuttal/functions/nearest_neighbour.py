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

NEIGHBOUR_ROWS = 512  # inputs whose distances to all training inputs are in memory at a time


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
            rows = in_unit_range(x).flatten(1).to(inputs).split(NEIGHBOUR_ROWS)
            return torch.cat([labels[torch.cdist(row, inputs).argmin(dim=1)] for row in rows])

        return nearest

    def identity(self, session: Session) -> Any:
        return {"function": "nearest_neighbour", "version": 1, "data": self.fit.data_identity(session)}
