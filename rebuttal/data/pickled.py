"""The files of CIFAR's Python versions, read without unpickling.

They are pickles, but of names, lists of names, integers, and one uint8 array. This is a reader of just the opcodes that
occur there. The functions of NumPy and Python that the files name are recognised by their names; none is imported or
called. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from rebuttal.data.trees import shown

_FUNCTIONS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",  # since NumPy 2
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes in protocol 2
}
_DTYPE_STATE = (3, "|", None, None, None, -1, -1, 0)
_MOST_ENTRIES = 100
_OPCODES = {opcode.code: opcode.name for opcode in pickletools.opcodes}


class Refused(ValueError):
    """What is wrong with a pickle."""


@dataclass(frozen=True)
class _Function:
    name: str


@dataclass(eq=False)
class _Array:
    values: np.ndarray | None = None


@dataclass(eq=False)
class _UInt8:
    pass


_MARK = object()


@dataclass
class _Machine:
    """`encoded`: the bytes that text may still be encoded to, so that a small file cannot fill the memory."""

    raw: bytes
    encoded: int
    position: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.raw):
            raise Refused("it is cut off")
        self.position, begin = end, self.position
        return self.raw[begin:end]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> str:
        end = self.raw.find(b"\n", self.position)
        if end < 0:
            raise Refused("it is cut off")
        return self.take(end + 1 - self.position)[:-1].decode("latin1")

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode()
        except UnicodeDecodeError:
            raise Refused("it has text that is not UTF-8") from None

    def pop(self, kind: Any = object) -> Any:
        value = self.stack.pop() if self.stack else _MARK
        if value is _MARK or not isinstance(value, kind):
            raise Refused("its opcodes do not fit together")
        return value

    def pop_to_mark(self) -> list[Any]:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise Refused("its opcodes do not fit together")
        self.stack.pop()
        return values[::-1]

    def pop_tuple(self, size: int) -> tuple[Any, ...]:
        return tuple(self.pop() for _ in range(size))[::-1]

    def remember(self, key: int) -> None:
        self.memo[key] = value = self.pop()
        self.stack.append(value)

    def recall(self, key: int) -> Any:
        if key not in self.memo:
            raise Refused("its opcodes do not fit together")
        return self.memo[key]

    def extend(self, values: list[Any]) -> None:
        target = self.pop(list)
        target.extend(values)
        self.stack.append(target)

    def update(self, values: list[Any]) -> None:
        target = self.pop(dict)
        if len(values) % 2 or not all(isinstance(key, (bytes, str)) for key in values[::2]):
            raise Refused("it has a dictionary whose keys are no names")
        target.update(zip(values[::2], values[1::2]))
        self.stack.append(target)

    def function(self) -> _Function:
        place = self.line(), self.line()
        if place not in _FUNCTIONS:
            raise Refused(f"it names {shown('.'.join(place))[:80]}")
        return _Function(_FUNCTIONS[place])

    def call(self) -> Any:
        """Return what the function would: its name says what that is."""
        arguments, function = self.pop(tuple), self.pop(_Function)
        plain = _as_text(arguments)
        if function.name == "array" and plain == (_Function("ndarray"), (0,), "b"):
            return _Array()
        if function.name == "dtype" and plain == ("u1", 0, 1):
            return _UInt8()
        if function.name == "encode" and [type(a) for a in arguments] == [str, str] and plain[1] == "latin1":
            return self.encode(arguments[0])
        raise Refused(f"it calls {function.name} with other arguments than those of a uint8 array")

    def encode(self, text: str) -> bytes:
        self.encoded -= len(text)
        if self.encoded < 0:
            raise Refused("it has more text than bytes")
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            raise Refused("it has text that is no bytes") from None

    def build(self) -> None:
        """Give the array, or its kind of values, on top of the stack its state."""
        state, target = self.pop(tuple), self.pop((_Array, _UInt8))
        if isinstance(target, _Array) and target.values is None:
            target.values = _values(state)
        elif not isinstance(target, _UInt8) or _as_text(state) != _DTYPE_STATE:
            raise Refused("it has an array of another kind than uint8")
        self.stack.append(target)


def _values(state: tuple[Any, ...]) -> np.ndarray:
    if [type(part) for part in state] != [int, tuple, _UInt8, bool, bytes] or state[0] != 1:
        raise Refused("it has an array of another kind than uint8")
    _, shape, _, columns_first, values = state
    whole = all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 4
    if not whole or prod(shape) != len(values):
        raise Refused("it has an array of another size than its values")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape, order="F" if columns_first else "C")


def _as_text(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a tuple with its short names as text, which Python 2 wrote as bytes."""
    return tuple(a.decode("latin1") if isinstance(a, bytes) and len(a) < 10 else a for a in arguments)


# What each opcode does; those that are not here are refused.
_PUSH: dict[bytes, Callable[[_Machine], Any]] = {
    b"}": lambda m: {},
    b"]": lambda m: [],
    b")": lambda m: (),
    b"(": lambda m: _MARK,
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"K": lambda m: m.number(1),
    b"M": lambda m: m.number(2),
    b"J": lambda m: m.number(4, signed=True),
    b"U": lambda m: m.take(m.number(1)),
    b"T": lambda m: m.take(m.number(4, signed=True)),
    b"X": lambda m: m.text(m.number(4)),
    b"h": lambda m: m.recall(m.number(1)),
    b"j": lambda m: m.recall(m.number(4)),
    b"t": lambda m: tuple(m.pop_to_mark()),
    b"\x85": lambda m: m.pop_tuple(1),
    b"\x86": lambda m: m.pop_tuple(2),
    b"\x87": lambda m: m.pop_tuple(3),
    b"c": _Machine.function,
    b"R": _Machine.call,
}
_CHANGE: dict[bytes, Callable[[_Machine], None]] = {
    b"q": lambda m: m.remember(m.number(1)),
    b"r": lambda m: m.remember(m.number(4)),
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.pop_to_mark()),
    b"s": lambda m: m.update([*m.pop_tuple(2)]),
    b"u": lambda m: m.update(m.pop_to_mark()),
    b"b": _Machine.build,
}


def read_pickled(raw: bytes) -> dict[str, Any]:
    """Return the entries of a pickled dictionary of bytes, text, integers, lists of these, and uint8 arrays.

    Raises `Refused` for every other content, before anything that it names is imported or called."""
    if raw[:2] != b"\x80\x02":
        raise Refused("it is no pickle of protocol 2")
    machine = _Machine(raw, encoded=len(raw), position=2)
    while (code := machine.take(1)) != b".":
        if code in _PUSH:
            machine.stack.append(_PUSH[code](machine))
        elif code in _CHANGE:
            _CHANGE[code](machine)
        else:
            raise Refused(f"it has the opcode {_OPCODES.get(code.decode('latin1'), code.hex())}")
    entries = machine.pop(dict)
    if machine.stack or machine.position != len(raw):
        raise Refused("something follows its end")
    if len(entries) > _MOST_ENTRIES:
        raise Refused(f"it has {len(entries)} entries")
    return {_text(key): _plain(value) for key, value in entries.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    allowed = (bytes, str, int)
    if isinstance(value, allowed) or (isinstance(value, list) and all(isinstance(item, allowed) for item in value)):
        return value
    raise Refused("it has entries that are neither names, numbers, lists of these, nor arrays")


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("latin1")
