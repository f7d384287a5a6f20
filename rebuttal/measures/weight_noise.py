"""The noise that a network's weights bear, which PAC-Bayes bounds are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, batch_size, logits_at
from rebuttal.training.evaluation import accuracy, predict

HALVINGS = 16  # of the interval from 0 to the reach


@checked
class WeightNoise:
    """The largest σ at which a network whose weights carry normal noise keeps its training accuracy within `drop`, as a
    mean over `draws` of the noise (Jiang et al. 2020: PAC-Bayes σ, with a drop of 0.1):

    `weight_noise`: noise of standard deviation σ in every parameter, in units of the weights;
    `weight_noise_relative`: of σ·|w| in parameter w (there: magnitude-aware), which has no unit and does not
    change when a network is rescaled without changing its function.

    Training accuracy: on the train probes, for the labels that the network was given. Sought by bisection between 0 and
    `reach` with the same draws at every σ; an accuracy that recovers beyond a fall may hide it. None if σ lies
    beyond `reach`, as for a network near chance, or below reach/65,536. Undefined for functions that are no networks.
    Cost: up to 34 · `draws` forward passes of every train probe; the memory of `draws` + 1 copies of the weights.
    """

    draws: PositiveInt
    drop: Annotated[float, Field(gt=0, lt=1)]
    reach: PositiveFloat

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        if subject.network is None or not list(subject.network.parameters()):
            return Findings()
        network, inputs, labels = subject.network, probes.inputs["train"], probes.labels
        least = accuracy(logits_at(subject, inputs), labels) - self.drop - 1e-9  # which rounding may not decide
        size = batch_size(subject, inputs)
        drawn = [_noise(network, seed) for seed in probes.rng.integers(2**62, size=self.draws).tolist()]

        def keeps(sigma: float, relative: bool) -> bool:
            noisy = (_with_noise(network, noise, sigma, relative) for noise in drawn)
            return sum(accuracy(predict(f, inputs, size), labels) for f in noisy) / self.draws >= least

        return Findings(
            {
                "weight_noise": largest(lambda sigma: keeps(sigma, False), self.reach),
                "weight_noise_relative": largest(lambda sigma: keeps(sigma, True), self.reach),
            }
        )


def largest(holds: Callable[[float], bool], reach: float) -> float | None:
    """Return the number up to which a condition holds, by bisection; None if that is not between 0 and `reach`."""
    if holds(reach):
        return None
    low, high = 0.0, reach
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low or None


def _noise(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return standard normal noise for each parameter, by name."""
    rng = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device
    weights = network.named_parameters()
    return {name: torch.randn(p.shape, generator=rng, dtype=torch.float32).to(p) for name, p in weights}


@torch.no_grad()
def _with_noise(
    network: nn.Module, noise: dict[str, Tensor], sigma: float, relative: bool
) -> Callable[[Tensor], Tensor]:
    """Return the network with `sigma` times the noise on its parameters."""
    noisy = {
        name: weight + sigma * (weight.abs() * noise[name] if relative else noise[name])
        for name, weight in network.named_parameters()
    }
    return lambda inputs: functional_call(network, noisy, (inputs,))
