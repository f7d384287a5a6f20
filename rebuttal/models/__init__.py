"""Architectures. Each is a config object whose `network(shape, classes)` gives a fresh `nn.Module` from
inputs (n, *shape) to logits (n, classes), initialised from torch's global generator."""

from rebuttal.models.mlp import MLP
from rebuttal.models.resnet import ResNet18
from rebuttal.models.vgg import VGG11

__all__ = ["MLP", "VGG11", "ResNet18"]
