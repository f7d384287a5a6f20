"""How thoroughly measures look: numbers that several of them share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from rebuttal.config import checked


@checked
class Effort:
    """The group `measuring`: the entries of `conf/stage/smoothness.yaml` and `frequency.yaml` refer to it.

    It is read through those references; this class says what is allowed.
    """

    probes: Annotated[int, Field(ge=3)]
    climbs: NonNegativeInt
    lines: PositiveInt
    planes: PositiveInt
    resolution: Annotated[int, Field(ge=8)]
    waved: PositiveInt
    memory: PositiveInt
