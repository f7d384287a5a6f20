from dataclasses import replace

import numpy as np
import pytest
import torch

from rebuttal.functions.hash import HashFunction
from rebuttal.measures.class_pictures import ClassPictures, boustrophedon, lempel_ziv, phrases, regions
from rebuttal.measures.plane import Plane
from tests.measures.conftest import linear, subject

TRIANGLE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # the picture is a square of side 2 around (⅓, ⅓)
MEASURE = ClassPictures(planes=2, resolution=32)


@pytest.mark.parametrize(
    ("string", "words"),
    [
        ("0001101001000101", 6),  # 0·001·10·100·1000·101 (Kaspar & Schuster 1987)
        ("0" * 16, 2),  # 0·000…
        ("01" * 8, 3),  # 0·1·0101…
        ("0", 1),
        ("10", 2),
        ("1001111011000010", 6),  # 1·0·01·1110·1100·0010 (Lempel & Ziv 1976)
    ],
)
def test_phrases_of_published_strings(string, words):
    assert phrases(string) == words


def slow_phrases(s):
    """Kaspar & Schuster 1987, figure 1, in its own words."""
    n, c, length, i, k, k_max = len(s), 1, 1, 0, 1, 1
    while n > 1:
        if s[i + k - 1] == s[length + k - 1]:
            k += 1
            if length + k > n:
                return c + 1
            continue
        k_max = max(k, k_max)
        i += 1
        if i == length:
            c, length = c + 1, length + k_max
            if length + 1 > n:
                return c
            i, k, k_max = 0, 1, 1
        else:
            k = 1
    return c


def test_phrases_equal_those_of_another_algorithm():
    rng = np.random.default_rng(0)
    for n in range(1, 120):
        string = "".join(rng.choice(["0", "1"], n, p=[0.3, 0.7]))
        assert phrases(string) == slow_phrases(string), string


def test_complexity_is_normalised_as_published():
    assert lempel_ziv("0" * 64) == lempel_ziv("1" * 64) == 6.0  # log2(n)
    string = "0001101001000101"
    assert lempel_ziv(string) == 4 * (6 + phrases(string[::-1])) / 2 == lempel_ziv(string[::-1])
    bits = "".join(np.random.default_rng(0).choice(["0", "1"], 4096))
    assert lempel_ziv(bits) == pytest.approx(4096, rel=0.15)


def test_rows_are_read_to_and_fro():
    assert boustrophedon(torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 0]], dtype=torch.bool)) == "001110100"


def test_regions_have_four_neighbours():
    assert regions(np.zeros((4, 5), dtype=int)) == 1
    assert regions(np.arange(20).reshape(4, 5)) == 20
    assert regions(np.indices((4, 5)).sum(axis=0) % 2) == 20  # a chessboard: diagonals do not connect
    assert regions(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])) == 2


@pytest.mark.parametrize(
    ("weight", "bias", "count"),
    [
        ([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0], 2),  # half-planes
        ([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.0, 0.0, 0.0], 3),  # sectors
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 0.3], 3),  # a strip between half-planes
        ([[1.0, 0.0], [-1.0, 0.0]], [9.0, 0.0], 1),  # a boundary out of the picture
    ],
)
def test_the_regions_of_a_linear_classifier_are_counted(weight, bias, count, make_probes):
    function = linear(torch.tensor(weight), torch.tensor(bias))
    found = MEASURE(subject(function, len(bias)), make_probes(test=TRIANGLE)).numbers
    assert found["fragmentation_test"] == found["fragmentation_test_low"] == count


def test_stripes_are_counted_and_of_little_complexity(make_probes):
    """Of width ¼, tilted as the plane is: as many as the phase goes through between two corners of the picture."""

    def phase(x):
        return 4 * x[:, :1] + 0.3

    def stripes(x):
        wave = torch.sin(torch.pi * phase(x))
        return torch.cat([wave, -wave], dim=1)

    measure = ClassPictures(planes=1, resolution=64)
    found = measure(subject(stripes, 2), make_probes(test=TRIANGLE)).numbers
    (plane,) = Plane.some(TRIANGLE, 1, np.random.default_rng(0))
    at = phase(plane.grid(64)).floor()
    assert found["fragmentation_test"] == at.max() - at.min() + 1
    assert 12 < found["lempel_ziv_test"] < 64**2 / 4


def test_a_hash_falls_into_nearly_one_region_a_cell_and_does_not_compress(make_probes):
    cells, once = 32**2, replace(MEASURE, planes=1)
    inputs = torch.rand(10, 6)
    many = once(subject(HashFunction.draw(200, 0), 200, False), make_probes(test=inputs)).numbers
    assert many["fragmentation_test"] == pytest.approx((1 - 2 / 200) * cells, rel=0.01)
    # Of K classes, each of the two edges of a cell joins it to its neighbour with probability 1/K.
    ten = MEASURE(subject(HashFunction.draw(10, 0), 10, False), make_probes(test=inputs)).numbers
    assert ten["fragmentation_test"] == pytest.approx((1 - 2 / 10) * cells, rel=0.05)
    assert ten["lempel_ziv_test"] == pytest.approx(cells, rel=0.2)


def test_a_constant_is_one_region_of_the_least_complexity(make_probes):
    constant = linear(torch.zeros(3, 6), torch.arange(3.0))
    found = MEASURE(subject(constant, 3), make_probes(test=torch.rand(10, 6))).numbers
    assert found["fragmentation_test"] == 1 and found["lempel_ziv_test"] == 10.0  # log2(32²)


def test_the_complexity_of_two_classes_is_that_of_the_predicted_one(make_probes):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 30), torch.nn.Tanh(), torch.nn.Linear(30, 2)).eval()
    inputs = 9 * torch.rand(3, 6)
    found = ClassPictures(planes=1, resolution=32)(subject(network, 2), make_probes(test=inputs)).numbers
    order = np.random.default_rng(0).choice(3, size=3, replace=False)
    with torch.no_grad():
        classes = network(Plane.through(inputs[order]).grid(32)).argmax(dim=1).reshape(32, 32)
    assert found["lempel_ziv_test"] == lempel_ziv(boustrophedon(classes.bool()))
    assert found["fragmentation_test"] == regions(classes.numpy())


@pytest.mark.parametrize("inputs", [torch.rand(5, 1), torch.rand(1, 6).expand(5, 6), torch.rand(2, 6)])
def test_without_a_plane_there_is_no_picture(inputs, make_probes):
    constant = linear(torch.zeros(3, inputs.shape[1]))
    found = MEASURE(subject(constant, 3), make_probes(test=inputs)).numbers
    assert found == {"fragmentation_test": None, "lempel_ziv_test": None}
