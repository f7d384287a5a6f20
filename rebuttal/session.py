"""What the stages of one run share: the device, the store, and the datasets that are open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt

from rebuttal import device
from rebuttal.config import checked
from rebuttal.data.examples import Examples, Source, Split
from rebuttal.store import Store


@checked
class Settings:
    """The top-level keys. Of these only the seed decides results; `name` is the experiment's, under which a
    report finds its runs."""

    name: str
    seed: NonNegativeInt
    device: Literal["auto", "cpu", "cuda"]
    store: str
    force: bool
    objective: str | None


class Session:
    """One run's resources. Datasets are read once; their tensors stay on the device."""

    def __init__(self, settings: Settings):
        self.device: torch.device = device.resolve(settings.device)
        self.store = Store(settings.store, force=settings.force)
        self._cache = Path(settings.store)
        self._sources: dict[Any, Source] = {}
        self._examples: dict[Any, Examples] = {}

    def open(self, dataset: Any) -> Source:
        if dataset not in self._sources:
            self._sources[dataset] = dataset.open(self._cache)
        return self._sources[dataset]

    def examples(self, dataset: Any, split: Split, seed: int) -> Examples:
        key = (dataset, split, seed)
        if key not in self._examples:
            self._examples[key] = self.open(dataset).examples(split, seed).to(self.device)
        return self._examples[key]
