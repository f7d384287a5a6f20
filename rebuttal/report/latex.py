"""LaTeX escaping: the special characters, and the Unicode characters that pdfLaTeX does not support."""

from __future__ import annotations

from typing import TypeVar

import pandas as pd

T = TypeVar("T", str, pd.DataFrame)

_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "varsigma",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]  # from U+03B1 on
_CAPITALS = {"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ω": "Omega"}
_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "∞": r"$\infty$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "←": r"$\gets$",
    "√": r"$\surd$",
    "∂": r"$\partial$",
    "∇": r"$\nabla$",
    "‖": r"$\|$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "„": ",,",
    "‘": "`",
    "’": "'",
    "—": "---",
    "[": "{[}",  # at the beginning of a row it would be an argument of the one before
    **{chr(0x3B1 + i): rf"$\{name}$" for i, name in enumerate(_GREEK)},
    "ο": "o",
    **{letter: rf"$\{name}$" for letter, name in _CAPITALS.items()},
    "²": r"$^2$",
    "–": "--",
    "−": "$-$",
}
_SUPPORTED = 0x180  # code points below: Latin letters with accents
_TABLE = str.maketrans(_SPECIAL)


def escaped(content: T) -> T:
    """Escape a text, or the cells and headings of a frame, for LaTeX. Unsupported characters become question marks."""
    if isinstance(content, str):
        return "".join(character if ord(character) < _SUPPORTED else "?" for character in content.translate(_TABLE))
    return content.map(lambda cell: escaped(str(cell))).rename(columns=escaped)
