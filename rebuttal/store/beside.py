"""What is kept beside a network for as long as a run needs that: weights of steps of its training, and its logits."""

from __future__ import annotations

from typing import Any

SNAPSHOT, LOGITS = "snapshot", "logits"
KINDS = (SNAPSHOT, LOGITS)


def snapshot_identity(network: Any, step: int) -> dict[str, Any]:
    """The identity of the weights after `step` steps of the training of the network that has the identity `network`."""
    return {"stage": SNAPSHOT, "network": network, "step": step}


def logits_identity(function: Any, step: int | None, inputs: Any) -> dict[str, Any]:
    """The identity of the logits of a function, or of a network after `step` steps, on the inputs of that identity."""
    return {"stage": LOGITS, "function": function, "step": step, "inputs": inputs}


def is_log_spaced(step: int) -> bool:
    """True for 0, 1, 2, 4, 8, …"""
    return step & (step - 1) == 0


def log_spaced(last: int) -> list[int]:
    """Return 0, 1, 2, 4, 8, … below `last`."""
    return [step for step in (0, *(2**i for i in range(last.bit_length()))) if step < last]
