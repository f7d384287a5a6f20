"""The interfaces of datasets and label corruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from torch import Tensor

from rebuttal.config import Offers
from rebuttal.data.examples import Examples, Split
from rebuttal.errors import ConfigError


class Source(Protocol):
    """An opened dataset. The same seed gives the same examples on every device, and the splits share no example.

    The inputs of one with an attribute `tabular` that is true are features with units of their own:
    `preprocess=per_channel` then normalises each by itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, e.g. (3, 32, 32)."""
        ...

    @property
    def classes(self) -> int:
        """The number of classes K; labels are 0 … K − 1."""
        ...

    def examples(self, split: Split, seed: int) -> Examples:
        """Return the examples of a split. Raises `ConfigError` if the split is empty."""
        ...

    def identity(self, split: Split) -> dict[str, Any]:
        """Return everything but the seed that decides the split's examples, as JSON-serialisable values; among it
        `size`, the number of examples."""
        ...


class Dataset(Protocol):
    """A config object of the group `dataset`. It must be hashable, as frozen dataclasses are.

    If it has a class attribute `generated = True`, each seed gives examples of its own. Curves over its size change its
    fields `train_size` and `student_size`, or call its method `resized(**sizes)`.
    """

    def open(self, cache: Path) -> Source:
        """Read or generate what all splits share; `cache` is a folder for decoded data.

        Raises `ConfigError` if the data is not available."""
        ...


def resized(dataset: Dataset, **sizes: int) -> Dataset:
    """Return the dataset with other sizes (`train_size`, `student_size`). Raises `ConfigError` if it has none."""
    if hasattr(dataset, "resized"):
        return cast(Dataset, dataset.resized(**sizes))
    for name, size in sizes.items():
        if not hasattr(dataset, name):
            raise ConfigError(
                f"dataset={type(dataset).__name__}: it has no {name}, which a curve sets to {size}; allowed: datasets "
                "with that size, or with a method resized"
            )
    return cast(Dataset, replace(cast(Any, dataset), **sizes))


class Corruption(Protocol):
    """A config object of the group `corruption`: a frozen dataclass, because its fields are hashed into the identity of
    the networks trained on its labels."""

    def __call__(self, labels: Tensor, classes: int, seed: int) -> Tensor:
        """Return the labels (n,) to train on instead of the true `labels` (n,), both int64 on the CPU."""
        ...


DatasetOption = Annotated[Dataset, Offers("open", 1, "an option of the group dataset")]
CorruptionOption = Annotated[Corruption, Offers("__call__", 3, "an option of the group corruption")]
