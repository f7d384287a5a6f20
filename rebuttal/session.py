"""What the stages of one run share: the device, the store, and the datasets that are open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt

from rebuttal import device
from rebuttal.checkpoint import Checkpoint
from rebuttal.config import LIMIT, checked, option_of
from rebuttal.data.examples import Examples, Source, Split
from rebuttal.running import Running
from rebuttal.store import Store, name_of
from rebuttal.trackers import Follower
from rebuttal.training import Support


@checked
class Settings:
    """The top-level keys. Of these only the seed decides results; `name` is the experiment's, under which a
    report finds its runs."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    seed: Annotated[int, Field(ge=0, lt=LIMIT)]
    device: Literal["auto", "cpu", "cuda"]
    store: str
    force: bool
    objective: str | None
    checkpoint: NonNegativeFloat | None
    batch_size: Literal["whole", "auto"]
    threads: Annotated[int, Field(gt=0, le=1024)] | None  # where the system has not as many, OpenMP ends the process
    jobs_per_gpu: PositiveInt
    on_failure: Literal["go_on", "stop"]
    tracker: option_of("tracker", "open", arguments=2)
    packages: tuple[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], ...]


class Session:
    """One run's resources. Datasets are read once; their tensors stay on the device."""

    def __init__(self, settings: Settings, running: Running | None = None):
        self.settings = settings
        self.running = running or Running()
        self.follower = Follower()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.device: torch.device = device.resolve(settings.device)
        self.store = Store(settings.store, force=settings.force)
        self._cache = Path(settings.store)
        self._sources: dict[Any, Source] = {}
        self._examples: dict[Any, Examples] = {}

    def support(self, kind: str, identity: Any) -> Support:
        """What goes on beside the training that makes an artifact."""
        interval = self.settings.checkpoint
        checkpoint = Checkpoint() if interval is None else self.store.checkpoint(kind, identity, interval)
        watch = self.follower.rows_of(name_of(kind, identity))
        return Support(checkpoint, self.running.step, watch, in_pieces=self.settings.batch_size == "auto")

    def open(self, dataset: Any) -> Source:
        if dataset not in self._sources:
            self._sources[dataset] = dataset.open(self._cache)
        return self._sources[dataset]

    def examples(self, dataset: Any, split: Split, seed: int) -> Examples:
        key = (dataset, split, seed)
        if key not in self._examples:
            self._examples[key] = self.open(dataset).examples(split, seed).to(self.device)
        return self._examples[key]
