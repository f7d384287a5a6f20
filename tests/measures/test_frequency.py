import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.signal import periodogram

from rebuttal.errors import ConfigError
from rebuttal.functions.hash import HashFunction
from rebuttal.measures.frequency import (
    FourierSensitivity,
    GradientSpectrum,
    LineSpectrum,
    SliceSpectrum,
    basis_image,
    low_bins,
    mean_frequencies,
    slice_spectrum,
    slice_values,
)
from rebuttal.measures.measure import Probes
from rebuttal.measures.plane import Plane
from rebuttal.measures.spectra import DIRECTIONS, Spectrum, hann
from rebuttal.models import MLP
from tests.measures.conftest import linear, subject


def wave(ky, kx, size=16):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.cos(2 * torch.pi * (ky * y + kx * x).double() / size)


def test_the_power_sums_to_the_squared_norm():
    images = torch.randn(5, 3, 12, 10, dtype=torch.float64)
    assert torch.allclose(Spectrum.of(images).power.sum(dim=(-2, -1)), images.square().sum(dim=(-2, -1)), rtol=1e-12)


def test_white_noise_has_the_cells_share_and_a_flat_profile():
    images = torch.randn(4000, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = Spectrum.of(images)
    share = spectrum.low_share(0.125)
    expected = spectrum.white().low_share(0.125).item()
    assert expected == 13 / 256  # the integer points within a circle of radius 2
    assert abs(share.mean().item() - expected) < 4 * share.std().item() / np.sqrt(4000)
    _, profile = spectrum.radial_profile(8)
    assert torch.allclose(profile.mean(dim=0), torch.ones(8, dtype=torch.float64), atol=0.05)


@pytest.mark.parametrize(
    ("ky", "kx", "direction"),
    [(0, 3, "horizontal"), (3, 0, "vertical"), (3, 3, "diagonal_up"), (-3, 3, "diagonal_down")],
)
def test_one_sinusoid_is_one_peak_in_its_direction(ky, kx, direction):
    spectrum = Spectrum.of(wave(ky, kx))
    assert spectrum.centroid().item() == pytest.approx(np.hypot(ky, kx) / 16, rel=1e-10)
    shares = spectrum.directional_shares()
    assert {name: round(shares[name].item(), 9) for name in DIRECTIONS} == {
        name: float(name == direction) for name in DIRECTIONS
    }


@pytest.mark.parametrize(("side", "bins"), [(8, 12), (28, 14), (28, 28), (10, 5), (32, 12)])
def test_a_ring_has_the_mean_of_the_frequencies_within_it_and_one_without_any_has_none(side, bins):
    power = torch.rand(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    profile = Spectrum(power).radial_profile(bins)[1]
    found = {ring: [] for ring in range(bins)}
    for (row, column), value in np.ndenumerate(power.numpy()):
        squared = sum(Fraction(min(i, side - i), side) ** 2 for i in (row, column))
        ring = next((b for b in range(bins) if squared < Fraction(b + 1, 2 * bins) ** 2), None)
        if ring is not None:
            found[ring].append(value)
    expected = [np.mean(values) if values else np.nan for values in found.values()]
    assert np.allclose(profile.numpy(), expected, equal_nan=True)


def test_a_frequency_at_the_cutoff_is_below_it():
    for side in (10, 20, 40):
        inside = sum(
            Fraction(min(i, side - i), side) ** 2 + Fraction(min(j, side - j), side) ** 2 <= Fraction(3, 10) ** 2
            for i in range(side)
            for j in range(side)
        )
        assert Spectrum(torch.ones(side, side)).low_share(0.3).item() == pytest.approx(inside / side**2, rel=1e-6)


def test_the_gradient_spectrum_of_a_linear_function_is_that_of_its_weights(make_probes):
    weight = torch.stack([wave(0, 5), -wave(0, 5)]).reshape(2, 256)
    inputs = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    found = GradientSpectrum(cutoff=0.2, bins=8)(subject(linear(weight), 2), make_probes(test=inputs)).numbers
    assert found["gradient_centroid_test"] == pytest.approx(5 / 16, rel=1e-8)
    assert found["gradient_low_share_test"] == pytest.approx(0, abs=1e-12)
    assert found["gradient_horizontal_test"] == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_wave_on_a_slice_peaks_at_its_frequency_which_moves_with_the_scale(scale):
    omega = torch.zeros(10, dtype=torch.float64)
    omega[0], omega[1] = 3.0, 4.0  # 5 cycles per unit, in the plane of the first two axes
    corners = torch.zeros(3, 10, dtype=torch.float64)
    corners[1, 0], corners[2, 1] = 2.0, 2.0

    def function(x):
        phase = 2 * torch.pi * scale * (x.double() @ omega)
        return torch.stack([phase.cos(), 0 * phase], dim=1)

    plane = Plane.through(corners)
    spectrum = slice_spectrum(slice_values(subject(function, 2), plane, 128), plane)
    peak = spectrum.radius.flatten()[spectrum.power.argmax()].item()
    cell = 1 / (128 * spectrum.spacing)
    assert peak == pytest.approx(5 * scale, abs=cell)
    assert spectrum.centroid().item() == pytest.approx(5 * scale, abs=cell)


def test_a_wave_along_a_line_has_its_frequency():
    omega = torch.zeros(10, dtype=torch.float64)
    omega[3] = 7.0
    directions = torch.zeros(4, 10, dtype=torch.float64)
    directions[:, 3] = 1.0
    measure = LineSpectrum(lines=10, length=4.0, points=512, cutoff=0.1)
    for scale in (1.0, 2.0):
        f = subject(lambda x, c=scale: torch.cos(2 * torch.pi * c * (x @ omega))[:, None], 1)
        found = measure.centroids(f, torch.rand(4, 10, dtype=torch.float64), directions)
        assert found.tolist() == pytest.approx([7.0 * scale] * 4, rel=0.02)


@pytest.mark.parametrize("points", [63, 64])
@pytest.mark.parametrize("f", [lambda t: np.cos(0.6 * t), np.square, lambda t: np.maximum(t - 2, 0)])
def test_the_mean_frequency_of_a_line_is_that_of_scipy_s_periodogram(f, points):
    """Functions with less than a cycle a line, for which frequency 0 and the two sides of the spectrum matter."""
    at, window = np.linspace(-5, 5, points), np.hanning(points)
    values, spacing = f(at), at[1] - at[0]
    rest = values - np.average(values, weights=window)
    frequency, power = periodogram(rest, 1 / spacing, window=window, detrend=False)
    found = mean_frequencies(torch.from_numpy(values)[None, :, None], spacing)
    assert found.tolist() == pytest.approx([np.average(frequency, weights=power)], rel=1e-9)


def test_lines_and_gradients_without_any_change_are_left_out(make_probes):
    inputs = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs[:2] -= 100  # where the function is constant
    f = subject(lambda x: x.flatten(1)[:, :3].clamp(min=-5).square(), 3)
    measure = LineSpectrum(lines=6, length=2.0, points=16, cutoff=0.2)
    whole, rest = (measure(f, make_probes(test=kept)).arrays for kept in (inputs, inputs[2:]))
    assert all(len(whole[name]) == 4 == len(rest[name]) for name in rest)
    gradients = GradientSpectrum(cutoff=0.2, bins=4)
    whole, rest = (gradients(f, make_probes(test=kept)) for kept in (inputs, inputs[2:]))
    assert whole.numbers == rest.numbers and whole.numbers["gradient_low_share_test"] > 0
    dead = make_probes(test=inputs[:2])
    found = measure(f, dead).numbers | gradients(f, dead).numbers
    assert len(found) == 4 + 12 and all(found[name] is None for name in found if not name.endswith("_white"))


def test_probes_on_one_line_give_no_slice(make_probes):
    f = subject(lambda x: x[:, :1], 1)
    on_a_line = torch.linspace(0, 1, 5)[:, None].repeat(1, 4)
    equal = torch.zeros(5, 4)
    for inputs, through in ((on_a_line, "probes"), (equal, "random"), (torch.rand(5, 1), "random")):
        measure = SliceSpectrum(planes=2, resolution=8, through=through, extent=2, cutoff=1.0)
        found = measure(f, make_probes(test=inputs))
        assert not found.arrays and set(found.numbers.values()) == {None}


def test_low_pass_directions_have_low_frequencies_only(make_probes):
    inputs = torch.rand(3, 2, 12, 12, dtype=torch.float64)
    f = subject(lambda x: x.flatten(1)[:, :2] ** 2, 2)
    made = LineSpectrum(lines=10, length=1.0, points=16, cutoff=0.2)._directions(f, inputs, make_probes(test=inputs))
    low = Spectrum(Spectrum.of(made["low_pass"]).power.sum(dim=1)).low_share(0.2)
    high = Spectrum(Spectrum.of(made["high_pass"]).power.sum(dim=1)).low_share(0.2)
    assert low.tolist() == pytest.approx([1.0] * 3) and high.tolist() == pytest.approx([0.0] * 3, abs=1e-12)
    assert all(torch.allclose(d.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64)) for d in made.values())


def test_only_the_cell_of_a_linear_function_s_one_frequency_reacts(make_probes):
    ky, kx, size = 2, 5, 16
    weight = torch.stack([wave(ky, kx), torch.zeros(size, size)]).reshape(2, 256).double()
    inputs = 1e-6 * torch.randn(40, 1, size, size, dtype=torch.float64)
    measure = FourierSensitivity(norm=1.0, probes=40, cutoff=0.2)
    heat = torch.fft.ifftshift(measure(subject(linear(weight), 2), make_probes(test=inputs)).arrays["fourier_flips"])
    assert heat[ky, kx] == heat[-ky, -kx] > 0.2  # the share of signs that point across the boundary
    others = heat.clone()
    others[ky, kx] = others[-ky, -kx] = 0
    assert others.max() < 1e-9


def test_basis_images_are_real_orthonormal_waves():
    images = [basis_image(i, j, 6, 5) for i in range(6) for j in range(5)]
    assert all(image.norm().item() == pytest.approx(1) for image in images)
    power = Spectrum.of(basis_image(2, 1, 6, 5)).power
    assert power[2, 1].item() == pytest.approx(0.5) and power[4, 4].item() == pytest.approx(0.5)


def test_a_slice_needs_three_probes(make_probes):
    f = subject(lambda x: x[:, :2], 2)
    with pytest.raises(ConfigError, match="a slice goes through 3 probes"):
        SliceSpectrum(planes=1, resolution=8, through="probes", extent=2, cutoff=1.0)(
            f, make_probes(test=torch.rand(2, 9))
        )


def test_the_returned_slice_is_the_one_that_was_transformed(make_probes):
    inputs = torch.rand(3, 12, dtype=torch.float64)
    f = subject(lambda x: torch.stack([x[:, 0], 5 * (3 * x[:, 1]).sin()], dim=1), 2)
    measure = SliceSpectrum(planes=1, resolution=32, through="random", extent=3.0, cutoff=1.0)
    found = measure(f, make_probes(test=inputs))
    spectrum = Spectrum(torch.fft.ifftshift(found.arrays["slice_power_test"]))
    left, right, *_ = found.arrays["slice_extent_test"].tolist()
    assert spectrum.centroid().item() * 31 / (right - left) == pytest.approx(found.numbers["slice_centroid_test"])
    share = found.numbers["slice_low_share_test"]
    assert found.numbers["slice_low_to_high_test"] == pytest.approx(share / (1 - share))
    values = found.arrays["slice_values_test"]
    assert values.abs().max() <= 5 and values.std() > 0.5  # the second logit, which varies more


CORNERS = 2 * torch.eye(3, 10, dtype=torch.float64)  # of a triangle in 10 dimensions


def shares(f, inputs=CORNERS, resolution=48, cutoff=1.5, planes=1, **settings):
    """Return the share of low frequencies of f on slices through the inputs, and the number of bins that decide it."""
    measure = SliceSpectrum(
        planes=planes, resolution=resolution, through="probes", cutoff=cutoff, **{"extent": 3.0} | settings
    )
    probes = Probes({"test": inputs}, torch.zeros(len(inputs)), 2**28, np.random.default_rng(0))
    found = measure(f, probes).numbers
    return found["slice_low_share_test"], found["slice_low_bins_test"]


@pytest.mark.parametrize("resolution", [48, 96])
def test_a_wave_has_all_of_its_energy_below_a_cutoff_above_it_and_none_below_a_cutoff_beneath_it(resolution):
    edge = (CORNERS[1] - CORNERS[0]) / (CORNERS[1] - CORNERS[0]).norm()
    for phase in (0.0, 0.7, 1.6):
        f = subject(lambda x, p=phase: (2 * torch.pi * 1.5 * (x.double() @ edge) + p).cos()[:, None] + 7, 1)
        (low, bins), (high, fewer) = (shares(f, resolution=resolution, cutoff=cutoff) for cutoff in (2.2, 0.8))
        assert low > 1 - 1e-3 and high < 1e-3
        assert bins > fewer >= 12


@pytest.mark.parametrize("resolution", [32, 64])
def test_white_noise_has_the_share_of_the_area(resolution):
    plane = Plane.through(CORNERS).resized(3.0)
    noise = torch.randn(300, resolution, resolution, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = slice_spectrum(noise, plane)
    expected = spectrum.white().low_share(1.0).item()
    area = torch.pi * (1.0 / (2 * spectrum.nyquist)) ** 2
    assert expected == pytest.approx(area, rel=0.05)
    assert spectrum.low_share(1.0).item() == pytest.approx(expected, rel=0.03)


def test_bins_below_the_cutoff_are_counted_without_the_window_s_main_lobe_and_without_mirrored_ones():
    for radius in (1, 2, 3, 4, 7.5):
        expected = sum(4 < i * i + j * j <= radius**2 for i in range(-8, 9) for j in range(-8, 9)) / 2
        assert low_bins(Spectrum(torch.ones(20, 20), spacing=0.5), (radius + 1e-6) / 10) == expected
    # The main lobe of a constant under the window, in bins from frequency 0.
    power = Spectrum.of(hann(64)[:, None] * hann(64)).power
    assert Spectrum(power).low_share(2 / 64).item() > 0.999


def test_a_share_that_the_window_decides_is_undefined():
    f = subject(lambda x: x[:, :2], 2)
    assert shares(f, cutoff=0.3) == (None, 4)
    assert shares(f, cutoff=0.3, extent=6.0)[0] > 0.9  # a larger slice resolves it
    share, bins = shares(f, resolution=8)  # no frequency is above the cutoff
    assert share is None and bins > 12
    measure = SliceSpectrum(planes=1, resolution=48, through="probes", extent=3.0, cutoff=0.3)
    found = measure(f, Probes({"test": CORNERS}, torch.zeros(3), 2**28, np.random.default_rng(0)))
    assert found.numbers["slice_low_to_high_test"] is None and found.numbers["slice_centroid_test"] is not None


def test_a_constant_function_has_no_spectrum():
    f = subject(lambda x: torch.full((len(x), 2), 1 / 3), 2)
    assert shares(f)[0] is None
    # A slice on which f is constant is left out, so that the others' share does not fall.
    inputs = torch.cat([torch.zeros(1, 10), torch.eye(10)[:4]]).double() * 2
    step = subject(lambda x: torch.stack([(x[:, 0] > 1.9).float(), x[:, 1] * 0], dim=1), 2)
    one, many = shares(step, inputs[:3])[0], shares(step, inputs, planes=20)[0]
    assert 0.3 < many < 1 and 0.3 < one < 1


@pytest.fixture(scope="module")
def functions():
    """Return, by name, a network fitted to random labels of noise, the same before training, the label of the nearest
    training input, and unrelated logits for each input; and the inputs."""
    torch.manual_seed(0)
    inputs, labels = torch.rand(200, 30), torch.randint(4, (200,))
    untrained = MLP(hidden=(128, 128)).network((30,), 4)
    network = copy.deepcopy(untrained)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    assert (network(inputs).argmax(dim=1) == labels).all()
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    made = {
        "random_labels": network.eval(),
        "untrained": untrained.eval(),
        "nearest_neighbour": lambda x: one_hot[torch.cdist(x, inputs).argmin(dim=1)],
        "hash": HashFunction.draw(4, 0),
    }
    return {name: subject(function, 4) for name, function in made.items()}, torch.rand(40, 30)


def test_the_order_of_trained_networks_and_nulls_is_the_same_on_a_grid_twice_as_fine_and_on_a_larger_slice(functions):
    subjects, inputs = functions
    orders = []
    for settings in ({}, {"resolution": 96}, {"extent": 6.0, "resolution": 96}):
        found = {name: shares(f, inputs, cutoff=0.75, planes=3, **settings) for name, f in subjects.items()}
        assert all(bins >= 12 for _, bins in found.values())
        low = {name: share for name, (share, _) in found.items()}
        assert low["random_labels"] - low["hash"] > 0.5  # as at every resolution
        orders.append(sorted(low, key=low.get))
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][:2] == ["hash", "nearest_neighbour"]


def test_lines_in_a_batch_equal_single_lines(make_probes):
    inputs = torch.rand(70, 1, 8, 8, dtype=torch.float64)
    f = subject(lambda x: x.flatten(1)[:, :3].cos() * 4, 3)
    measure = LineSpectrum(lines=70, length=3.0, points=64, cutoff=0.2)
    together = measure.centroids(f, inputs, inputs)
    alone = torch.cat([measure.centroids(f, x[None], x[None]) for x in inputs])
    assert torch.allclose(together, alone, rtol=1e-10)
    found = LineSpectrum(lines=5, length=3.0, points=64, cutoff=0.2)(f, make_probes(test=inputs))
    assert found.arrays["line_random_centroid_test"].shape == (5,)
