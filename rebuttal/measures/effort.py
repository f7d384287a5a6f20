"""Sample sizes and resolutions that several measures share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from rebuttal.config import checked


@checked
class Effort:
    """The group `measuring`, whose entries `conf/stage/smoothness.yaml` and `frequency.yaml` interpolate.

    No code reads an instance; building one validates the values.
    """

    probes: Annotated[int, Field(ge=3)]
    climbs: NonNegativeInt
    lines: PositiveInt
    planes: PositiveInt
    resolution: Annotated[int, Field(ge=8)]
    waved: PositiveInt
    memory: PositiveInt
