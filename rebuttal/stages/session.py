"""What the stages of one run share: the device, the store, and the datasets that are open."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rebuttal.config import LIMIT, checked
from rebuttal.data.dataset import Dataset, Source
from rebuttal.data.examples import Examples, Split
from rebuttal.data.labels import require_classes
from rebuttal.device import resolve
from rebuttal.errors import ConfigError, UserError
from rebuttal.progress.status_file import StatusFile
from rebuttal.progress.trackers import Forwarder, TrackerOption
from rebuttal.store.beside import SNAPSHOT, is_log_spaced, snapshot_identity
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.store.entries import Artifact, Store
from rebuttal.store.identity import canonical, code_of, is_ours, name_of
from rebuttal.training.evaluation import Schedule
from rebuttal.training.loop import Support

KEPT_BYTES = 2 * 2**30  # of cached examples
KEPT_SPLITS = 3  # cached whatever their size: a stage may use the training, student and test examples in turn


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
    judged: bool = True  # configs of past runs do not have it
    snapshots: Literal["none", "log"] = "none"  # nor this
    evaluate: Schedule = "log"  # nor this
    stack: Literal["auto", "always", "never"] = "auto"  # nor this
    seeds_per_trial: PositiveInt = 1
    tracker: TrackerOption
    packages: tuple[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], ...]


class Session:
    """One run's resources. Datasets are read once; the examples used last stay on the device. `remedy`: see `Store`."""

    def __init__(self, settings: Settings, status: StatusFile | None = None, remedy: str | None = None):
        self.settings = settings
        self.status = status or StatusFile()
        self.forwarder = Forwarder()
        self.device = resolve(settings.device)
        self.store = Store(settings.store, force=settings.force, remedy=remedy)
        self._cache = Path(settings.store)
        self._sources: dict[Dataset, Source] = {}
        self._examples: dict[str, Examples] = {}  # by identity; the last is the most recently used
        self._writing = Lock()  # trainings may go on side by side, in threads

    def support(self, kind: str, identity: Any) -> Support:
        """The checkpoint, progress, curves and snapshots of the training that makes an artifact."""
        interval = self.settings.checkpoint
        checkpoint = Checkpoint() if interval is None else self.store.checkpoint(kind, identity, interval)
        forward = self.forwarder.watcher(name_of(kind, identity))

        def watch(row: dict[str, float]) -> None:
            with self._writing:
                self.status.epoch(row)
                forward(row)

        def snapshot(step: int, network: nn.Module) -> None:
            if self.settings.snapshots == "log" and is_log_spaced(step):
                weights = Artifact({}, network.state_dict())
                with self._writing:
                    self.store.keep(SNAPSHOT, snapshot_identity(identity, step), weights, anew=True)

        pieces = self.settings.batch_size == "auto"
        return Support(checkpoint, self.status.step, watch, in_pieces=pieces, snapshot=snapshot)

    def open(self, dataset: Dataset) -> Source:
        """The opened dataset; each is opened once. Raises `ConfigError` for a dataset that is not hashable."""
        try:
            known = dataset in self._sources
        except TypeError:
            raise ConfigError(
                f"dataset={type(dataset).__name__}: is not hashable; allowed: frozen dataclasses of hashable values"
            ) from None
        if not known:
            with code_of(dataset, f"dataset={type(dataset).__name__}"):
                source = dataset.open(self._cache)
                _check_identities(source, dataset)
            if source.classes < 2:
                raise ConfigError(
                    f"dataset={type(dataset).__name__}: its number of classes is {source.classes}; allowed: 2 or more"
                )
            self._sources[dataset] = source
        return self._sources[dataset]

    def examples(self, dataset: Dataset, split: Split, seed: int) -> Examples:
        """Return the examples of a split, on the device. Raises `ConfigError` for labels other than int64 in 0 … K − 1
        and inputs other than uint8 or finite float32.

        Examples are cached by identity, so that datasets that differ only in other splits share them. Above
        `KEPT_BYTES` the least recently used are dropped, to be drawn again when needed: a curve over sizes and seeds
        would otherwise fill the device. This is correct for every dataset. A smaller set is not made a view of a larger
        one, because not all are nested: Gaussian pixels have the statistics of their own set, a mixture's inputs depend
        on the size of another, and a user's dataset may draw as it likes."""
        source = self.open(dataset)
        key = canonical([source.identity(split), split, seed])
        if key not in self._examples:
            with code_of(dataset, f"dataset={type(dataset).__name__}"):
                drawn = source.examples(split, seed)
            _check_examples(drawn, dataset)
            _check_labels(drawn.labels, source.classes, dataset)
            _check_inputs(drawn.inputs, split, dataset)
            self._make_room(drawn.nbytes)
            self._examples[key] = drawn.to(self.device)
        self._examples[key] = self._examples.pop(key)
        return self._examples[key]

    def _make_room(self, size: int) -> None:
        """Drop the least recently used examples until `size` more bytes fit."""
        while len(self._examples) >= KEPT_SPLITS and size + sum(e.nbytes for e in self._examples.values()) > KEPT_BYTES:
            del self._examples[next(iter(self._examples))]


