"""What a training that was cut short goes on from: one file, written aside and renamed, checked when it is read.

The file is the SHA-256 of the rest, then safetensors; the facts among the tensors are JSON, as bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rebuttal.files import write_bytes

log = logging.getLogger(__name__)

COST = 0.01  # the share of the time of training that writing may take
WARNINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # SIGUSR2: SLURM's, before a time-out or pre-emption
_FACTS = "facts, version 2"  # raised when the content of a state changes
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class State:
    """JSON-able `facts`, and `tensors` by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


class Checkpoint:
    """The place of a checkpoint, and how often one is due: every `interval` seconds, or less often where
    writing would take more than the share `cost` of the time. Without a `path` none is ever written."""

    def __init__(self, path: Path | None = None, interval: float = 0, cost: float = COST):
        self.path = path
        self._interval = interval
        self._cost = cost
        self._next = time.monotonic() + interval

    def due(self) -> bool:
        return self.path is not None and time.monotonic() >= self._next

    def save(self, state: State) -> None:
        """A state that cannot be written is named in the log, and the one before it stays."""
        if self.path is None:
            return
        began = time.monotonic()
        try:
            write_bytes(self.path, pack(state, self.path.name), sync=True)
        except OSError as error:
            log.error("no checkpoint written (%s: %s); the one before it stays", self.path.parent, error.strerror)
        ended = time.monotonic()
        self._next = ended + max(self._interval, (ended - began) / self._cost)

    def load(self) -> State | None:
        """Raises `OSError` where the file is there and cannot be read: it may be whole."""
        if self.path is None or not self.path.is_file():
            return None
        raw = self.path.read_bytes()
        try:
            return unpack(raw, self.path.name)
        except ValueError as error:
            log.warning("damaged checkpoint %s (%s): training begins anew", self.path, error)
            return None


def pack(state: State, of: str = "") -> bytes:
    """`of`: the name of what is trained."""
    facts = json.dumps({"of": of, "facts": state.facts}, allow_nan=False).encode()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    content = save(tensors | {_FACTS: torch.frombuffer(bytearray(facts), dtype=torch.uint8)})
    return hashlib.sha256(content).digest() + content


def unpack(raw: bytes, of: str = "") -> State:
    """Raises `ValueError` for bytes that `pack` has not written for the training of that name."""
    declared, content = raw[:_DIGEST], raw[_DIGEST:]
    if hashlib.sha256(content).digest() != declared:
        raise ValueError("it fails its checksum")
    try:
        tensors = load(content)
        facts = json.loads(tensors.pop(_FACTS).numpy().tobytes())
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
    if facts["of"] != of:
        raise ValueError("it is of another training")
    return State(facts["facts"], tensors)


class Warned:
    """Which signals have come that were put off, and who waits for them."""

    def __init__(self) -> None:
        self._signals: set[int] = set()
        self._handlers: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._signals)

    def put_off(self) -> None:
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self._handlers = {number: signal.signal(number, self._note) for number in WARNINGS}

    def deliver(self) -> None:
        """Hand the signals on to whoever waited for them before: Python, which ends the process, or submitit, which
        re-queues the job. Returns where that does not end it. SLURM sends SIGTERM soon after SIGUSR2; what re-queues
        the job comes first."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number in sorted(self._signals, key=lambda number: number != signal.SIGUSR2):
            self._signals.discard(number)
            signal.raise_signal(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.add(number)


@contextmanager
def warnings_put_off() -> Iterator[Warned]:
    """Within the block a signal that would end the process is only noted, so that no step is left half done."""
    warned = Warned()
    warned.put_off()
    try:
        yield warned
    finally:
        warned.deliver()
