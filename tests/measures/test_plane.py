import numpy as np
import pytest
import torch

from rebuttal.errors import ConfigError
from rebuttal.measures.plane import Plane


def test_a_slice_goes_through_its_three_inputs():
    inputs = torch.rand(3, 3, 4, 5)
    plane = Plane.through(inputs)
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64), atol=1e-12)
    on_plane = plane.origin.flatten() + torch.from_numpy(plane.corners) @ plane.axes
    assert torch.allclose(on_plane.float().reshape(3, 3, 4, 5), inputs, atol=1e-6)
    # Distances along the axes are distances in input space.
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(plane.corners[i] - plane.corners[j]) == pytest.approx(
            (inputs[i] - inputs[j]).norm().item()
        )


def test_the_grid_runs_over_the_extent_row_by_row_from_the_bottom_left():
    plane = Plane.through(torch.rand(3, 6))
    grid = plane.grid(5)
    coordinates = (grid.double() - plane.origin) @ plane.axes.T
    left, right, bottom, top = plane.extent
    assert coordinates[0].tolist() == pytest.approx([left, bottom], abs=1e-5)
    assert coordinates[4].tolist() == pytest.approx([right, bottom], abs=1e-5)
    assert coordinates[-1].tolist() == pytest.approx([right, top], abs=1e-5)


def test_a_resized_slice_has_the_same_middle_and_as_many_sides_of_the_triangle_s_square():
    plane = Plane.through(torch.rand(3, 6))
    side = np.ptp(plane.corners, axis=0).max()
    for sides in (1, 2, 3.5):
        resized = plane.resized(sides)
        left, right, bottom, top = resized.extent
        assert right - left == pytest.approx(sides * side) and top - bottom == pytest.approx(sides * side)
        assert [(left + right) / 2, (bottom + top) / 2] == pytest.approx(plane.corners.mean(axis=0).tolist())
    assert plane.resized(2).extent == pytest.approx(plane.extent)


def test_inputs_on_one_line_have_no_plane():
    direction = torch.rand(6)
    with pytest.raises(ConfigError, match="on one line"):
        Plane.through(torch.stack([direction, 2 * direction, 3 * direction]))
    with pytest.raises(ConfigError, match="on one line"):
        Plane.through(direction.expand(3, 6))


def test_a_random_slice_goes_through_the_first_input_and_is_as_large_as_their_distance():
    inputs = torch.rand(2, 3, 8, 8)
    plane = Plane.random(inputs, np.random.default_rng(0))
    assert torch.equal(plane.origin, inputs[0])
    distance = (inputs[1] - inputs[0]).norm().item()
    assert np.linalg.norm(plane.corners[1]) == pytest.approx(distance, rel=1e-5)
    assert np.linalg.norm(plane.corners[2]) == pytest.approx(distance, rel=1e-5)
    other = Plane.random(inputs, np.random.default_rng(1))
    assert (plane.axes @ other.axes.T).abs().max() < 0.5  # unrelated directions in 192 dimensions
