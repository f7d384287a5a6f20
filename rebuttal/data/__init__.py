"""Datasets, and the corruptions of their labels and pixels.

A dataset is a config object whose method `open(cache)` returns a `Source`: whole tensors in memory, in three disjoint
splits: `train` (n1), `student` (n2: new inputs for a student), `test` (held out).
"""

from rebuttal.data.arrays import Arrays
from rebuttal.data.cifar import CIFAR10, CIFAR100
from rebuttal.data.dataset import Source
from rebuttal.data.examples import Examples
from rebuttal.data.idx import MNIST, FashionMNIST
from rebuttal.data.image_folder import ImageFolder
from rebuttal.data.labels import BalancedLabels, PermutedLabels, RandomLabels
from rebuttal.data.mixture import Mixture
from rebuttal.data.noise import GaussianNoise, NoiseLike, UniformNoise
from rebuttal.data.random_walk import RandomWalk
from rebuttal.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "SVHN",
    "Arrays",
    "BalancedLabels",
    "Examples",
    "FashionMNIST",
    "GaussianNoise",
    "ImageFolder",
    "Mixture",
    "NoiseLike",
    "PermutedLabels",
    "RandomLabels",
    "RandomWalk",
    "Source",
    "UniformNoise",
]
