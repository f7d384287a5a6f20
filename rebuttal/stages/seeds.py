"""Separate seeds for the uses of randomness in a training, so that its variance can be split."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeInt

from rebuttal.config import checked


@checked
class StudentSeeds:
    """Seeds of the `initialisation` and of the `order` of the examples (with dropout). None: the seed of the stage;
    each use has a stream of its own either way."""

    initialisation: NonNegativeInt | None = None
    order: NonNegativeInt | None = None

    def of(self, use: str, default: int) -> int:
        """Return the seed of a use; `default` if it is not set apart."""
        seed: int | None = getattr(self, use)
        return default if seed is None else seed

    def identity(self, *uses: str) -> dict[str, Any]:
        """Return those seeds of the given uses that are set; networks without any keep the identity they always had."""
        found = {use: seed for use in uses if (seed := getattr(self, use)) is not None}
        return {"seeds": found} if found else {}


@checked
class Seeds(StudentSeeds):
    """Also seeds of the `data` (which examples, and their true labels) and of the corrupted `labels`."""

    data: NonNegativeInt | None = None
    labels: NonNegativeInt | None = None
