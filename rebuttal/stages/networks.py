"""Networks as the stages make, keep and find them again: a fixed preprocessing layer, then the model."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from rebuttal.data.examples import Source
from rebuttal.device import require_memory
from rebuttal.models.preprocess import Preprocess, cropped_shape
from rebuttal.seeds import torch_stream
from rebuttal.session import Session
from rebuttal.store import Artifact
from rebuttal.training import Recipe


def empty_network(model: Any, recipe: Recipe, source: Source) -> nn.Sequential:
    """The network without weights, which costs no memory. Raises `ConfigError` where model, recipe and data do
    not fit."""
    with torch.device("meta"):
        return _assemble(model, recipe, source)


def new_network(model: Any, recipe: Recipe, source: Source, seed: int, role: str) -> nn.Sequential:
    """A freshly initialised network on the CPU, its weights drawn from the stream (`role`, "init")."""
    require_memory(weight_bytes(empty_network(model, recipe, source)), "model: its weights")
    with torch_stream(seed, role, "init"):
        return _assemble(model, recipe, source)


def restore_network(model: Any, recipe: Recipe, source: Source, artifact: Artifact, session: Session) -> nn.Module:
    """The trained network of a stored artifact, on the session's device, in evaluation mode."""
    network = empty_network(model, recipe, source)
    network.load_state_dict(artifact.tensors, assign=True)
    return network.to(session.device).eval().requires_grad_(False)


def weight_bytes(network: nn.Module) -> int:
    """Of all that is kept of it in the store."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _assemble(model: Any, recipe: Recipe, source: Source) -> nn.Sequential:
    body = model.network(cropped_shape(source.shape, recipe.crop), source.classes)
    preprocess = Preprocess(source.shape, recipe.crop, recipe.normalisation)
    return nn.Sequential(OrderedDict(preprocess=preprocess, body=body))
