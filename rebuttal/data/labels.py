"""Label corruptions (Zhang et al. 2017, section 2.1): random labels for a share, or all labels permuted."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.dataset import Corruption
from rebuttal.errors import ConfigError, user_code
from rebuttal.seeds import generator, torch_stream


@checked
class RandomLabels:
    """Replace the labels of a share `fraction` of the examples, chosen at random, by labels drawn uniformly from all K
    classes; about fraction/K of all examples thus keep their true label by chance.

    Nested: with the same seed, the examples corrupted at 25 % are among those corrupted at 50 %, with the same new
    labels.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]

    def __call__(self, labels: Tensor, classes: int, seed: int) -> Tensor:
        n = len(labels)
        chosen = generator(seed, "corruption", "which").permutation(n)[: round(self.fraction * n)]
        drawn = generator(seed, "corruption", "labels").integers(classes, size=n)
        corrupted = labels.numpy().copy()
        corrupted[chosen] = drawn[chosen]
        return torch.from_numpy(corrupted)


def corrupted(corruption: Corruption, labels: Tensor, classes: int, seed: int) -> Tensor:
    """Return the labels (n,) that a corruption gives instead of the true `labels`, which it may change and nothing else
    sees, on their device; what a user's own draws from torch's global stream is decided by `seed`.

    Raises `ConfigError` if it raises anything, or gives what are no labels of these examples."""
    name = f"corruption={type(corruption).__name__}"
    with user_code(name), torch_stream(seed, "corruption", "global"):
        given = corruption(labels.cpu().clone(), classes, seed)
    allowed = f"allowed: {len(labels)} whole numbers from 0 to {classes - 1}, as int64"
    if not isinstance(given, Tensor):
        raise ConfigError(f"{name}: gives a {type(given).__name__}; {allowed}")
    if given.dtype != torch.int64 or given.shape != labels.shape:
        kind = str(given.dtype).removeprefix("torch.")
        raise ConfigError(f"{name}: gives {kind} of shape {[*given.shape]}; {allowed}")
    require_classes(given, classes, f"{name}: gives", allowed)
    return given.to(labels.device)


def require_classes(labels: Tensor, classes: int, what: str, allowed: str) -> None:
    """Raise `ConfigError`, from `what` to `allowed`, for a label outside 0 … `classes` − 1."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong) > 0:
        raise ConfigError(f"{what} the label {wrong[0].item()}; {allowed}")


def true_labels() -> RandomLabels:
    """No corruption: equal to a fraction of 0, so that both find the same networks in the store."""
    return RandomLabels(fraction=0.0)


def random_labels() -> RandomLabels:
    """Every label random: equal to a fraction of 1."""
    return RandomLabels(fraction=1.0)


@checked
class BalancedLabels:
    """Labels drawn without regard to the true ones, each class equally often, to within one."""

    def __call__(self, labels: Tensor, classes: int, seed: int) -> Tensor:
        order = generator(seed, "corruption", "balanced").permutation(len(labels))
        return torch.from_numpy((order % classes).astype(np.int64))


@checked
class PermutedLabels:
    """The true labels in a random order, which keeps class counts exactly."""

    def __call__(self, labels: Tensor, classes: int, seed: int) -> Tensor:
        order = generator(seed, "corruption", "permutation").permutation(len(labels))
        return torch.from_numpy(labels.numpy()[order].astype(np.int64))
