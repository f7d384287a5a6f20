"""The frequencies at which a function varies: spectra of its gradients and of its values on planes and lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.measures.gradients import margin_gradients
from rebuttal.measures.measure import Findings, Probes, Subject, chunks, distribution, evaluate, logits_at
from rebuttal.measures.plane import Plane
from rebuttal.measures.spectra import DIRECTIONS, Spectrum, hann, windowed
from rebuttal.training.evaluation import EVALUATION_BATCH

MIN_LOW_BINS = 12  # below the cutoff of a slice: with fewer, the window decides the share of the energy there


@checked
class GradientSpectrum:
    """The 2-D spectra of the input gradients of the margin (top logit minus runner-up), summed over channels:

    `gradient_low_share_<kind>`, the share of their energy up to `cutoff` (cycles per pixel; ½ is Nyquist),
    beside `gradient_low_share_white`, that of white noise; `gradient_low_to_high_<kind>`, energy below over
    energy above; `gradient_centroid_<kind>`, their mean frequency; `gradient_<direction>_<kind>`, directional
    shares, beside `gradient_<direction>_white`. The array `gradient_profile_<kind>` is the mean radial profile
    in `bins` rings, each gradient divided by its energy; NaN in a ring without a frequency of the image's. Probes
    without a gradient are left out; None if all are.
    Images only; undefined for functions that are not differentiable.
    """

    cutoff: Annotated[float, Field(gt=0, lt=0.7)]
    bins: PositiveInt
    needs_images: ClassVar[bool] = True
    version: ClassVar[int] = 2

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        if not subject.differentiable:
            return found
        for kind, inputs in probes.inputs.items():
            gradients = _margin_gradients_in_chunks(subject, inputs, probes.memory)
            spectrum = Spectrum(Spectrum.of(gradients).power.sum(dim=1))
            found |= self._findings(spectrum, kind)
        return found

    def _findings(self, spectrum: Spectrum, kind: str) -> Findings:
        white = spectrum.white()
        found = Findings({"gradient_low_share_white": white.low_share(self.cutoff).item()})
        found |= Findings(
            {f"gradient_{name}_white": share.item() for name, share in white.directional_shares().items()}
        )
        spectrum = Spectrum(spectrum.power[spectrum.power.flatten(1).any(dim=1)])
        if not len(spectrum.power):
            names = ("low_share", "centroid", *DIRECTIONS, "low_to_high")
            return found | Findings({f"gradient_{name}_{kind}": None for name in names})
        low = spectrum.low_share(self.cutoff)
        found |= distribution(f"gradient_low_share_{kind}", low)
        found |= distribution(f"gradient_centroid_{kind}", spectrum.centroid())
        for direction, share in spectrum.directional_shares().items():
            found |= distribution(f"gradient_{direction}_{kind}", share)
        _, profile = spectrum.radial_profile(self.bins)
        mean_profile = (profile / spectrum.power.mean(dim=(-2, -1))[:, None]).mean(dim=0)
        ratio = low_to_high(low.mean().item())
        return found | Findings(
            {f"gradient_low_to_high_{kind}": ratio}, {f"gradient_profile_{kind}": mean_profile.cpu()}
        )


def _margin_gradients_in_chunks(subject: Subject, inputs: Tensor, memory: int) -> Tensor:
    return torch.cat([margin_gradients(subject, part) for part in chunks(subject, inputs, memory)])


@checked
class SliceSpectrum:
    """f on `planes` 2-D slices, `resolution` points a side, through `probes` (three of one kind, so that the
    slice lies among the data) or `random` (one probe, two random directions): mean removed, Hann window,
    2-D FFT, power summed over the logits. A slice is a square, `extent` times as wide as the one around its triangle.

    `slice_centroid_<kind>`: mean frequency in cycles per unit of length in input space; of a function that varies
    less than once across the slice it is that of the window. `slice_low_share_<kind>`: share of the energy up to
    `cutoff` (same unit); `slice_low_to_high_<kind>`: energy below over energy above. Slices on which f is constant
    are left out. `slice_low_bins_<kind>`, on the smallest slice: the FFT bins up to `cutoff` beyond the window's main
    lobe around frequency 0, two bins wide on each side; of two opposite bins, which are equal, one counts. Share and
    ratio are undefined (None) with fewer than 12 of them (raise `cutoff` or `extent`), and if `cutoff` is above the
    largest frequency along an axis (raise `resolution`). Three probes on one line give no slice; None if there is none.

    Arrays of the first slice: `slice_values_<kind>`, the logit that varies most on it, (resolution, resolution);
    `slice_power_<kind>`, the spectrum, zero frequency in the middle; `slice_extent_<kind>`, (left, right, bottom, top).
    """

    planes: PositiveInt
    resolution: Annotated[int, Field(ge=8)]
    through: Literal["probes", "random"]
    extent: Annotated[float, Field(ge=1)]
    cutoff: PositiveFloat

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            if len(inputs) < 3:
                raise ConfigError(f"stages.*.probes={len(inputs)}: a slice goes through 3 probes; allowed: 3 or more")
            some = Plane.some(inputs, self.planes, probes.rng, random=self.through == "random")
            planes = [plane.resized(self.extent) for plane in some]
            values = [slice_values(subject, plane, self.resolution) for plane in planes]
            spectra = [slice_spectrum(v, plane) for v, plane in zip(values, planes)]
            found |= self._findings(spectra, kind)
            found |= self._arrays(values[0], spectra[0], planes[0], kind) if planes else Findings()
        return found

    def _findings(self, spectra: list[Spectrum], kind: str) -> Findings:
        bins = min((low_bins(spectrum, self.cutoff) for spectrum in spectra), default=None)
        resolved = (
            bins is not None and bins >= MIN_LOW_BINS and all(self.cutoff <= spectrum.nyquist for spectrum in spectra)
        )
        varying = [spectrum for spectrum in spectra if spectrum.power.any()]
        found = Findings({f"slice_{name}_{kind}": None for name in ("centroid", "low_share", "low_to_high")})
        if varying:
            found |= distribution(f"slice_centroid_{kind}", torch.stack([s.centroid() for s in varying]))
        if varying and resolved:
            low = torch.stack([spectrum.low_share(self.cutoff) for spectrum in varying])
            found |= distribution(f"slice_low_share_{kind}", low)
            found |= Findings({f"slice_low_to_high_{kind}": low_to_high(low.mean().item())})
        return found | Findings({f"slice_low_bins_{kind}": bins})

    def _arrays(self, values: Tensor, spectrum: Spectrum, plane: Plane, kind: str) -> Findings:
        arrays = {
            "values": values[values.var(dim=(1, 2)).argmax()],
            "power": torch.fft.fftshift(spectrum.power),
            "extent": torch.tensor(plane.extent),
        }
        return Findings(arrays={f"slice_{name}_{kind}": array for name, array in arrays.items()})


def slice_values(subject: Subject, plane: Plane, resolution: int) -> Tensor:
    """Return f on a plane: (K, resolution, resolution), float64."""
    values = evaluate(subject, plane.grid(resolution)).double().cpu()
    return values.T.reshape(-1, resolution, resolution)


def slice_spectrum(values: Tensor, plane: Plane) -> Spectrum:
    """Return the windowed spectrum of values (K, resolution, resolution) on a plane, summed over K."""
    resolution = values.shape[-1]
    window = hann(resolution)[:, None] * hann(resolution)
    left, right, _, _ = plane.extent
    spacing = (right - left) / (resolution - 1)
    return Spectrum(Spectrum.of(windowed(values, window)).power.sum(dim=0), spacing)


def low_bins(spectrum: Spectrum, cutoff: float) -> int:
    """Return the number of frequencies up to `cutoff` beyond the main lobe of a Hann window around 0, half-width two
    bins; of two opposite ones, which are equal, one counts."""
    bin_width = 1 / (spectrum.power.shape[-1] * spectrum.spacing)
    beyond = spectrum.radius > 2 * bin_width * (1 + 1e-9)
    return int((beyond & (spectrum.radius <= cutoff)).sum().item()) // 2


def low_to_high(low_share: float) -> float | None:
    """Return the energy below the cutoff over the energy above it; None if there is none above."""
    return low_share / (1 - low_share) if low_share < 1 else None


@checked
class LineSpectrum:
    """f along lines of `length` through the first `lines` probes, `points` points each, mean removed, Hann
    window, 1-D FFT, summed over the logits: `line_<direction>_centroid_<kind>`, the mean frequency in cycles per
    unit of length; of a function that varies less than once along the line it is that of the window. Lines along which
    f is constant are left out; None if all are.

    Directions: `random`, uniform; `gradient`, that of the margin; and for images `low_pass` and `high_pass`,
    random images with all energy below, or above, `cutoff` cycles per pixel.
    """

    lines: PositiveInt
    length: PositiveFloat
    points: Annotated[int, Field(ge=8)]
    cutoff: Annotated[float, Field(gt=0, lt=0.5)]
    version: ClassVar[int] = 2

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, all_inputs in probes.inputs.items():
            inputs = all_inputs[: self.lines]
            for direction, along in self._directions(subject, inputs, probes).items():
                name, centroids = f"line_{direction}_centroid_{kind}", self.centroids(subject, inputs, along)
                found |= distribution(name, centroids) if len(centroids) else Findings({name: None})
        return found

    def _directions(self, subject: Subject, inputs: Tensor, probes: Probes) -> dict[str, Tensor]:
        drawn = torch.from_numpy(probes.rng.standard_normal(inputs.shape)).to(inputs)
        directions = {"random": drawn}
        if subject.differentiable:
            directions["gradient"] = _margin_gradients_in_chunks(subject, inputs, probes.memory)
        if inputs.ndim == 4:
            low = Spectrum(torch.zeros(inputs.shape[-2:], device=inputs.device)).radius <= self.cutoff
            directions["low_pass"] = torch.fft.ifft2(torch.fft.fft2(drawn) * low).real
            directions["high_pass"] = torch.fft.ifft2(torch.fft.fft2(drawn) * ~low).real
        return {name: _normalised(direction) for name, direction in directions.items()}

    def centroids(self, subject: Subject, inputs: Tensor, direction: Tensor) -> Tensor:
        """Return the mean frequency of f along `direction` (n, *shape) through each input, if f varies there."""
        at = torch.linspace(-self.length / 2, self.length / 2, self.points, dtype=torch.float64)
        spacing, batch = self.length / (self.points - 1), max(1, EVALUATION_BATCH // self.points)
        found = []
        for x, u in zip(inputs.split(batch), direction.split(batch)):
            lines = x[:, None] + at.to(x).reshape(-1, *[1] * (x.ndim - 1)) * u[:, None]
            values = evaluate(subject, lines.flatten(0, 1)).double().cpu().reshape(len(x), self.points, -1)
            found.append(mean_frequencies(values, spacing))
        return torch.cat(found)


def mean_frequencies(values: Tensor, spacing: float) -> Tensor:
    """Return the mean frequency, in cycles per unit of `spacing`, of those of the series (n, points, K) that are not
    constant: their power under a Hann window, summed over K."""
    series = windowed(values.transpose(1, 2), hann(values.shape[1]))
    power = torch.fft.fft(series).abs().square().sum(dim=1)
    power = power[power.any(dim=1)]
    frequency = torch.fft.fftfreq(values.shape[1], spacing, dtype=torch.float64).abs()
    found: Tensor = (power * frequency).sum(dim=1) / power.sum(dim=1)
    return found


@checked
class FourierSensitivity:
    """The share of predictions that flip when one Fourier basis image of Euclidean norm `norm` is added, its
    sign random for each probe and channel, over the first `probes` test probes (Yin et al. 2019, section 3).

    `fourier_flips_low` and `fourier_flips_high`: means over the basis images up to, and above, `cutoff` cycles
    per pixel. The array `fourier_flips` (H, W) is the heat map, zero frequency in the middle.
    """

    norm: PositiveFloat
    probes: PositiveInt
    cutoff: Annotated[float, Field(gt=0, lt=0.5)]
    needs_images: ClassVar[bool] = True

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        inputs = probes.inputs["test"][: self.probes]
        height, width = inputs.shape[-2:]
        heat = torch.zeros(height, width, dtype=torch.float64)
        here = logits_at(subject, inputs).argmax(dim=1)
        signs = torch.from_numpy(probes.rng.choice([-1.0, 1.0], size=inputs.shape[:2])).to(inputs)
        cells = list(_half_of_cells(height, width))
        together = max(1, EVALUATION_BATCH // len(inputs))  # a wave at a time would leave a small batch
        for some in (cells[i : i + together] for i in range(0, len(cells), together)):
            waves = torch.stack([basis_image(*cell, height, width) for cell in some]).to(inputs)[:, None, None]
            added = self.norm / inputs.shape[1] ** 0.5 * signs[:, :, None, None] * waves
            there = evaluate(subject, (inputs + added).flatten(0, 1)).argmax(dim=1).reshape(len(some), -1)
            for (i, j), flips in zip(some, (there != here).double().mean(dim=1).cpu()):
                heat[i, j] = heat[-i % height, -j % width] = flips
        low = Spectrum(heat).radius <= self.cutoff
        numbers: dict[str, float | None] = {
            "fourier_flips_low": heat[low].mean().item(),
            "fourier_flips_high": heat[~low].mean().item(),
        }
        return Findings(numbers, {"fourier_flips": torch.fft.fftshift(heat)})


def basis_image(i: int, j: int, height: int, width: int) -> Tensor:
    """Return the real image (H, W) of norm 1 whose FFT is nonzero only at cell (i, j) and its mirror."""
    spectrum = torch.zeros(height, width, dtype=torch.complex128)
    spectrum[i, j] += 1
    spectrum[-i % height, -j % width] += 1
    image: Tensor = torch.fft.ifft2(spectrum).real
    norm: Tensor = image.norm()
    return image / norm


def _half_of_cells(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield one of each pair of FFT cells that mirror each other."""
    for i in range(height):
        for j in range(width):
            if (i, j) <= (-i % height, -j % width):
                yield i, j


def _normalised(directions: Tensor) -> Tensor:
    lengths: Tensor = directions.flatten(1).norm(dim=1).clamp(min=torch.finfo(directions.dtype).tiny)
    return directions / lengths.reshape(-1, *[1] * (directions.ndim - 1))
