"""A random smooth function from random Fourier features."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.seeds import generator
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session

BANDWIDTH_INPUTS = 1000  # the training inputs whose mean distance is the bandwidth


@checked
class Fourier:
    """A random smooth function: random Fourier features (Rahimi & Recht 2007) of a Gaussian kernel whose bandwidth ℓ is
    the mean distance between training inputs (the first 1,000), 1 where there are none that differ.

    f(x) = √(2/m) Σ_i a_i cos(ω_i·x + b_i), ω_i ~ N(0, I/ℓ²), b_i uniform on [0, 2π), a_i standard normal in R^K,
    m = `features`: close to a sample of a Gaussian process with that kernel.
    """

    fit: Fit
    features: PositiveInt = 2048
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        source = session.open(self.fit.dataset)
        examples = session.examples(self.fit.dataset, "train", self.fit.data_seed)
        inputs = in_unit_range(examples.inputs[:BANDWIDTH_INPUTS]).flatten(1)
        distances = torch.pdist(inputs.double())
        bandwidth = distances.mean().item() if distances.any() else 1.0
        rng = generator(self.fit.seed, "fourier")
        size = inputs.shape[1]
        drawn = (rng.standard_normal((size, self.features)) / bandwidth, rng.random(self.features) * 2 * np.pi)
        omega, phase = (torch.from_numpy(array).float().to(inputs.device) for array in drawn)
        weights = torch.from_numpy(rng.standard_normal((self.features, source.classes))).float().to(inputs.device)
        scale: float = (2 / self.features) ** 0.5

        def smooth(x: Tensor) -> Tensor:
            waves = (in_unit_range(x).flatten(1).float() @ omega + phase).cos()
            return waves @ weights * scale

        return smooth

    def identity(self, session: Session) -> Any:
        data = self.fit.data_identity(session)["train"]
        apart = self.fit.seeds.identity("data")  # by which the inputs are drawn whose distances decide the bandwidth
        own = {"features": self.features, "seed": self.fit.seed}
        return {"function": "fourier", "version": 1, "train": data, **own, **apart}
