"""Straight segments between pairs of inputs: how often the function changes along them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.measures.layers import is_whitened, runs_as
from rebuttal.measures.measure import Findings, Probes, Subject, distribution, spread_at
from rebuttal.models.preprocess import FlattenPixels, Preprocess
from rebuttal.training.evaluation import EVALUATION_BATCH


@checked
class SegmentCrossings:
    """Along `pairs` segments between probes of one kind, each evaluated at `points` equal steps, per unit length:

    `class_changes_<kind>`: changes of the predicted class. `total_variation_<kind>`: Σ‖f(xᵢ₊₁) − f(xᵢ)‖, and
    `_scaled` by the spread of the logits. `region_changes_<kind>` (networks only): ReLUs that switch between
    one point and the next, the transitions between linear regions of Novak et al. 2018 (section 3.2).
    A change that is reversed within one step is not counted, nor is a max-pool that takes another input of its window.
    Undefined (None) for a network that has other non-linear layers, such as GELU, or modules of an unknown class, or
    no ReLU though it is not linear; 0 for a linear one.
    """

    pairs: PositiveInt
    points: Annotated[int, Field(ge=2)]

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            order = torch.from_numpy(probes.rng.permutation(len(inputs))).to(inputs.device)
            count = min(self.pairs, len(inputs) // 2)
            starts, stops = inputs[order[:count]], inputs[order[count : 2 * count]]
            scale = spread_at(subject, inputs)
            batch = max(1, EVALUATION_BATCH // self.points)
            walks = [self._walk(subject, *ends) for ends in zip(starts.split(batch), stops.split(batch))]
            lengths = (stops - starts).flatten(1).norm(dim=1).double().cpu()
            for name in walks[0] if walks else ():
                values = torch.cat([walk[name] for walk in walks]) / lengths
                found |= distribution(f"{name}_{kind}", values, scale if name == "total_variation" else None)
            if subject.network is not None and relus_of(subject.network) is None:
                found |= Findings({f"region_changes_{kind}": None})
        return found

    @torch.inference_mode()
    def _walk(self, subject: Subject, starts: Tensor, stops: Tensor) -> dict[str, Tensor]:
        """Count the changes between starts and stops (m, *shape): (m,) float64 by name."""
        share = torch.linspace(0, 1, self.points, dtype=starts.dtype, device=starts.device)
        lines = starts[:, None] + share.reshape(-1, *[1] * (starts.ndim - 1)) * (stops - starts)[:, None]
        with count_switches(subject.network, len(starts)) as switches:
            logits = subject.function(lines.flatten(0, 1)).double().unflatten(0, (len(starts), -1))
        classes = logits.argmax(dim=2)
        changes = {
            "class_changes": (classes[:, 1:] != classes[:, :-1]).sum(dim=1).double().cpu(),
            "total_variation": (logits[:, 1:] - logits[:, :-1]).norm(dim=2).sum(dim=1).cpu(),
        }
        if switches is not None:
            changes["region_changes"] = torch.stack(switches).sum(dim=0).double().cpu()
        return changes


@contextmanager
def count_switches(network: nn.Module | None, lines: int) -> Iterator[list[Tensor] | None]:
    """Within the block, count how many ReLUs switch from one point to the next.

    The batch holds `lines` lines, one after the other. Yields a list to which each ReLU layer's counts (lines,) are
    added when the network runs; None for a function whose regions cannot be counted."""
    relus = None if network is None else relus_of(network)
    if not relus:
        yield None if relus is None else [torch.zeros(lines)]
        return
    counts: list[Tensor] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        on = (output > 0).reshape(lines, len(output) // lines, -1)
        counts.append((on[:, 1:] != on[:, :-1]).sum(dim=(1, 2)))

    hooks = [relu.register_forward_hook(count) for relu in relus]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def relus_of(network: nn.Module) -> list[nn.ReLU] | None:
    """Return the ReLUs of a network, none for a linear one; None if other layers may separate its regions."""
    modules = list(network.modules())
    relus = [module for module in modules if isinstance(module, nn.ReLU) and runs_as(module, nn.ReLU)]
    passed = (nn.ReLU, nn.MaxPool2d, Preprocess) if relus else ()
    return relus if all(runs_as(module, *passed) or _is_linear(module) for module in modules) else None


_LINEAR = (
    nn.Identity, nn.Flatten, FlattenPixels, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Linear, nn.Conv1d, nn.Conv2d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
)  # fmt: skip


def _is_linear(module: nn.Module) -> bool:
    """True for layers known to be linear in evaluation mode, and for modules that only apply others.

    A module of an unknown class may apply any function between its layers."""
    if isinstance(module, Preprocess):
        return not is_whitened(module)
    return runs_as(module, nn.Sequential, *_LINEAR) or type(module).__module__ == "torchvision.models.resnet"
