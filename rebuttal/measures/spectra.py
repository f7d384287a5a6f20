"""Power spectra and their summary statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-12  # of a frequency, which may come out as a little more than the one it is
DIRECTIONS = ("horizontal", "diagonal_up", "vertical", "diagonal_down")


@dataclass(frozen=True)
class Spectrum:
    """The power spectra (…, H, W) of 2-D FFTs, in FFT order.

    `spacing`: the distance between grid points (1 for pixels); frequencies are in cycles per unit of it."""

    power: Tensor
    spacing: float = 1.0

    @classmethod
    def of(cls, images: Tensor, spacing: float = 1.0) -> Spectrum:
        """Return |FFT|²/(HW) of images (…, H, W). By Parseval its sum is the images' sum of squares."""
        transformed = torch.fft.fft2(images.double(), norm="ortho")
        return cls(transformed.abs().square(), spacing)

    @property
    def frequencies(self) -> tuple[Tensor, Tensor]:
        """The vertical and the horizontal frequency of each cell, (H, W) each."""
        height, width = self.power.shape[-2:]
        axes = (torch.fft.fftfreq(n, self.spacing, dtype=torch.float64) for n in (height, width))
        y, x = torch.meshgrid(*axes, indexing="ij")
        return y.to(self.power.device), x.to(self.power.device)

    @property
    def radius(self) -> Tensor:
        """The frequency of each cell, whatever its direction, (H, W)."""
        y, x = self.frequencies
        return (x.square() + y.square()).sqrt()

    @property
    def nyquist(self) -> float:
        """The largest frequency along an axis."""
        return 0.5 / self.spacing

    def low_share(self, cutoff: float) -> Tensor:
        """Return the share (…,) of the energy at frequencies up to `cutoff`."""
        return self._share(self.radius <= cutoff * (1 + ROUNDING))

    def centroid(self) -> Tensor:
        """Return the energy's mean frequency (…,)."""
        return (self.power * self.radius).sum(dim=(-2, -1)) / self._total()

    def directional_shares(self) -> dict[str, Tensor]:
        """Return the shares (…,) of the energy, zero frequency left out, within 22.5° of each of four directions of the
        frequency vector: an image of vertical stripes is `horizontal`."""
        y, x = self.frequencies
        sector = (torch.atan2(y, x) / (torch.pi / 4)).round().remainder(4)
        nonzero = self.radius > 0
        total = (self.power * nonzero).sum(dim=(-2, -1))
        tiny = torch.finfo(total.dtype).tiny
        return {
            name: (self.power * (nonzero & (sector == k))).sum(dim=(-2, -1)) / total.clamp(min=tiny)
            for k, name in enumerate(DIRECTIONS)
        }

    def radial_profile(self, bins: int) -> tuple[Tensor, Tensor]:
        """Return the middle frequencies (bins,) of `bins` rings up to the Nyquist frequency, and the mean power
        (…, bins) of the cells in each, NaN where a ring has none; for white noise the profile is flat."""
        ring = (self.radius / self.nyquist * bins * (1 + ROUNDING)).long().clamp(max=bins)
        member = torch.nn.functional.one_hot(ring, bins + 1)[..., :bins].double()  # corners beyond Nyquist left out
        profile = torch.einsum("...hw,hwb->...b", self.power, member) / member.sum(dim=(0, 1))
        middles = (torch.arange(bins, dtype=torch.float64) + 0.5) * self.nyquist / bins
        return middles, profile

    def white(self) -> Spectrum:
        """Return the expected spectrum of white noise on the same grid: all cells equal, so that a share of the energy
        is a share of the cells."""
        return Spectrum(torch.ones_like(self.frequencies[0]), self.spacing)

    def _share(self, cells: Tensor) -> Tensor:
        return (self.power * cells).sum(dim=(-2, -1)) / self._total()

    def _total(self) -> Tensor:
        total = self.power.sum(dim=(-2, -1))
        return total.clamp(min=torch.finfo(total.dtype).tiny)


def windowed(values: Tensor, window: Tensor) -> Tensor:
    """Return values (…, *W) less their mean under a window (*W), times the window.

    With any other mean, the window would turn the rest into energy at frequency 0. A constant becomes 0 exactly."""
    dims = tuple(range(-window.ndim, 0))
    values = values - values.flatten(-window.ndim)[..., :1].unflatten(-1, (1,) * window.ndim)
    values = values - (values * window).sum(dim=dims, keepdim=True) / window.sum()
    return values * window


def hann(size: int) -> Tensor:
    """Return the Hann window, (size,)."""
    return torch.hann_window(size, periodic=False, dtype=torch.float64)
