"""Straight segments between pairs of inputs: how often the function changes along them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.measures.layers import is_whitened, runs_as
from rebuttal.measures.measure import Findings, Probes, Subject, batch_size, distribution, spread_at
from rebuttal.models.blocks import Concatenation, Residual
from rebuttal.models.preprocess import FlattenPixels, Preprocess
from rebuttal.training.evaluation import EVALUATION_BATCH


@checked
class SegmentCrossings:
    """Along `pairs` segments between probes of one kind, each evaluated at `points` equal steps, per unit length:

    `class_changes_<kind>`: changes of the predicted class. `total_variation_<kind>`: Σ‖f(xᵢ₊₁) − f(xᵢ)‖, and
    `_scaled` by the spread of the logits. `region_changes_<kind>` (networks only): ReLUs that switch between
    one point and the next, the transitions between linear regions of Novak et al. 2018 (section 3.2).
    A change that is reversed within one step is not counted, nor is a max-pool that takes another input of its window.
    Undefined (None) for a network that has other non-linear layers, such as GELU or local response normalisation, or
    modules of an unknown class, or no ReLU though it is not linear; 0 for a linear one.
    """

    pairs: PositiveInt
    points: Annotated[int, Field(ge=2)]

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            order = torch.from_numpy(probes.rng.permutation(len(inputs))).to(inputs.device)
            count = min(self.pairs, len(inputs) // 2)
            starts, stops = inputs[order[:count]], inputs[order[count : 2 * count]]
            apart = (stops != starts).flatten(1).any(dim=1)  # between equal inputs there is no segment
            if not apart.any():
                names = ("class_changes", "total_variation", "region_changes")
                found |= Findings({f"{name}_{kind}": None for name in names})
                continue
            starts, stops = starts[apart], stops[apart]
            scale = spread_at(subject, inputs)
            batch = max(1, EVALUATION_BATCH // self.points)
            walks = [self._walk(subject, *ends) for ends in zip(starts.split(batch), stops.split(batch))]
            lengths = (stops - starts).flatten(1).norm(dim=1).double().cpu()
            for name in walks[0]:
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
        points = lines.flatten(0, 1)
        with count_switches(subject) as switches:
            batches = points.split(batch_size(subject, points))
            logits = torch.cat([subject.function(batch) for batch in batches]).double().unflatten(0, (len(starts), -1))
        classes = logits.argmax(dim=2)
        changes = {
            "class_changes": (classes[:, 1:] != classes[:, :-1]).sum(dim=1).double().cpu(),
            "total_variation": (logits[:, 1:] - logits[:, :-1]).norm(dim=2).sum(dim=1).cpu(),
        }
        if switches is not None:
            between = torch.cat(switches.counts).reshape(len(starts), self.points)
            changes["region_changes"] = between[:, 1:].sum(dim=1).double().cpu()
        return changes


@dataclass
class Switches:
    """`counts`: for each batch of points on a line, (n,), how many ReLUs differ between a point and the one before it;
    0 for the very first."""

    counts: list[Tensor] = field(default_factory=list)
    _on: list[Tensor] = field(default_factory=list)  # where each ReLU is on, in order of use, at the last point
    _used: int = 0

    def begin(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Called before the network takes a batch."""
        self._used = 0
        self.counts.append(torch.zeros(len(inputs[0]), dtype=torch.long, device=inputs[0].device))

    def count(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Called after each use of a ReLU."""
        on = (output > 0).flatten(1)
        if self._used == len(self._on):
            self._on.append(on[:1])
        before = torch.cat([self._on[self._used], on[:-1]])
        self.counts[-1] += (on != before).sum(dim=1)
        self._on[self._used] = on[-1:].clone()  # a view would keep the whole batch
        self._used += 1


@contextmanager
def count_switches(subject: Subject) -> Iterator[Switches | None]:
    """Within the block, count how many ReLUs switch from one input of the subject's network to the next, through all
    batches. None for a function whose regions cannot be counted."""
    network = subject.function if isinstance(subject.function, nn.Module) else None
    relus = None if network is None else relus_of(network)
    if network is None or relus is None:
        yield None
        return
    switches = Switches()
    hooks = [relu.register_forward_hook(switches.count) for relu in relus]
    try:
        with network.register_forward_pre_hook(switches.begin):
            yield switches
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
    joins = (nn.Sequential, nn.ModuleList, Residual, Concatenation)
    return runs_as(module, *joins, *_LINEAR) or type(module).__module__ == "torchvision.models.resnet"
