"""Mixtures of new inputs and the inputs that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from rebuttal.config import checked
from rebuttal.data.dataset import DatasetOption, Source, resized
from rebuttal.data.examples import Examples, Split, in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.seeds import generator


@checked
class Mixture:
    """Inputs x = (1 − `share`)·u + `share`·z, u an input of the dataset `new`, z a random training input of `towards`.

    A share of 0 gives `new` itself, a share of 1 training inputs of `towards`.
    """

    new: DatasetOption
    towards: DatasetOption
    share: Annotated[float, Field(ge=0, le=1)]

    def resized(self, **sizes: int) -> Mixture:
        """Return the mixture of the resized datasets."""
        return replace(self, new=resized(self.new, **sizes), towards=resized(self.towards, **sizes))

    def open(self, cache: Path) -> Source:
        new, towards = self.new.open(cache), self.towards.open(cache)
        if tuple(new.shape) != tuple(towards.shape):
            raise ConfigError(f"dataset.new: shape {list(new.shape)}; allowed: that of towards, {list(towards.shape)}")
        return MixtureSource(new, towards, self.share)


@dataclass(frozen=True)
class MixtureSource:
    """An opened `Mixture`. Labels are those of `new`."""

    new: Source
    towards: Source
    share: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.towards.shape

    @property
    def tabular(self) -> bool:
        return bool(getattr(self.towards, "tabular", False))

    @property
    def classes(self) -> int:
        return max(self.new.classes, self.towards.classes)

    def examples(self, split: Split, seed: int) -> Examples:
        new = self.new.examples(split, seed)
        training = in_unit_range(self.towards.examples("train", seed).inputs)
        chosen = torch.from_numpy(generator(seed, split, "mixture").integers(len(training), size=len(new)))
        return Examples(torch.lerp(in_unit_range(new.inputs), training[chosen], self.share), new.labels)

    def identity(self, split: Split) -> dict[str, Any]:
        new, towards = self.new.identity(split), self.towards.identity("train")
        return {"kind": "mixture", "new": new, "towards": towards, "share": self.share, "size": new["size"]}
