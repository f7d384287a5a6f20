"""Parameters of tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def some_slow(values: Iterable[Any], *slow: Any) -> list[Any]:
    """The values of a parameter in their order, of which the fast suite leaves out the `slow` ones."""
    return [pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values]
