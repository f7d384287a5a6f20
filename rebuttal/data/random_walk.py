"""A random walk through image space: each image differs from the one before in exactly one pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from rebuttal.config import checked
from rebuttal.data.examples import Examples, Split
from rebuttal.data.noise import Noise
from rebuttal.seeds import generator


@checked
class RandomWalk(Noise):
    """Labels are drawn anew at each step, independently of the image.

    `step="location"` gives one location new values in all its channels, `step="value"` changes one value
    of one channel. A new value is uniform over the other 255 grey levels, so every step is a real one.
    The test split is the continuation of the training walk; the student's is a walk of its own.
    """

    step: Literal["location", "value"] = "location"

    def examples(self, split: Split, seed: int) -> Examples:
        size = getattr(self, f"{split}_size")
        labels = torch.from_numpy(generator(seed, split, "labels").integers(self.classes, size=size))
        if split != "test":
            images = self.draw(size, generator(seed, split, "inputs"))
        else:
            images = self.draw(self.train_size + size, generator(seed, "train", "inputs"))[self.train_size :]
        return Examples(torch.from_numpy(images), labels)

    def identity(self, split: Split) -> dict:
        continued = {"after": self.train_size} if split == "test" else {}
        return {**super().identity(split), **continued}

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """The first `size` images of the walk, uint8 (size, *shape); a longer walk goes on from there."""
        channels, locations = _layout(self.shape, self.step)
        walk = np.empty((size, channels, locations), dtype=np.uint8)
        walk[0] = rng.integers(256, size=(channels, locations), dtype=np.uint8)
        # Row by row, so that the first draws of a longer walk are the same.
        draws = rng.random((size - 1, 1 + channels))
        where = (draws[:, 0] * locations).astype(np.int64)
        shifts = (1 + draws[:, 1:] * 255).astype(np.uint8)
        for t in range(1, size):
            walk[t] = walk[t - 1]
            walk[t, :, where[t - 1]] += shifts[t - 1]  # modulo 256
        return walk.reshape(size, *self.shape)


def _layout(shape: tuple[int, ...], step: str) -> tuple[int, int]:
    """How many values change together, and how many such groups an image has."""
    together = shape[0] if step == "location" and len(shape) > 1 else 1
    return together, int(np.prod(shape)) // together
