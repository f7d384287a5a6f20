"""One training, prepared by a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from rebuttal.errors import TrainingError
from rebuttal.training.evaluation import Evaluation
from rebuttal.training.loop import Support, train
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import Loss


@dataclass
class Member:
    """A training that is prepared, to be carried out alone or in a stack; see `loop.train` for the fields. `history`: a
    row an epoch, once it is carried out. `failed`: what ended it beside others, which go on. `kept`: what the stage
    needs again afterwards."""

    network: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss
    recipe: Recipe
    order: np.random.Generator
    evaluation: Evaluation | None
    name: str
    support: Support = field(default_factory=Support)
    augmentation_seed: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    failed: TrainingError | None = None

    def last_logits(self, accuracy: str) -> Tensor | None:
        """Return the logits from which an accuracy was taken last; None if a finished training was resumed."""
        return None if self.evaluation is None else self.evaluation.logits.get(accuracy)

    def train_alone(self) -> None:
        """Carry the training out, or what is left of it."""
        self.history = train(
            self.network,
            self.inputs,
            self.targets,
            self.loss,
            self.recipe,
            self.order,
            self.evaluation,
            self.name,
            self.support,
            self.augmentation_seed,
        )
