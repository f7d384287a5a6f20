"""What the figures of measures show, read from the drawn axes."""

import numpy as np
import pytest

from rebuttal.figures.measures import draw


@pytest.mark.parametrize("size", [4, 5])
def test_the_middle_of_a_heat_map_is_frequency_zero_and_the_first_row_is_below(size):
    heat = np.zeros((size, size))
    heat[size // 2, size // 2] = 1.0
    image = drawn({}, {"network": {"fourier_flips": heat}}).images[0]
    left, right, bottom, top = image.get_extent()
    cell = 1 / size
    assert image.origin == "lower"
    for low, high in ((left, right), (bottom, top)):
        assert high - low == pytest.approx(1) and low + (size // 2 + 0.5) * cell == pytest.approx(0)


def test_values_that_a_logarithmic_axis_cannot_show_are_counted():
    values = np.array([0.0, 0.0, 1.0, 2.0, 3.0])
    axes = drawn({"network": {}}, {"network": {"jacobian_frobenius_test": values}})
    assert axes.get_xlabel().endswith("(not shown: 2 of 0)")


def test_a_bound_of_the_layers_after_whitening_is_none_of_the_network():
    bounds = {"lipschitz_lower_scaled": 2.0, "lipschitz_upper_whitened_scaled": 1.0}
    assert [line.get_xdata().tolist() for line in drawn({"network": bounds}, {}).lines] == [[2.0]]
    both = {"lipschitz_lower_scaled": 2.0, "lipschitz_upper_scaled": 9.0}
    assert len(drawn({"network": both}, {}).lines) == 3


def drawn(numbers, arrays):
    """The axes of the only figure."""
    (figure,) = draw(numbers, arrays).values()
    return figure.axes[0]
