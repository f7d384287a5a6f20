"""What `training.precision=auto` becomes: bfloat16 where the processor has instructions for it and a timed trial of the
model wins, else float32. A run's config, and so the identity of its networks, has what it became."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import build
from rebuttal.device import configured, has_bfloat16, machine, resolve
from rebuttal.models.model import Model
from rebuttal.seeds import torch_stream
from rebuttal.stages.session import Settings
from rebuttal.store.identity import describe
from rebuttal.store.trials import kept_trial
from rebuttal.training.layout import has_convolutions, layout_of_steps, takes_channels_last
from rebuttal.training.step import autocast

log = logging.getLogger(__name__)

SHAPE, CLASSES = (3, 32, 32), 10  # of the trial
BATCH = 64  # with few images a step is mostly overhead, which both precisions have
ROUNDS = 3
WIN = 0.9  # of float32's time, below which bfloat16 wins
VERSION = 2  # raised when the same machine and model are to be tried again


AUTO = "auto"
UNDECIDED = "float32"  # what a recipe is checked with where its networks cannot be tried


def settle(config: dict[str, Any], settings: Settings, may_try: Callable[[str], bool] = lambda device: True) -> None:
    """Replace every `precision: auto` in a resolved config by what it becomes on the run's device.

    `may_try`: whether this process may try networks on a device of that name; where it may not, all become `UNDECIDED`.
    """
    for owner in _undecided(config):
        node = _model_of(owner)
        model = None if node is None else build(node, "model", settings.packages)
        tried = model is not None and may_try(settings.device)
        owner["training"]["precision"] = _chosen(cast("Model", model), settings) if tried else UNDECIDED


def is_undecided(config: dict[str, Any]) -> bool:
    """True if a part of a resolved config leaves its precision to a trial."""
    return any(True for _ in _undecided(config))


def settled(then: dict[str, Any], became: dict[str, Any]) -> dict[str, str]:
    """What each `auto` of a past run became, by its key.

    `then`: the run's config as composed; `became`: the same, resolved and settled."""
    shared = then.get("training")
    by_default = shared.get("precision") if isinstance(shared, dict) else None
    found = {}
    for place, owner in _with_recipes(became):
        recipe = _at(then, [*place, "training"])
        asked = recipe.get("precision", by_default) if isinstance(recipe, dict) else by_default
        if asked == AUTO:
            found[".".join([*place, "training", "precision"])] = str(owner["training"]["precision"])
    return found


def _at(node: Any, place: Sequence[str]) -> Any:
    for name in place:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _undecided(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for _, owner in _with_recipes(config):
        if owner["training"].get("precision") == AUTO:
            yield owner


def _with_recipes(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the key, and the content, of every part of a config that has a recipe."""
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, part in parts:
        yield from _with_recipes(part, (*place, str(name)))
    if isinstance(node, dict) and isinstance(node.get("training"), dict):
        yield place, node


def _model_of(owner: dict[str, Any]) -> Any:
    """The model that the recipe of this part trains: its own, or that of the teacher it learns from."""
    if owner.get("model") is not None:
        return owner["model"]
    within = [part for part in owner.values() if isinstance(part, dict)]
    return next((found for part in within if (found := _model_of(part)) is not None), None)


def _chosen(model: Model, settings: Settings) -> str:
    """A machine decides once for each model, so that its networks are found again: the trial is kept in the store."""
    device = resolve(settings.device)
    if not has_bfloat16(device):
        return "float32"
    where = machine()
    if device.type == "cuda":
        where["gpu"] = torch.cuda.get_device_name(device)
    asked = {
        "trial": "precision",
        "version": VERSION,
        "model": describe(model),
        "cpu": where["cpu"],
        "gpu": where["gpu"],
    }
    with configured(settings.device, settings.threads):
        seconds = kept_trial(settings.store, asked, lambda: _trial(model, device))
    return "bfloat16" if seconds and seconds["bfloat16"] < WIN * seconds["float32"] else "float32"


def _trial(model: Model, device: torch.device) -> dict[str, float] | None:
    """Seconds of a training step by precision; None for a model without convolutions, or not for images like these."""
    with torch_stream(0, "precision", "trial"):
        try:
            network = model.network(SHAPE, CLASSES).to(device).train()
            if not has_convolutions(network):
                return None
            inputs = torch.rand(BATCH, *SHAPE, device=device)
            takes_layout = takes_channels_last(network, inputs[:2])
            times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
            for _ in range(1 + ROUNDS):  # alternately, for a machine that others use too; the first is not counted
                for precision, seconds in times.items():
                    seconds.append(_seconds(network, inputs, precision, takes_layout))
        except Exception as error:  # of any model, which may be for other images
            name, why = type(model).__name__, f"{type(error).__name__}: {error}"
            log.warning("training.precision=auto: %s is in float32, without a trial on %s (%s)", name, SHAPE, why)
            return None
    found = {precision: min(seconds[1:]) for precision, seconds in times.items()}
    log.info("precision of %s: a step of %d images takes %s", type(model).__name__, BATCH, _in_words(found))
    return found


def _seconds(network: nn.Module, inputs: Tensor, precision: str, takes_layout: bool) -> float:
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    labels = torch.arange(BATCH, device=inputs.device) % CLASSES
    with layout_of_steps(network, optimizer, precision, takes_layout):
        began = time.perf_counter()
        with autocast(inputs.device, precision):
            loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        loss.item()  # waits for the device
        took = time.perf_counter() - began
    network.zero_grad()
    return took


def _in_words(seconds: dict[str, float]) -> str:
    return " and ".join(f"{1000 * value:.0f} ms in {precision}" for precision, value in seconds.items())
