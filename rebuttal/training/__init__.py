"""Training: the recipe and its parts, the training loop, evaluation, and the deferral of signals."""

from rebuttal.training.augmentations import AlternatingFlip, CropAndFlip, FlipAndRotate
from rebuttal.training.losses import CrossEntropy, Margin, SquaredError
from rebuttal.training.optimizers import SGD, AdamW, ScaledBiasSGD, TorchOptimizer
from rebuttal.training.recipe import Recipe
from rebuttal.training.schedules import Constant, Cosine, Exponential, Linear, Step, Triangular

__all__ = [
    "SGD",
    "AdamW",
    "AlternatingFlip",
    "Constant",
    "Cosine",
    "CropAndFlip",
    "CrossEntropy",
    "Exponential",
    "FlipAndRotate",
    "Linear",
    "Margin",
    "Recipe",
    "ScaledBiasSGD",
    "SquaredError",
    "Step",
    "TorchOptimizer",
    "Triangular",
]
