"""What the file of the user's project adds to a command: its packages and its folders of configs, as overrides.

Hydra handles them like any others, and the run records them, so that it can be repeated from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from rebuttal.launch.expand import PACKAGES, SEARCHPATH, as_one
from rebuttal.runs.project import Project


def add_project(arguments: Sequence[str], project: Project) -> list[str]:
    """Return the arguments with what the project's file lists, after what they list themselves: of two options of one
    name Hydra takes that of the folder named first. What they set to null stays null."""
    return as_one(SEARCHPATH, as_one(PACKAGES, arguments, project.packages), project.searchpath)
