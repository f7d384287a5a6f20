"""Figures of what the measures found: one figure for each question, all functions side by side."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rebuttal.figures.style import BLUE, GREY, ORANGE, STYLE, WIDTH, line_styles
from rebuttal.measures.spectra import DIRECTIONS

Numbers = dict[str, dict[str, float | None]]  # by function, then by name
Arrays = dict[str, dict[str, Any]]  # by function, then by name

_DISTRIBUTIONS = {
    "margin_gradient": "gradient norm of the margin",
    "jacobian_frobenius": "Frobenius norm of the Jacobian",
    "jacobian_spectral": "spectral norm of the Jacobian",
    "softmax_jacobian": "Jacobian norm of the probabilities",
    "total_variation": "total variation per unit length",
    "class_changes": "class changes per unit length",
    "region_changes": "region changes per unit length",
    "margin": "margin",
    "boundary": "distance to the boundary",
}


def draw(numbers: Numbers, arrays: Arrays) -> dict[str, Figure]:
    """Return every figure, by name, for which there are numbers."""
    with rc_context(STYLE):
        figures = {name: _distributions(name, label, numbers, arrays) for name, label in _DISTRIBUTIONS.items()}
        figures["lipschitz_bracket"] = _bracket(numbers)
        figures["flips_by_radius"] = _by_radius(numbers)
        figures["radial_spectrum"] = _radial(arrays)
        figures["directions"] = _directions(numbers)
        figures["low_frequency_ratio"] = _low_frequency_ratio(numbers)
        figures["slices"] = _slices(arrays)
        figures["fourier_heat_map"] = _heat_maps(arrays)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _distributions(name: str, label: str, numbers: Numbers, arrays: Arrays) -> Figure | None:
    """Draw a box for each function over test probes, on a logarithmic axis.

    A measure that has a scaled value is shown in units of the spread of the logits."""
    found = {}
    for function, values in arrays.items():
        if f"{name}_test" in values:
            mean, scaled = (numbers[function].get(f"{name}_test{end}") for end in ("", "_scaled"))
            scale = mean / scaled if mean and scaled else 1.0
            found[function] = np.asarray(values[f"{name}_test"]) / scale
    positive = {function: v[v > 0] for function, v in found.items() if (v > 0).any()}
    if not positive:
        return None
    figure, axes = _rows(list(positive))
    axes.boxplot(
        list(positive.values()), positions=range(len(positive)), widths=0.55, orientation="horizontal",
        whis=(5, 95), showfliers=False, medianprops={"color": ORANGE}, manage_ticks=False,
    )  # fmt: skip
    axes.set_xscale("log")
    _label_decades(axes.xaxis)
    is_scaled = any(f"{name}_test_scaled" in n for n in numbers.values())
    words = label + (" /\nspread of the logits at" if is_scaled else "\nat") + " test inputs"
    zeros = sum(int((v <= 0).sum()) for v in found.values())
    axes.set_xlabel(f"{words} (not shown: {zeros} of 0)" if zeros else words)
    return figure


def _bracket(numbers: Numbers) -> Figure | None:
    """The upper bound of a network that whitens each image is of the layers after that, so none beside the lower."""
    rows = {
        function: (low, found.get("lipschitz_upper_scaled"))
        for function, found in numbers.items()
        if (low := found.get("lipschitz_lower_scaled"))
    }
    if not rows:
        return None
    figure, axes = _rows(list(rows))
    for y, (low, high) in enumerate(rows.values()):
        axes.plot(low, y, ">", color=BLUE, markersize=5)
        if high:
            axes.plot([low, high], [y, y], color=BLUE)
            axes.plot(high, y, "<", color=BLUE, markersize=5)
    axes.set_xscale("log")
    _label_decades(axes.xaxis)
    axes.set_xlabel("Lipschitz constant / spread of the logits:\nlower bound (▸), upper bound (◂)")
    return figure


def _by_radius(numbers: Numbers) -> Figure | None:
    pattern = re.compile(r"flips_test_([\d.e+-]+)$")
    curves = {}
    for function, found in numbers.items():
        points = sorted((float(m.group(1)), v) for k, v in found.items() if (m := pattern.match(k)) and v is not None)
        if points:
            curves[function] = points
    if not curves:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH * 0.95), layout="constrained")
    axes = figure.subplots()
    for (function, points), style in zip(curves.items(), line_styles(len(curves))):
        axes.plot(*zip(*points), **style, label=_label(function))
    axes.set_xscale("log")
    _label_decades(axes.xaxis)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("length of a random step (input space)")
    axes.set_ylabel("share of predictions that change")
    _legend_above(figure)
    return figure


def _radial(arrays: Arrays) -> Figure | None:
    profiles = {f: np.asarray(a["gradient_profile_test"]) for f, a in arrays.items() if "gradient_profile_test" in a}
    if not profiles:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH * 0.95), layout="constrained")
    axes = figure.subplots()
    for (function, profile), style in zip(profiles.items(), line_styles(len(profiles))):
        frequency = (np.arange(len(profile)) + 0.5) * 0.5 / len(profile)
        known = np.isfinite(profile)  # a ring of few pixels may have no frequency
        axes.plot(frequency[known], profile[known], **style, label=_label(function))
    axes.axhline(1, color=GREY, linewidth=1, label="white noise")
    axes.set_yscale("log")
    _label_decades(axes.yaxis)
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("power of the input gradient\n(1: as in white noise)")
    _legend_above(figure)
    return figure


def _directions(numbers: Numbers) -> Figure | None:
    """Plot the energy of the input gradients by direction, in polar coordinates."""
    shares = {f: values for f, found in numbers.items() if (values := _directional_shares(found, "test"))}
    if not shares:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH * 1.1), layout="constrained")
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    angles = np.arange(9) * np.pi / 4
    for (function, values), style in zip(shares.items(), line_styles(len(shares))):
        axes.plot(angles, [*values, *values, values[0]], **style, label=_label(function))
    white = next(values for found in numbers.values() if (values := _directional_shares(found, "white")))
    axes.plot(angles, [*white, *white, white[0]], color=GREY, linewidth=1, label="white noise")
    axes.set_xticks(angles[:8], ["horizontal", "", "vertical", "", "", "", "", ""])
    axes.set_ylim(0, None)
    axes.set_yticks([0.25], ["¼"])
    _legend_above(figure)
    return figure


def _directional_shares(found: dict[str, float | None], kind: str) -> list[float]:
    """Return the share of each of `DIRECTIONS`; nothing for a function without gradients."""
    shares = (found.get(f"gradient_{direction}_{kind}") for direction in DIRECTIONS)
    return [share for share in shares if share is not None]


def _low_frequency_ratio(numbers: Numbers) -> Figure | None:
    """Plot the energy below the cutoff over the energy above it, of gradients and slices, for each function."""
    kinds = {"gradient_low_to_high_test": ("o", "input gradients"), "slice_low_to_high_test": ("s", "2-D slices")}
    functions = [f for f, found in numbers.items() if any(found.get(key) for key in kinds)]
    if not functions:
        return None
    figure, axes = _rows(functions)
    for (key, (marker, label)), colour in zip(kinds.items(), (BLUE, ORANGE)):
        points = [(numbers[f][key], y) for y, f in enumerate(functions) if numbers[f].get(key)]
        if points:
            axes.plot(*zip(*points), marker, color=colour, markersize=5, label=label)
    white = next((n["gradient_low_share_white"] for n in numbers.values() if "gradient_low_share_white" in n), None)
    if white:
        axes.axvline(white / (1 - white), color=GREY, linewidth=1, label="white gradients")
    axes.set_xscale("log")
    _label_decades(axes.xaxis)
    axes.set_xlabel("energy below / energy above the cutoff")
    _legend_above(figure)
    return figure


def _slices(arrays: Arrays) -> Figure | None:
    """Draw one logit on a plane through three test inputs, and below it the spectrum of all logits on that plane."""
    found = {f: a for f, a in arrays.items() if "slice_values_test" in a}
    if not found:
        return None
    figure = Figure(figsize=(1.1 * len(found) + 0.4, 2.8), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False, sharex="row", sharey="row")
    for (function, a), above, below in zip(found.items(), *panels):
        values, power, extent = (np.asarray(a[f"slice_{name}_test"]) for name in ("values", "power", "extent"))
        above.imshow(values, cmap="cividis", origin="lower", extent=extent)
        above.set_title(_label(function, wrap=True))
        top = len(power) / 2 / (extent[1] - extent[0])
        decibel = 10 * np.log10(np.maximum(power / power.max(), 1e-8))
        image = below.imshow(decibel, cmap="magma", vmin=-80, vmax=0, origin="lower", extent=(-top, top, -top, top))
        above.set_xticks([0])
        below.set_xticks([0])
    panels[0, 0].set_ylabel("distance")
    panels[1, 0].set_ylabel("cycles per unit")
    figure.colorbar(image, ax=panels[1].tolist(), label="power (dB)", pad=0.01)
    return figure


def _heat_maps(arrays: Arrays) -> Figure | None:
    maps = {f: np.asarray(a["fourier_flips"]) for f, a in arrays.items() if "fourier_flips" in a}
    if not maps:
        return None
    figure = Figure(figsize=(1.1 * len(maps) + 0.4, 1.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(maps), sharey=True))
    top = max(m.max() for m in maps.values()) or 1
    for axes, (function, heat) in zip(panels, maps.items()):
        image = axes.imshow(heat, cmap="cividis", vmin=0, vmax=top, origin="lower", extent=_cells(heat))
        axes.set_title(_label(function, wrap=True))
        axes.set_xticks([-0.5, 0, 0.5], ["−½", "0", "½"])
        axes.set_yticks([-0.5, 0, 0.5], ["−½", "0", "½"])
    figure.supxlabel("frequency (cycles per pixel)", fontsize=8)
    figure.colorbar(image, ax=list(panels), label="predictions flipped", pad=0.01)
    return figure


def _cells(heat: np.ndarray) -> tuple[float, float, float, float]:
    """Return the edges of the cells of a transform whose zero frequency is in the middle: the centres are k / n for k
    from −⌊n / 2⌋ on."""
    (bottom, top), (left, right) = ((-(n // 2) - 0.5, n - n // 2 - 0.5) for n in heat.shape)
    height, width = heat.shape
    return left / width, right / width, bottom / height, top / height


def _rows(names: list[str]) -> tuple[Figure, Axes]:
    """Return axes with a row for each name, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.8 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    return figure, axes


def _label_decades(axis: Axis) -> None:
    """Label powers of ten, few enough not to overlap; on axes of less than two decades also 2 and 5 times them.

    Without it, matplotlib labels the minor ticks of short axes."""
    low, high = axis.get_view_interval()
    if np.log10(high / low) >= 2:
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _legend_above(figure: Figure) -> None:
    figure.legend(loc="outside upper center", ncols=2, fontsize=6.5)


def _label(name: str, wrap: bool = False) -> str:
    return name.replace("_", "\n" if wrap else " ")
