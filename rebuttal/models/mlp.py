"""Fully connected ReLU networks; without hidden layers, the linear classifier."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from rebuttal.config import checked


@checked
class MLP:
    """A multilayer perceptron. `hidden`: units of each hidden layer; Zhang et al. 2017 use (512, 512, 512) and (512,).
    `dropout`: probability of dropping a hidden unit during training; 0 adds no dropout layers."""

    hidden: tuple[PositiveInt, ...]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        widths = (prod(shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if self.dropout > 0:
                layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
