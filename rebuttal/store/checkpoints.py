"""Training checkpoints: one file each, written atomically and verified when read.

The file is the SHA-256 of the rest, then safetensors; the JSON-able facts are stored among the tensors, as bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rebuttal.store.files import write_bytes

log = logging.getLogger(__name__)

COST = 0.01  # share of the training time that writing checkpoints may take
_FACTS = "facts, version 2"  # increased when the content of a state changes
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class State:
    """JSON-able `facts`, and `tensors` by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


class Checkpoint:
    """Where a checkpoint is kept, and how often one is due: every `interval` seconds, or less often if writing would
    take more than the share `cost` of the time. Without a `path` none is ever written."""

    def __init__(self, path: Path | None = None, interval: float = 0, cost: float = COST):
        self.path = path
        self._interval = interval
        self._cost = cost
        self._next = time.monotonic() + interval

    def due(self) -> bool:
        return self.path is not None and time.monotonic() >= self._next

    def save(self, state: State) -> None:
        """Write a state. If that fails, log it and keep the previous checkpoint."""
        if self.path is None:
            return
        began = time.monotonic()
        try:
            write_bytes(self.path, pack(state, self.path.name), sync=True)
        except OSError as error:
            log.error("no checkpoint written (%s: %s); keeping the previous one", self.path.parent, error.strerror)
        ended = time.monotonic()
        self._next = ended + max(self._interval, (ended - began) / self._cost)

    def is_there(self) -> bool:
        return self.path is not None and self.path.is_file()

    def remove(self) -> None:
        """Remove the saved state, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def load(self) -> State | None:
        """Return the saved state; None if there is none or it is damaged.

        Raises `OSError` if the file exists and cannot be read: it may be intact."""
        if self.path is None or not self.path.is_file():
            return None
        raw = self.path.read_bytes()
        try:
            return unpack(raw, self.path.name)
        except ValueError as error:
            log.warning("damaged checkpoint %s (%s): training starts over", self.path, error)
            return None


def pack(state: State, of: str = "") -> bytes:
    """Serialise a state; `of` names what is trained."""
    facts = json.dumps({"of": of, "facts": state.facts}, allow_nan=False).encode()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    content = save(tensors | {_FACTS: torch.frombuffer(bytearray(facts), dtype=torch.uint8)})
    return hashlib.sha256(content).digest() + content


def unpack(raw: bytes, of: str = "") -> State:
    """Restore a state; raise `ValueError` for bytes that `pack` did not write for the training named `of`."""
    declared, content = raw[:_DIGEST], raw[_DIGEST:]
    if hashlib.sha256(content).digest() != declared:
        raise ValueError("it fails its checksum")
    try:
        tensors = load(content)
        facts = json.loads(tensors.pop(_FACTS).numpy().tobytes())
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
    if facts["of"] != of:
        raise ValueError("it belongs to another training")
    return State(facts["facts"], tensors)
