"""The interface of models."""

from __future__ import annotations

from typing import Annotated, Protocol

from torch import nn

from rebuttal.config import Offers


class Model(Protocol):
    """A config object of the group `model`: an architecture for any input shape and number of classes.

    It is a frozen dataclass, because its fields are hashed into the identity of its networks. `network` must work
    within `torch.device("meta")`, where tensors have shapes but no values, and must draw its initial weights from
    torch's global generator.

    The network may have `initialise_from(inputs)`, which is called once before training with at most 5,000 training
    inputs (n, *shape), preprocessed, and may set weights; it must draw nothing at random. It may have
    `start_epoch(epoch)`, which is called before each epoch 1, 2, … and may say which weights are trained from then on.
    """

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Return a newly initialised network from inputs (n, *shape), float32, to logits (n, classes).

        Raises `ConfigError` for a shape that the architecture cannot take."""
        ...


ModelOption = Annotated[Model, Offers("network", 2, "an option of the group model")]
