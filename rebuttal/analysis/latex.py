"""Text for LaTeX: what pandas escapes, and the signs that pdfLaTeX does not know."""

from __future__ import annotations

from typing import TypeVar

import pandas as pd

T = TypeVar("T", str, pd.DataFrame)

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
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
_KNOWN = 0x180  # Latin letters with their accents
_TABLE = str.maketrans(_SPECIAL)


def escaped(content: T) -> T:
    """A text, or a frame's texts and heads, such that LaTeX shows them as they are; signs that it cannot show become
    question marks."""
    if isinstance(content, str):
        return "".join(sign if ord(sign) < _KNOWN else "?" for sign in content.translate(_TABLE))
    return content.map(lambda cell: escaped(str(cell))).rename(columns=escaped)
