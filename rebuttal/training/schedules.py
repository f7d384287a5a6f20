"""Schedules of the learning rate: options of the group `training/schedule`.

One of your own is a frozen dataclass that is called with three numbers, in epochs, and returns a factor of the base
learning rate.
"""

from __future__ import annotations

import math
from typing import Annotated, Protocol

from pydantic import Field, PositiveFloat

from rebuttal.config import Offers, checked

Factor = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Schedule(Protocol):
    """A config object of the group `training/schedule`."""

    def __call__(self, epoch: float, start: float, end: float) -> float:
        """Return the factor of the base learning rate at `epoch`, which counts fractions; `start` is the end of the
        linear warm-up, `end` the number of epochs."""
        ...


ScheduleOption = Annotated[Schedule, Offers("__call__", 3, "an option of the group training/schedule")]


@checked
class Constant:
    """The base learning rate throughout."""

    def __call__(self, epoch: float, start: float, end: float) -> float:
        return 1.0


@checked
class Exponential:
    """`decay` to the power of the whole epochs that are done (Zhang et al. 2017, appendix A)."""

    decay: Factor

    def __call__(self, epoch: float, start: float, end: float) -> float:
        return self.decay ** int(epoch)


@checked
class Cosine:
    """Half a cosine, from 1 after the warm-up to 0 at the last step (Loshchilov and Hutter 2017, without restarts)."""

    def __call__(self, epoch: float, start: float, end: float) -> float:
        return (1 + math.cos(math.pi * (epoch - start) / (end - start))) / 2


@checked
class Linear:
    """A straight line, from 1 after the warm-up to 0 at the last step."""

    def __call__(self, epoch: float, start: float, end: float) -> float:
        return (end - epoch) / (end - start)


@checked
class Triangular:
    """Straight lines: from `initial` after the warm-up to 1, at the share `peak` of the way to the end, and from there
    to `final` (Smith and Topin 2019; Jordan 2024, section 3.4)."""

    initial: Share = 0.2
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.23
    final: Share = 0.07

    def __call__(self, epoch: float, start: float, end: float) -> float:
        done = (epoch - start) / (end - start)
        if done < self.peak:
            return self.initial + (1 - self.initial) * done / self.peak
        return 1 - (1 - self.final) * (done - self.peak) / (1 - self.peak)


@checked
class Step:
    """Multiplied by `factor` at each of `milestones`, in epochs."""

    milestones: tuple[PositiveFloat, ...]
    factor: Factor

    def __call__(self, epoch: float, start: float, end: float) -> float:
        return self.factor ** sum(epoch >= milestone for milestone in self.milestones)
