"""Any `nn.Module`, fitted to the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import field
from functools import partial
from math import prod
from typing import Any

from torch import nn

from rebuttal.config import Arguments, checked
from rebuttal.errors import ConfigError
from rebuttal.models.adapt import Blueprint, adapted, on_meta
from rebuttal.models.by_name import require_untrained
from rebuttal.store.identity import canonical, describe

CLASSES = ("num_classes", "n_classes", "classes", "num_labels", "num_outputs", "out_features", "output_dim", "out_dim")
CHANNELS = ("in_chans", "in_channels", "input_channels")
SIDES = ("img_size", "image_size")
SIZES = ("in_features", "input_dim", "in_dim")
SHAPES = ("shape", "input_shape", "in_shape")
UNTRAINED: dict[str, Any] = {"pretrained": False, "weights": None, "aux_logits": False}


@checked
class Module:
    """The network that `target(**arguments)` gives: a class of networks, or a function that returns one.

    `target`: its name as package.module:name, of a package that the command line lists in `packages`, or of torch.nn.
    `arguments`: what it is called with. Of the parameters that are not among them these are set, by name: the number of
    classes (`num_classes`, `n_classes`, `classes`, `num_labels`, `num_outputs`, `out_features`, `output_dim`,
    `out_dim`), the channels of images (`in_chans`, `in_channels`, `input_channels`), their height and width, one number
    if they are equal (`img_size`, `image_size`), the number of values of an input (`in_features`, `input_dim`,
    `in_dim`), its shape (`shape`, `input_shape`, `in_shape`); `pretrained`, `weights` and `aux_logits` are off.
    What still does not fit is adapted as `rebuttal.models.adapt.adapted` says.
    """

    target: Callable[..., Any] = field(metadata={"names_code": True})
    arguments: Arguments = field(default_factory=dict)

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        what = f"model.target={self.target.__module__}:{self.target.__qualname__}"
        require_untrained(self.arguments)
        settings = fitting(self.target, shape, classes) | self.arguments
        key = (self.target, canonical(describe(settings)))
        build = partial(_new, what, partial(self.target, **settings))
        return adapted(Blueprint(what, key, build, shape, classes))


def _new(what: str, build: Callable[[], Any]) -> Any:
    """Return what `build` gives. Raises `ConfigError` if it gives the same weights each time: training one network
    would change the other. It is called twice on the meta device only, where that costs nothing."""
    network = build()
    if on_meta() and isinstance(network, nn.Module):
        known = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) in known for parameter in build().parameters()):
            raise ConfigError(f"{what}: gives the same weights each time it is called; allowed: what gives new ones")
    return network


def fitting(target: Callable[..., Any], shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Return the arguments of `target` that the data decides, by the names of its parameters."""
    known = dict.fromkeys(CLASSES, classes) | dict.fromkeys(SIZES, prod(shape)) | dict.fromkeys(SHAPES, shape)
    if len(shape) == 3:
        channels, height, width = shape
        known |= dict.fromkeys(CHANNELS, channels)
        known |= dict.fromkeys(SIDES, height if height == width else (height, width))
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.target={target}: its parameters cannot be read ({error})") from error
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {name: value for name, value in (known | UNTRAINED).items() if name in named}
