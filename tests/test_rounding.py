"""No number that is printed reaches a limit that the number itself does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebuttal.rounding import FINEST, fixed, percent, significant


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        *((1.0, 0, "100%"), (1.0, 2, "100.00%"), (0.0, 1, "0.0%"), (0.5, 0, "50%"), (0.98765, 1, "98.8%")),
        *((49_999 / 50_000, 2, "99.998%"), (0.996, 0, "99.6%"), (1 / 50_000, 1, "0.002%"), (0.004, 0, "0.4%")),
        (1 - 1e-15, 0, "100%"),  # rounding of the arithmetic
    ],
)
def test_a_percentage_is_0_or_100_only_if_it_is(share, decimals, text):
    assert percent(share, decimals) == text


def test_numbers_of_numpy_are_numbers():
    assert percent(np.array([True, False]).mean()) == "50%" and fixed(np.float32(0.25), 2) == "0.25"


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 3))
def test_a_percentage_of_a_count_is_near_it_and_whole_only_for_all(right, n, decimals):
    share = min(right, n) / n
    shown = percent(share, decimals)
    assert float(shown.removesuffix("%")) == pytest.approx(100 * share, abs=0.5001 * 10**-decimals)
    assert (float(shown.removesuffix("%")) == 100) == (right >= n)
    assert (float(shown.removesuffix("%")) == 0) == (right == 0)


@given(st.floats(-2, 2), st.sampled_from([0.0, 0.85, 1.0, -0.3]), st.integers(0, 4))
def test_a_shown_number_is_on_its_side_of_the_limit(number, limit, digits):
    number = round(number, FINEST)
    for shown in (float(fixed(number, digits, (limit,))), float(significant(number, digits + 1, (limit,)))):
        assert (shown > limit, shown < limit) == (number > limit, number < limit)
