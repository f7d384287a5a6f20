"""LaTeX escaping: the special characters, and the Unicode characters that pdfLaTeX does not support."""

from __future__ import annotations

from typing import TypeVar

import pandas as pd

T = TypeVar("T", str, pd.DataFrame)

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "κ": r"$\kappa$",
    "ρ": r"$\rho$",
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
