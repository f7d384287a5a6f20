"""Figures of what the measures found: one drawing a question, all functions side by side."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from rebuttal.analysis.figures import GREY, LINE_COLOURS, STYLE, WIDTH
from rebuttal.measures.spectra import DIRECTIONS

Numbers = dict[str, dict[str, float | None]]
Arrays = dict[str, dict[str, Any]]

_DISTRIBUTIONS = {
    "margin_gradient": "‖∇ margin‖",
    "jacobian_frobenius": "‖J‖ (Frobenius)",
    "jacobian_spectral": "‖J‖ (spectral)",
    "total_variation": "total variation per unit",
    "margin": "margin",
    "boundary": "distance to the boundary",
}


def draw(numbers: Numbers, arrays: Arrays) -> dict[str, Figure]:
    """Every figure for which there are numbers; `numbers` and `arrays` by function."""
    with rc_context(STYLE):
        figures = {name: _distributions(name, label, numbers, arrays) for name, label in _DISTRIBUTIONS.items()}
        figures["lipschitz_bracket"] = _bracket(numbers)
        figures["flips_by_radius"] = _by_radius(numbers)
        figures["radial_spectrum"] = _radial(numbers, arrays)
        figures["directions"] = _rose(numbers)
        figures["fourier_heat_map"] = _heat_maps(arrays)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _distributions(name: str, label: str, numbers: Numbers, arrays: Arrays) -> Figure | None:
    """A box a function over test probes, on a logarithmic axis; in units of the logits' spread where the
    measure grows with it."""
    found = {}
    for function, values in arrays.items():
        if f"{name}_test" in values:
            mean, scaled = (numbers[function].get(f"{name}_test{end}") for end in ("", "_scaled"))
            scale = mean / scaled if mean and scaled else 1.0
            found[function] = np.asarray(values[f"{name}_test"]) / scale
    positive = {function: v[v > 0] for function, v in found.items() if (v > 0).any()}
    if not positive:
        return None
    figure = Figure(figsize=(WIDTH, 0.6 + 0.3 * len(positive)), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(list(positive.values()), orientation="horizontal", showfliers=False, medianprops={"color": "black"})
    axes.set_yticks(range(1, len(positive) + 1), [_plain(function) for function in positive])
    axes.invert_yaxis()
    axes.set_xscale("log")
    scaled = any(f"{name}_test_scaled" in n for n in numbers.values())
    axes.set_xlabel(f"{label} at test inputs" + (", over the spread of the logits" if scaled else ""))
    return figure


def _bracket(numbers: Numbers) -> Figure | None:
    rows = {}
    for function, found in numbers.items():
        low = found.get("lipschitz_lower")
        high = found.get("lipschitz_upper", found.get("lipschitz_upper_whitened"))
        if low:
            rows[function] = (low, high)
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.6 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, (low, high) in enumerate(rows.values()):
        axes.plot(low, y, ">", color=LINE_COLOURS[0], markersize=5)
        if high:
            axes.plot([low, high], [y, y], color=LINE_COLOURS[0])
            axes.plot(high, y, "<", color=LINE_COLOURS[0], markersize=5)
    axes.set_yticks(range(len(rows)), [_plain(function) for function in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("Lipschitz constant: at least (▸), at most (◂)")
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
    figure = Figure(figsize=(WIDTH, WIDTH * 0.75), layout="constrained")
    axes = figure.subplots()
    for (function, points), colour, marker in zip(curves.items(), LINE_COLOURS * 2, "osD^vP*X<>ph"):
        axes.plot(*zip(*points), marker=marker, markersize=3, color=colour, label=_plain(function))
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("length of a random step (input space)")
    axes.set_ylabel("share of predictions that change")
    axes.legend(fontsize=6.5)
    return figure


def _radial(numbers: Numbers, arrays: Arrays) -> Figure | None:
    profiles = {f: np.asarray(a["gradient_profile_test"]) for f, a in arrays.items() if "gradient_profile_test" in a}
    if not profiles:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH * 0.75), layout="constrained")
    axes = figure.subplots()
    for (function, profile), colour in zip(profiles.items(), LINE_COLOURS * 2):
        frequency = (np.arange(len(profile)) + 0.5) * 0.5 / len(profile)
        axes.plot(frequency, profile, "o-", markersize=2.5, color=colour, label=_plain(function))
    axes.axhline(1, color=GREY, linestyle="--", label="white noise")
    axes.set_yscale("log")
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("power of the input gradient\n(1: as in white noise)")
    axes.legend(fontsize=6.5)
    return figure


def _rose(numbers: Numbers) -> Figure | None:
    shares = {
        f: [found[f"gradient_{d}_test"] for d in DIRECTIONS]
        for f, found in numbers.items()
        if found.get("gradient_horizontal_test") is not None
    }
    if not shares:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    angles = np.arange(9) * np.pi / 4
    for (function, values), colour in zip(shares.items(), LINE_COLOURS * 2):
        axes.plot(angles, [*values, *values, values[0]], "o-", markersize=2.5, color=colour, label=_plain(function))
    axes.set_xticks(angles[:8], ["horizontal", "", "vertical", "", "", "", "", ""])
    axes.set_ylim(0, None)
    axes.legend(fontsize=6.5, loc="upper left", bbox_to_anchor=(-0.2, 1.12))
    return figure


def _heat_maps(arrays: Arrays) -> Figure | None:
    maps = {f: np.asarray(a["fourier_flips"]) for f, a in arrays.items() if "fourier_flips" in a}
    if not maps:
        return None
    figure = Figure(figsize=(1.5 * len(maps) + 0.6, 1.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(maps)))
    top = max(m.max() for m in maps.values()) or 1
    for axes, (function, heat) in zip(panels, maps.items()):
        image = axes.imshow(heat, cmap="cividis", vmin=0, vmax=top, extent=(-0.5, 0.5, -0.5, 0.5))
        axes.set_title(_plain(function))
        axes.set_xticks([-0.5, 0, 0.5])
        axes.set_yticks([-0.5, 0, 0.5])
    figure.supxlabel("frequency (cycles per pixel)", fontsize=8)
    figure.colorbar(image, ax=list(panels), label="predictions flipped")
    return figure


def _plain(name: str) -> str:
    return name.replace("_", " ")
