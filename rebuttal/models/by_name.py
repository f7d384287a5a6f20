"""Architectures of torchvision and timm by name, without trained weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import field
from difflib import get_close_matches
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from math import gcd
from typing import Any, Literal

import torch
from torch import nn

from rebuttal.config import Arguments, checked
from rebuttal.errors import ConfigError
from rebuttal.models.adapt import Blueprint, adapted
from rebuttal.models.images import require_image
from rebuttal.store.identity import canonical, describe

PATCHES = 7  # along each side of an image, at least, where the small stem chooses the size of patches
MAX_PATCH = 16  # pixels, where it does


def _version(library: str) -> str:
    """Return the version, without the kind of build (`+cu130`). Raises `ConfigError` if it is not installed."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        raise ConfigError(f"model={library}: is not installed here; pip install 'rebuttal[{library}]'") from None


@checked
class Torchvision:
    """The classification network `name` of torchvision, with new weights. `arguments`: further ones of its function,
    such as {width_mult: 0.5}.

    `stem`: with `small` the first layers do not shrink the image, as is usual for images of some 32 pixels: a first
    convolution with a stride and a kernel of 7 or more becomes 3×3, a smaller one loses its stride, a max-pool that
    follows is omitted; patches become 2×2, and those of vision transformers so small that there are 7 or more along
    each side. `own`: as the library has them. `version`: of the library; set by itself.

    The first convolution is replaced if images have other than 3 channels. GoogLeNet and Inception are built without
    auxiliary outputs.
    """

    name: str
    arguments: Arguments = field(default_factory=dict)
    stem: Literal["small", "own"] = "small"
    version: str = field(init=False, default_factory=partial(_version, "torchvision"))

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        from torchvision import models  # here, because importing torchvision takes a second

        require_image(self.name, shape)
        _require_known(self.name, models.list_models(module=models), "torchvision")
        require_untrained(self.arguments)
        builder = models.get_model_builder(self.name)
        settings = {"num_classes": classes, "weights": None, **self._without_auxiliaries(), **self.arguments}
        build, small = partial(_quietly, builder, settings), self.stem == "small"
        if self.name.startswith("vit_"):
            build, small = partial(self._transformer, builder, shape, settings), False
        return adapted(_blueprint(self, build, shape, classes, small))

    def _without_auxiliaries(self) -> dict[str, Any]:
        return {"aux_logits": False, "init_weights": True} if self.name in ("googlenet", "inception_v3") else {}

    def _transformer(self, builder: Callable[..., Any], shape: tuple[int, ...], settings: dict[str, Any]) -> Any:
        """A vision transformer for square images. torchvision fixes its patches: with as many of them as it needs of
        another size, only the layer that reads them has to be replaced."""
        channels, height, width = shape
        if height != width:
            raise ConfigError(f"model.name={self.name}: needs square images, not {height}x{width}")
        own = int(self.name.rpartition("_")[2])
        patch = own if self.stem == "own" else patch_side(height, own)
        if height % patch:
            raise ConfigError(f"model.name={self.name}: needs a multiple of {own} pixels; allowed: model.stem=small")
        network: Any = builder(**{"image_size": height // patch * own} | settings)
        network.image_size, network.patch_size = height, patch
        if (patch, channels) != (own, 3):
            network.conv_proj = nn.Conv2d(channels, network.hidden_dim, patch, patch)
            nn.init.trunc_normal_(network.conv_proj.weight, std=(channels * patch**2) ** -0.5)
            nn.init.zeros_(network.conv_proj.bias)
        return network


@checked
class Timm:
    """The network `name` of timm (`pip install 'rebuttal[timm]'`), with new weights. `arguments`: further ones of
    `timm.create_model`, such as {drop_path_rate: 0.1}. `stem`: as in torchvision's. `version`: of the library; set by
    itself.

    timm fits networks to the channels itself, and those of a fixed image size to the image. Of the latter the small
    stem changes the patches only, where the network lets them be chosen.
    """

    name: str
    arguments: Arguments = field(default_factory=dict)
    stem: Literal["small", "own"] = "small"
    version: str = field(init=False, default_factory=partial(_version, "timm"))

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        import timm

        require_image(self.name, shape)
        _require_known(self.name, timm.list_models(), "timm")
        require_untrained(self.arguments)
        fixed = getattr(timm.get_pretrained_cfg(self.name), "fixed_input_size", False)
        common = {"model_name": self.name, "pretrained": False, "num_classes": classes, "in_chans": shape[0]}
        choices = [common | sizes | self.arguments for sizes in (self._sizes(shape) if fixed else [{}])]
        build, small = partial(_first_that_takes, shape, choices), self.stem == "small" and not fixed
        return adapted(_blueprint(self, build, shape, classes, small))

    def _sizes(self, shape: tuple[int, ...]) -> list[dict[str, Any]]:
        """The arguments by which timm may fit a network of fixed size to images, the preferred ones first."""
        size = {"img_size": list(shape[1:])}
        patch = {"patch_size": patch_side(gcd(*shape[1:]), MAX_PATCH)}
        return [size, {}] if self.stem == "own" else [size | patch, size, {}]


def _first_that_takes(shape: tuple[int, ...], choices: list[dict[str, Any]]) -> Any:
    """Return timm's network with the first settings with which it takes inputs (n, *shape); else with the last."""
    import timm

    settings = next((choice for choice in choices[:-1] if _takes(canonical(choice), shape)), choices[-1])
    return _quietly(timm.create_model, settings)


@lru_cache(maxsize=256)
def _takes(settings: str, shape: tuple[int, ...]) -> bool:
    """True if timm builds a network with these settings, as JSON, that takes inputs (n, *shape); without weights."""
    import timm

    try:
        with torch.device("meta"), torch.no_grad():
            _quietly(timm.create_model, json.loads(settings)).eval()(torch.zeros(2, *shape))
    except Exception:  # timm's networks refuse sizes with errors of every kind
        return False
    return True


def patch_side(side: int, own: int) -> int:
    """Return the largest divisor of `side` that is at most `own` and leaves `PATCHES` patches along the side."""
    return max(d for d in range(1, own + 1) if side % d == 0 and (d == 1 or side // d >= PATCHES))


def require_untrained(arguments: dict[str, Any]) -> None:
    """Raise `ConfigError` for arguments that name trained weights."""
    for name, value in arguments.items():
        if name in ("weights", "cache_dir") or any(word in name for word in ("pretrained", "checkpoint")):
            raise ConfigError(
                f"model.arguments.{name}={value}: trained weights are not used, every network starts from new ones; "
                "allowed: other arguments"
            )


def _quietly(build: Callable[..., Any], settings: dict[str, Any]) -> Any:
    """Call a library's function without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(**settings)


def _require_known(name: str, names: Sequence[str], library: str) -> None:
    if name not in names:
        near = ", ".join(get_close_matches(name, names, n=5, cutoff=0.4)) or ", ".join(names[:5])
        raise ConfigError(f"model.name={name}: {library} has no such network; allowed: {near}, … ({len(names)} in all)")


def _blueprint(
    model: Torchvision | Timm, build: Callable[[], Any], shape: tuple[int, ...], classes: int, small_stem: bool
) -> Blueprint:
    key = canonical(describe(model))
    positions = min(PATCHES, min(shape[1:]) // 2) if model.stem == "small" else 0
    return Blueprint(f"model.name={model.name}", key, build, shape, classes, small_stem, positions)
