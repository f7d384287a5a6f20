"""Training: the recipe and its parts, the training loop, evaluation, and the deferral of signals."""

from rebuttal.training.augmentations import CropAndFlip
from rebuttal.training.losses import CrossEntropy, Margin, SquaredError
from rebuttal.training.optimizers import SGD, AdamW, TorchOptimizer
from rebuttal.training.recipe import Recipe
from rebuttal.training.schedules import Constant, Cosine, Exponential, Linear, Step

__all__ = [
    "SGD",
    "AdamW",
    "Constant",
    "Cosine",
    "CropAndFlip",
    "CrossEntropy",
    "Exponential",
    "Linear",
    "Margin",
    "Recipe",
    "SquaredError",
    "Step",
    "TorchOptimizer",
]
