"""Training: the recipe, the training loop, evaluation, and the deferral of signals."""

from rebuttal.training.recipe import Recipe

__all__ = ["Recipe"]