def _check_identities(source: Source, dataset: Dataset) -> None:
    """Raise `ValueError` if a dataset of the user's says of a split what cannot be the identity of its examples."""
    if is_ours(type(dataset)):
        return
    for split in ("train", "student", "test"):
        with suppress(UserError):  # a split that is empty is no error until it is needed
            identity = source.identity(split)
            if not isinstance(identity, dict) or not isinstance(identity.get("size"), int):
                raise ValueError(f"its identity of the {split} split is {identity!r}; allowed: a dict with its size")
            canonical(identity)


def _check_examples(drawn: object, dataset: Dataset) -> None:
    """Raise `ConfigError` for what are no inputs with a label each."""
    name = f"dataset={type(dataset).__name__}"
    if not isinstance(drawn, Examples):
        raise ConfigError(f"{name}: its examples are a {type(drawn).__name__}; allowed: rebuttal.data.Examples")
    for part, values in (("inputs", drawn.inputs), ("labels", drawn.labels)):
        if not isinstance(values, Tensor):
            raise ConfigError(f"{name}: its {part} are a {type(values).__name__}; allowed: tensors")
    if drawn.labels.ndim != 1 or len(drawn.inputs) != len(drawn.labels):
        raise ConfigError(
            f"{name}: has {len(drawn.inputs)} inputs and labels of shape {[*drawn.labels.shape]}; allowed: a label for "
            "each input"
        )


def _check_inputs(inputs: Tensor, split: Split, dataset: Dataset) -> None:
    """Raise `ConfigError` for inputs of another type than functions take, and for one that is not finite, after which
    every number would be NaN."""
    if inputs.dtype == torch.uint8:
        return
    if inputs.dtype != torch.float32:
        raise ConfigError(
            f"dataset={type(dataset).__name__}: its inputs are {str(inputs.dtype).removeprefix('torch.')}; allowed: "
            "float32, or uint8 for pixels"
        )
    wrong = (~inputs.flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        value = next(v for v in inputs[wrong[0]].flatten().tolist() if not math.isfinite(v))
        more = f", as do {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ConfigError(
            f"dataset={type(dataset).__name__}: input number {wrong[0]} (from 0) of the {split} split holds "
            f"{'NaN' if math.isnan(value) else value}{more}; allowed: finite numbers"
        )


def _check_labels(labels: Tensor, classes: int, dataset: Dataset) -> None:
    """Raise `ConfigError` for labels that a loss would refuse, on a GPU with an error that does not name them."""
    name, allowed = f"dataset={type(dataset).__name__}", f"allowed: whole numbers from 0 to {classes - 1}, as int64"
    if labels.dtype != torch.int64:
        raise ConfigError(f"{name}: its labels are {str(labels.dtype).removeprefix('torch.')}; {allowed}")
    require_classes(labels, classes, f"{name}: it has", allowed)
