"""Networks as the stages create, store and restore them: a fixed preprocessing layer, then the model."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.data.dataset import Source
from rebuttal.device import require_memory
from rebuttal.errors import user_code
from rebuttal.models.model import Model
from rebuttal.models.preprocess import Preprocessing
from rebuttal.seeds import torch_stream
from rebuttal.stages.session import Session
from rebuttal.store.entries import Artifact
from rebuttal.training import rehearsal
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import autocast

INITIAL_INPUTS = 5000  # at most, from which initial weights are set


class Network(nn.Sequential):
    """From inputs (n, *shape) in input space, floats or uint8 pixels, to logits (n, K)."""

    preprocess: nn.Module
    body: nn.Module

    def __init__(self, preprocess: nn.Module, body: nn.Module):
        super().__init__(OrderedDict(preprocess=preprocess, body=body))

    def fit(self, inputs: Tensor) -> None:
        """Let the first layer, and the model where its initial weights depend on the data, take what they need from
        training inputs (n, *shape)."""
        fit = getattr(self.preprocess, "fit", None)
        if callable(fit):
            fit(inputs)
        initialise = getattr(self.body, "initialise_from", None)
        if callable(initialise):
            with torch.no_grad(), user_code("model: its weights cannot be initialised from training inputs"):
                initialise(self.preprocess(inputs.index_select(0, _some(len(inputs)).to(inputs.device))))

    def start_epoch(self, epoch: int) -> None:
        """Tell the model that epoch 1, 2, … of its training begins."""
        start = getattr(self.body, "start_epoch", None)
        if callable(start):
            start(epoch)


def empty_network(model: Model, preprocess: Preprocessing, source: Source) -> Network:
    """The network on the meta device: without weights, so that it costs no memory.

    Raises `ConfigError` if model, preprocessing and data do not fit, or the model cannot be built there.
    """
    with torch.device("meta"):
        return _assemble(model, preprocess, source)


def new_network(model: Model, preprocess: Preprocessing, source: Source, seed: int, role: str) -> Network:
    """A freshly initialised network on the CPU, its weights drawn from the stream (`role`, "init").

    Raises `ConfigError` if its weights are larger than the machine's memory.
    """
    require_memory(weight_bytes(empty_network(model, preprocess, source)), "model: its weights")
    with torch_stream(seed, role, "init"):
        return _assemble(model, preprocess, source)


def restore_network(
    model: Model, preprocess: Preprocessing, source: Source, artifact: Artifact, session: Session
) -> Network:
    """The trained network of a stored artifact, on the session's device, in evaluation mode."""
    network = empty_network(model, preprocess, source)
    network.load_state_dict(artifact.tensors, assign=True)
    return network.to(session.device).eval().requires_grad_(False)


def rehearse(model: Model, preprocess: Preprocessing, recipe: Recipe, source: Source, inputs: Tensor) -> int:
    """Train a network for one step on one or two `inputs` (n, *shape), keep and restore it, so that one for which this
    fails is found before anything is trained. Return the bytes that its optimiser keeps.

    Raises `ConfigError` if the step fails, the outputs are not logits (n, K), or the restored network gives others.
    """
    network = new_network(model, preprocess, source, 0, "rehearsal").to(inputs.device)
    refused = f"model={type(model).__name__}: cannot be trained and restored for {_inputs(source)}"
    with torch_stream(0, "rehearsal", "dropout"):
        given = rehearsal.augmented(recipe, inputs)
        with user_code(refused):
            network.start_epoch(1)
            with autocast(inputs.device, recipe.precision):
                logits = network(given)
            allowed = f"allowed: ({len(inputs)}, {source.classes})"
            if not isinstance(logits, Tensor):
                raise TypeError(f"outputs in a {type(logits).__name__}; {allowed}")
            if tuple(logits.shape) != (len(inputs), source.classes):
                raise ValueError(f"outputs of shape {tuple(logits.shape)}; {allowed}")
            F.cross_entropy(logits, torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)).backward()
        states = rehearsal.try_optimizer(recipe, network)
        rehearsal.try_loss(recipe, logits.detach())
    rehearsal.try_schedule(recipe)
    with user_code(refused):
        _check_restorable(network, empty_network(model, preprocess, source), inputs)
    return states


def _some(n: int) -> Tensor:
    """Return the indices of at most `INITIAL_INPUTS` of n inputs, the same each time, from all over: inputs may be
    sorted by class, or have the classes in turn."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:INITIAL_INPUTS]


def body_shapes(model: Model, preprocess: Preprocessing, source: Source) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's weights and buffers after its first layer, by name: what `load_state_dict` compares."""
    return {name: tuple(t.shape) for name, t in empty_network(model, preprocess, source).body.state_dict().items()}


def weight_bytes(network: nn.Module) -> int:
    """Bytes of everything that the store keeps of a network."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _assemble(model: Model, preprocess: Preprocessing, source: Source) -> Network:
    with user_code(f"preprocess={type(preprocess).__name__}"):
        layer = preprocess.layer(source.shape, bool(getattr(source, "tabular", False)))
    with user_code(f"model={type(model).__name__}: cannot be built (also on the meta device) for {_inputs(source)}"):
        body = model.network(tuple(getattr(layer, "output_shape", source.shape)), source.classes)
    return Network(layer, body)


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


def _inputs(source: Source) -> str:
    return f"inputs of shape {list(source.shape)} and {source.classes} classes"
