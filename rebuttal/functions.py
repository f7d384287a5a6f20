"""Functions from inputs to logits: the network of a `fit` stage, and the null functions set against it.

Each is a config object with `fit`, the stage that it comes from or stands in for; with `needs()`, the stages whose
networks it takes; and with `function(session)`, which gives a callable from inputs (n, *shape) to logits (n, K).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked, option_of
from rebuttal.data.examples import in_unit_range
from rebuttal.measures.subject import spread
from rebuttal.seeds import generator
from rebuttal.session import Session
from rebuttal.stages.fit import Fit
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.stage import Stage
from rebuttal.training import EVALUATION_BATCH, predict

NEIGHBOUR_ROWS = 512  # inputs whose distances to all training inputs are held at a time

Function = Callable[[Tensor], Tensor]


@checked
class Trained:
    """The network that `fit` trained, in evaluation mode.

    `batch_norm`: `evaluation`, with the running statistics of its training; `new_inputs`, with statistics taken
    anew over all inputs that the dataset has for a student, as if it had been run in training mode on them.
    """

    fit: Fit
    batch_norm: Literal["evaluation", "new_inputs"] = "evaluation"
    differentiable: ClassVar[bool] = True

    def needs(self) -> tuple[Stage, ...]:
        return (self.fit,)

    def function(self, session: Session) -> Function:
        network = self.fit.network(session)
        if self.batch_norm == "evaluation":
            return network
        return with_statistics_of(network, session.examples(self.fit.dataset, "student", self.fit.seed).inputs)

    def identity(self, session: Session) -> Any:
        if self.batch_norm == "evaluation":
            return {"function": "trained", "fit": self.fit.identity(session)}
        inputs = session.open(self.fit.dataset).identity("student")
        return {"function": "trained", "fit": self.fit.identity(session), "batch_norm": inputs}


@torch.no_grad()
def with_statistics_of(network: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of `network`, in evaluation mode, whose batch-norms' running statistics are those of `inputs`,
    averaged over batches."""
    network = copy.deepcopy(network).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    for batch in inputs.tensor_split(-(-len(inputs) // EVALUATION_BATCH)):
        network(batch)
    return network.eval()


def independent(fit: Fit) -> Trained:
    """The network that the same recipe gives from the next seed: other data, other labels, another
    initialisation. What a student agrees with it is what all networks share."""
    return Trained(fit=replace(fit, seed=fit.seed + 1))


def refitted(fit: Fit) -> Trained:
    """A network trained on the same data and labels in the same order from another initialisation: what it
    agrees with `fit`'s is decided by the data alone."""
    return Trained(fit=replace(fit, initialisation=fit.initialisation + 1))


@checked
class Student:
    """The student of a `mimic` stage."""

    mimic: Mimic
    differentiable: ClassVar[bool] = True

    @property
    def fit(self) -> Fit:
        return self.mimic.teacher.fit

    def needs(self) -> tuple[Stage, ...]:
        return (self.mimic,)

    def function(self, session: Session) -> Function:
        return self.mimic.network(session)

    def identity(self, session: Session) -> Any:
        return {"function": "student", "mimic": self.mimic.identity(session)}


@checked
class Untrained:
    """The same network before its first step: same architecture, same initial weights."""

    fit: Fit
    differentiable: ClassVar[bool] = True

    def needs(self) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Function:
        return self.fit.initial_network(session).eval()

    def identity(self, session: Session) -> Any:
        return {"function": "untrained", "fit": self.fit.initial_identity(session)}


@checked
class Hash:
    """A fixed pseudo-random answer for each input, unrelated to that of any other input, however near.

    Logits are independent standard normals, so the labels are uniform. There is nothing to learn: a
    student's kappa must be 0.
    """

    fit: Fit
    differentiable: ClassVar[bool] = False

    def needs(self) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Function:
        return HashFunction.draw(session.open(self.fit.dataset).classes, self.fit.seed)

    def identity(self, session: Session) -> Any:
        classes = session.open(self.fit.dataset).classes
        return {"function": "hash", "version": 1, "classes": classes, "seed": self.fit.seed}


@checked
class NearestNeighbour:
    """The label of the nearest training input (Euclidean), as one-hot logits: the training set memorised, and
    nothing else."""

    fit: Fit
    differentiable: ClassVar[bool] = False

    def needs(self) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Function:
        known = self.fit.training_examples(session)
        inputs = in_unit_range(known.inputs).flatten(1)
        answers = F.one_hot(known.labels, session.open(self.fit.dataset).classes).float()

        def nearest(x: Tensor) -> Tensor:
            rows = in_unit_range(x).flatten(1).to(inputs).split(NEIGHBOUR_ROWS)
            return torch.cat([answers[torch.cdist(row, inputs).argmin(dim=1)] for row in rows])

        return nearest

    def identity(self, session: Session) -> Any:
        return {"function": "nearest_neighbour", "version": 1, "data": self.fit.data_identity(session)}


@checked
class Linear:
    """The least-squares fit of one-hot training labels by an affine function of the input; of all solutions
    the smallest."""

    fit: Fit
    differentiable: ClassVar[bool] = True

    def needs(self) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Function:
        known = self.fit.training_examples(session)
        x = in_unit_range(known.inputs).flatten(1).double()
        y = F.one_hot(known.labels, session.open(self.fit.dataset).classes).double()
        middle = x.mean(dim=0)
        weight = least_squares(x - middle, y - y.mean(dim=0))
        layer = nn.Linear(x.shape[1], y.shape[1], device=x.device)
        layer.weight.data.copy_(weight.T)
        layer.bias.data.copy_(y.mean(dim=0) - middle @ weight)
        return nn.Sequential(FlattenPixels(), layer).eval().requires_grad_(False)

    def identity(self, session: Session) -> Any:
        return {"function": "linear", "version": 1, "data": self.fit.data_identity(session)}


class FlattenPixels(nn.Flatten):
    """Inputs (n, *shape), floats or uint8 pixels, to floats (n, d) in input space."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(in_unit_range(x))


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """The smallest w (d, K) of those that minimise ‖xw − y‖, for x (n, d) and y (n, K), through the Gram matrix
    of the shorter side."""
    if x.shape[0] < x.shape[1]:
        return x.T @ (torch.linalg.pinv(x @ x.T, hermitian=True) @ y)
    return torch.linalg.pinv(x.T @ x, hermitian=True) @ (x.T @ y)


@checked
class Fourier:
    """A random smooth function: random Fourier features (Rahimi & Recht 2007) of a Gaussian kernel whose
    bandwidth ℓ is the mean distance between training inputs.

    f(x) = √(2/m) Σ_i a_i cos(ω_i·x + b_i), ω_i ~ N(0, I/ℓ²), b_i uniform on [0, 2π), a_i standard normal in R^K,
    m = `features`: close to a Gaussian process with that kernel.
    """

    fit: Fit
    features: PositiveInt = 2048
    differentiable: ClassVar[bool] = True

    def needs(self) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Function:
        source = session.open(self.fit.dataset)
        inputs = in_unit_range(session.examples(self.fit.dataset, "train", self.fit.seed).inputs[:1000]).flatten(1)
        bandwidth = torch.pdist(inputs.double()).mean().item()
        rng = generator(self.fit.seed, "fourier")
        size = inputs.shape[1]
        drawn = (rng.standard_normal((size, self.features)) / bandwidth, rng.random(self.features) * 2 * np.pi)
        omega, phase = (torch.from_numpy(array).float().to(inputs.device) for array in drawn)
        mix = torch.from_numpy(rng.standard_normal((self.features, source.classes))).float().to(inputs.device)

        def smooth(x: Tensor) -> Tensor:
            waves = (in_unit_range(x).flatten(1).float() @ omega + phase).cos()
            return waves @ mix * (2 / self.features) ** 0.5

        return smooth

    def identity(self, session: Session) -> Any:
        data = self.fit.data_identity(session)["train"]
        return {"function": "fourier", "version": 1, "train": data, "features": self.features, "seed": self.fit.seed}


@checked
class Matched:
    """Another function, multiplied so that its logits have the spread that the logits of `to` have on the
    held-out inputs: what differs then is the shape, not the size."""

    of: option_of("function", "function")
    to: option_of("function", "function")

    @property
    def fit(self) -> Fit:
        return self.of.fit

    @property
    def differentiable(self) -> bool:
        return self.of.differentiable

    def needs(self) -> tuple[Stage, ...]:
        return (*self.of.needs(), *self.to.needs())

    def function(self, session: Session) -> Function:
        inputs = session.examples(self.to.fit.dataset, "test", self.to.fit.seed).inputs
        inner = self.of.function(session)
        scale = spread(predict(self.to.function(session), inputs)) / spread(predict(inner, inputs))
        return lambda x: scale * inner(x)

    def identity(self, session: Session) -> Any:
        return {"matched": self.of.identity(session), "to": self.to.identity(session)}


@dataclass(frozen=True)
class HashFunction:
    """logit_k(x) = Φ⁻¹(u_k), where u_k are the top 24 bits of mix(Σ_i a_i·bits(x_i) + b_k) modulo 2^64.

    bits(x_i) is coordinate i as a float32 bit pattern and a_i an odd pseudo-random number; mix is
    SplitMix64's finaliser (Steele et al. 2014), so that one changed bit changes every logit.
    """

    keys: tuple[int, ...]
    seed: int

    @classmethod
    def draw(cls, classes: int, seed: int) -> HashFunction:
        keys = generator(seed, "hash", "classes").integers(-(2**63), 2**63 - 1, size=classes)
        return cls(tuple(keys.tolist()), seed)

    def __call__(self, inputs: Tensor) -> Tensor:
        bits = in_unit_range(inputs).flatten(1).contiguous().view(torch.int32).cpu().numpy().astype(np.uint64)
        factors = generator(self.seed, "hash", "inputs").integers(2**63, size=bits.shape[1]).astype(np.uint64)
        sums = (bits * (2 * factors + 1)).sum(axis=1, dtype=np.uint64)
        words = _mix(sums[:, None] + np.array(self.keys, dtype=np.int64).astype(np.uint64))
        uniform = ((words >> np.uint64(40)).astype(np.float64) + 0.5) / 2**24
        return torch.special.ndtri(torch.from_numpy(uniform)).float().to(inputs.device)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
