"""Straight segments between pairs of inputs: how often the function changes along them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, distribution, spread_at
from rebuttal.training.evaluation import EVALUATION_BATCH


@checked
class SegmentCrossings:
    """Along `pairs` segments between probes of one kind, each evaluated at `points` equal steps, per unit length:

    `class_changes_<kind>`: changes of the predicted class. `total_variation_<kind>`: Σ‖f(xᵢ₊₁) − f(xᵢ)‖, and
    `_scaled` by the spread of the logits. `region_changes_<kind>` (ReLU networks): ReLUs that switch between
    one point and the next, the transitions between linear regions of Novak et al. 2018 (section 3.2).
    A change that is reversed within one step is not counted.
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
    added when the network runs; None for a function that is not a ReLU network."""
    relus = [] if network is None else [m for m in network.modules() if isinstance(m, nn.ReLU)]
    if not relus:
        yield [torch.zeros(lines)] if _is_linear(network) else None
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


def _is_linear(network: nn.Module | None) -> bool:
    kinds = (nn.Sequential, nn.Linear, nn.Flatten, nn.Identity)
    return network is not None and all(isinstance(m, kinds) for m in getattr(network, "body", network).modules())
