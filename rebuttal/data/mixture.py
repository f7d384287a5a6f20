"""Inputs on the way from new ones to those that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from rebuttal.config import checked, option_of
from rebuttal.data.examples import Examples, Source, Split, in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.seeds import generator


@checked
class Mixture:
    """x = (1 − `share`)·u + `share`·z: u an input of the dataset `new`, z a random training input of `towards`.

    `share` 0 is `new` itself; 1 repeats training inputs of `towards`.
    """

    new: option_of("dataset", "open")
    towards: option_of("dataset", "open")
    share: Annotated[float, Field(ge=0, le=1)]

    def open(self, cache: Path) -> Source:
        new, towards = self.new.open(cache), self.towards.open(cache)
        if tuple(new.shape) != tuple(towards.shape):
            raise ConfigError(f"dataset.new: shape {list(new.shape)}; allowed: that of towards, {list(towards.shape)}")
        return MixtureSource(new, towards, self.share)


@dataclass(frozen=True)
class MixtureSource:
    """An opened `Mixture`; its labels are those of `new`."""

    new: Source
    towards: Source
    share: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.towards.shape

    @property
    def classes(self) -> int:
        return self.towards.classes

    def examples(self, split: Split, seed: int) -> Examples:
        fresh = self.new.examples(split, seed)
        known = in_unit_range(self.towards.examples("train", seed).inputs)
        chosen = torch.from_numpy(generator(seed, split, "mixture").integers(len(known), size=len(fresh)))
        return Examples(torch.lerp(in_unit_range(fresh.inputs), known[chosen], self.share), fresh.labels)

    def identity(self, split: Split) -> Any:
        new, towards = self.new.identity(split), self.towards.identity("train")
        return {"kind": "mixture", "new": new, "towards": towards, "share": self.share, "size": new["size"]}
