"""Networks as the stages create, store and restore them: a fixed preprocessing layer, then the model."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

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

REHEARSAL_LR = 1e-6  # whether the recipe diverges is for the training to find out


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
    """Train a network for one step on one or two `inputs` (n, *shape), keep and restore it, so that one for which this
    fails is found before anything is trained.

    Raises `ConfigError` if the step fails, the outputs are not logits (n, K), or the restored network gives others.
    """
    network = new_network(model, recipe, source, 0, "rehearsal").to(inputs.device)
    try:
        with torch_stream(0, "rehearsal", "dropout"):
            optimizer = replace(recipe, lr=REHEARSAL_LR).make_optimizer(network)
            logits = network(inputs)
            allowed = f"allowed: ({len(inputs)}, {source.classes})"
            if not isinstance(logits, Tensor):
                raise TypeError(f"outputs in a {type(logits).__name__}; {allowed}")
            if tuple(logits.shape) != (len(inputs), source.classes):
                raise ValueError(f"outputs of shape {tuple(logits.shape)}; {allowed}")
            F.cross_entropy(logits, torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)).backward()
            optimizer.step()
        _check_restorable(network, empty_network(model, recipe, source), inputs)
    except Exception as error:  # a user's model may raise anything
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(_refused(model, source, "cannot be trained and restored", error)) from error


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
    tabular = bool(getattr(source, "tabular", False))
    return Network(Preprocess(source.shape, recipe.crop, recipe.normalisation, tabular), body)


@torch.no_grad()
def _check_restorable(network: Network, empty: Network, inputs: Tensor) -> None:
    """Raise `ValueError` if what is kept of `network` does not decide its outputs in evaluation mode."""
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if lost := [name for name, _ in network.named_buffers(remove_duplicate=False) if name not in kept]:
        raise ValueError(f"buffer {lost[0]} is not persistent, so it is not kept; allowed: persistent=True")
    empty.load_state_dict(kept, assign=True)
    restored, trained = (f.to(inputs.device).eval()(inputs) for f in (empty, network))
    if not torch.equal(restored.nan_to_num(), trained.nan_to_num()):
        raise ValueError(
            "the restored network gives other outputs; allowed: outputs that parameters and buffers decide"
        )


def _refused(model: Model, source: Source, why: str, error: Exception) -> str:
    inputs = f"inputs of shape {list(source.shape)} and {source.classes} classes"
    return f"model={type(model).__name__}: {why} for {inputs}: {type(error).__name__}: {error}"
