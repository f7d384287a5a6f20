"""The check of the input shape that convolutional models share."""

from __future__ import annotations

from rebuttal.errors import ConfigError


def require_image(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return `shape` as (channels, height, width). Raises `ConfigError` if the inputs are not images."""
    if len(shape) != 3:
        raise ConfigError(
            f"model={model}: needs images, but the dataset's inputs have shape {list(shape)}; "
            "allowed here: mlp, mlp_1x512, mlp_toy, linear, or dataset.shape=[channels,height,width]"
        )
    return shape
