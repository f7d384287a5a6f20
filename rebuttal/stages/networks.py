"""Networks as the stages create, store and restore them: a fixed preprocessing layer, then the model."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.data.dataset import Source
from rebuttal.device import require_memory
from rebuttal.errors import ConfigError, UserError, out_of_memory
from rebuttal.models.model import Model
from rebuttal.models.preprocess import Preprocess, cropped_shape
from rebuttal.seeds import torch_stream
from rebuttal.stages.session import Session
from rebuttal.store.entries import Artifact
from rebuttal.training.recipe import Recipe


class Network(nn.Sequential):
    """From inputs (n, *shape) in input space, floats or uint8 pixels, to logits (n, K)."""

    preprocess: Preprocess
    body: nn.Module

    def __init__(self, preprocess: Preprocess, body: nn.Module):
        super().__init__(OrderedDict(preprocess=preprocess, body=body))


def empty_network(model: Model, recipe: Recipe, source: Source) -> Network:
    """The network on the meta device: without weights, so that it costs no memory.

    Raises `ConfigError` if model, recipe and data do not fit, or the model cannot be built there.
    """
    with torch.device("meta"):
        return _assemble(model, recipe, source)


def new_network(model: Model, recipe: Recipe, source: Source, seed: int, role: str) -> Network:
    """A freshly initialised network on the CPU, its weights drawn from the stream (`role`, "init").

    Raises `ConfigError` if its weights are larger than the machine's memory.
    """
    require_memory(weight_bytes(empty_network(model, recipe, source)), "model: its weights")
    with torch_stream(seed, role, "init"):
        return _assemble(model, recipe, source)


def restore_network(model: Model, recipe: Recipe, source: Source, artifact: Artifact, session: Session) -> Network:
    """The trained network of a stored artifact, on the session's device, in evaluation mode."""
    network = empty_network(model, recipe, source)
    network.load_state_dict(artifact.tensors, assign=True)
    return network.to(session.device).eval().requires_grad_(False)


def rehearse(model: Model, recipe: Recipe, source: Source, inputs: Tensor) -> None:
    """Make one forward and backward pass on two training `inputs` (2, *shape), so that a network that cannot be
    trained is found before anything is.

    Raises `ConfigError` if the pass fails, or the outputs are not logits (2, K).
    """
    network = new_network(model, recipe, source, 0, "rehearsal").to(inputs.device)
    try:
        with torch_stream(0, "rehearsal", "dropout"):
            logits = network(inputs)
            if tuple(logits.shape) != (len(inputs), source.classes):
                raise ValueError(f"outputs of shape {tuple(logits.shape)}; allowed: ({len(inputs)}, {source.classes})")
            F.cross_entropy(logits, torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)).backward()
    except Exception as error:  # a user's model may raise anything
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(_refused(model, source, "cannot be trained", error)) from error


def weight_bytes(network: nn.Module) -> int:
    """Bytes of everything that the store keeps of a network."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _assemble(model: Model, recipe: Recipe, source: Source) -> Network:
    shape = cropped_shape(source.shape, recipe.crop)
    try:
        body = model.network(shape, source.classes)
    except Exception as error:  # a user's model may raise anything
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(_refused(model, source, "cannot be built (also on the meta device)", error)) from error
    return Network(Preprocess(source.shape, recipe.crop, recipe.normalisation), body)


def _refused(model: Model, source: Source, why: str, error: Exception) -> str:
    inputs = f"inputs of shape {list(source.shape)} and {source.classes} classes"
    return f"model={type(model).__name__}: {why} for {inputs}: {type(error).__name__}: {error}"
