"""Architectures: config objects whose `network(shape, classes)` returns a newly initialised `nn.Module` from inputs
(n, *shape) to logits (n, classes). Initial weights are drawn from torch's global generator. And what precedes them: the
crop and the normalisation of inputs."""

from rebuttal.models.airbench import AirBench
from rebuttal.models.alexnet import AlexNet
from rebuttal.models.by_name import Timm, Torchvision
from rebuttal.models.inception import Inception
from rebuttal.models.mlp import MLP
from rebuttal.models.module import Module
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.models.resnet import ResNet18
from rebuttal.models.vgg import VGG11
from rebuttal.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "VGG11",
    "AirBench",
    "AlexNet",
    "CropAndNormalise",
    "Inception",
    "Module",
    "ResNet18",
    "Timm",
    "Torchvision",
    "WideResNet",
]
