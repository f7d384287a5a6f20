"""Numbers for readers. None is rounded to a limit that it does not reach, or across it: 49,999 of 50,000 is no 100%."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

FINEST = 9  # decimals: what differs less is rounding of the arithmetic


def percent(share: float, decimals: int = 0) -> str:
    """Return a share in percent with so many decimals, or as many more as keep what is not 0 or 1 from being it."""
    return f"{share:.{_first(_as_percent, share, (0.0, 1.0), decimals)}%}"


def fixed(number: float, decimals: int, limits: Sequence[float] = (0.0, 1.0)) -> str:
    """Return a number with so many decimals, or as many more as keep it on its side of the limits."""
    return f"{number:,.{_first(round, number, limits, decimals)}f}"


def significant(number: float, digits: int, limits: Sequence[float] = (1.0,)) -> str:
    """Return a number with so many significant digits, or as many more as keep it on its side of the limits."""
    return f"{number:.{_first(_to_digits, number, limits, digits)}g}"


def decimals(numbers: Iterable[float], half: float, limits: Sequence[float]) -> int:
    """Return how many decimals give `half` two significant digits and keep the numbers on their sides of the limits."""
    least = max(0, 1 - math.floor(math.log10(half))) if half else 0
    return max((_first(round, number, limits, least) for number in numbers), default=least)


def _as_percent(share: float, digits: int) -> float:
    return round(share, digits + 2)


def _to_digits(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def _first(rounded: Callable[[float, int], float], number: float, limits: Sequence[float], least: int) -> int:
    """Return the smallest number of digits, of at least so many, with which no limit is reached or crossed."""
    exact = round(number, FINEST)
    for digits in range(least, FINEST):
        if all(_side(rounded(number, digits), limit) == _side(exact, limit) for limit in limits):
            return digits
    return max(least, FINEST)


def _side(number: float, limit: float) -> int:
    return int(number > limit) - int(number < limit)
