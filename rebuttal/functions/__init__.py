"""Functions from inputs to logits: the networks of stages, as teachers, and the null functions that they are compared
with. Each is a config object; `rebuttal.stages.function.Function` is their interface."""

from rebuttal.functions.fourier import Fourier
from rebuttal.functions.hash import Hash
from rebuttal.functions.kernel import Kernel
from rebuttal.functions.linear import Linear
from rebuttal.functions.matched import Matched
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Student, Trained, Untrained, independent, refitted, relabelled
from rebuttal.functions.random_filters import RandomFilters
from rebuttal.functions.theorem1 import Theorem1

__all__ = [
    "Fourier",
    "Hash",
    "Kernel",
    "Linear",
    "Matched",
    "NearestNeighbour",
    "RandomFilters",
    "Student",
    "Theorem1",
    "Trained",
    "Untrained",
    "independent",
    "refitted",
    "relabelled",
]
