"""What the stages of one run share: the device, the store, and the datasets that are open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from rebuttal.config import LIMIT, checked
from rebuttal.data.dataset import Dataset, Source
from rebuttal.data.examples import Examples, Split
from rebuttal.device import resolve
from rebuttal.errors import ConfigError
from rebuttal.progress.status_file import StatusFile
from rebuttal.progress.trackers import Forwarder, TrackerOption
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.store.entries import Store
from rebuttal.store.identity import name_of
from rebuttal.training.loop import Support


@checked
class Settings:
    """The top-level keys. Of these only the seed decides results; `name` is the experiment's, by which a report
    finds its runs."""

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
    tracker: TrackerOption
    packages: tuple[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], ...]


class Session:
    """One run's resources. Datasets are read once; their tensors stay on the device."""

    def __init__(self, settings: Settings, status: StatusFile | None = None):
        self.settings = settings
        self.status = status or StatusFile()
        self.forwarder = Forwarder()
        self.device = resolve(settings.device)
        self.store = Store(settings.store, force=settings.force)
        self._cache = Path(settings.store)
        self._sources: dict[Dataset, Source] = {}
        self._examples: dict[tuple[Dataset, Split, int], Examples] = {}

    def support(self, kind: str, identity: Any) -> Support:
        """The checkpoint, progress and curves of the training that makes an artifact."""
        interval = self.settings.checkpoint
        checkpoint = Checkpoint() if interval is None else self.store.checkpoint(kind, identity, interval)
        watch = self.forwarder.watcher(name_of(kind, identity))
        return Support(checkpoint, self.status.step, watch, in_pieces=self.settings.batch_size == "auto")

    def open(self, dataset: Dataset) -> Source:
        """The opened dataset; each is opened once. Raises `ConfigError` for a dataset that is not hashable."""
        try:
            known = dataset in self._sources
        except TypeError:
            raise ConfigError(
                f"dataset={type(dataset).__name__}: is not hashable; allowed: frozen dataclasses of hashable values"
            ) from None
        if not known:
            self._sources[dataset] = dataset.open(self._cache)
        return self._sources[dataset]

    def examples(self, dataset: Dataset, split: Split, seed: int) -> Examples:
        """The examples of a split, on the device; each is drawn once."""
        key = (dataset, split, seed)
        if key not in self._examples:
            self._examples[key] = self.open(dataset).examples(split, seed).to(self.device)
        return self._examples[key]
