"""From a composed Hydra config to checked objects; a bad key ends in one line.

Every config node that names a `_target_` becomes a frozen dataclass whose type annotations *are* the
rules (`epochs: PositiveInt`). What a run depends on is then a tree of plain values, so its identity can
be hashed: see `describe`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from inspect import isfunction, signature
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from rebuttal.errors import ConfigError, UserError, out_of_memory

_PACKAGE = Path(__file__).resolve().parent
# The wheel carries conf/ inside the package; a checkout has it beside the package, for people to edit.
CONFIG_DIR = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())

# Where the classes and functions are that a config may name.
TARGETS = tuple(
    f"rebuttal.{name}" for name in ("data", "functions", "measures", "models", "stages", "trackers", "training")
)

LIMIT = 2**63  # beyond it neither NumPy nor torch can count

checked = partial(
    dataclass,
    frozen=True,
    kw_only=True,
    config=pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False),
)


def option_of(group: str, method: str, arguments: int = 1) -> Any:
    """The type of a field that holds an option of a config group: any object with that method, which takes that
    many arguments."""
    return offering(method, arguments, f"an option of the group {group}")


def offering(method: str, arguments: int, allowed: str) -> Any:
    """The type of a field that holds any object with that method; `allowed` says in messages what has it."""

    def offers(value: Any) -> Any:
        if not _takes(getattr(value, method, None), arguments):
            raise ValueError(f"allowed: {allowed}")
        return value

    return Annotated[Any, AfterValidator(offers)]


def _takes(method: Any, arguments: int) -> bool:
    """Names alone do not tell a model from a fit: both have a `network`."""
    try:
        signature(method).bind(*range(arguments))
    except (TypeError, ValueError):  # also where it is not callable
        return False
    return True


def build(node: Any, key: str, packages: Iterable[str] = ()) -> Any:
    """Build what a resolved config node describes, leaves first.

    `node` is plain data (dict, list, scalar); a dict with `_target_` becomes a call of that class or
    function with the remaining entries. `key` is where the node stands, for messages. `packages`: the user's
    own, which a `_target_` may name besides this one and torch's modules.
    Raises `ConfigError` for an unknown target or key, a wrong type, or a value out of range.
    """
    if isinstance(node, list):
        return tuple(build(item, f"{key}[{i}]", packages) for i, item in enumerate(node))
    if isinstance(node, int) and abs(node) >= LIMIT:
        raise ConfigError(f"{key}={node}: allowed: whole numbers below 2^63")
    if not isinstance(node, dict):
        return node
    built = {name: build(value, f"{key}.{name}", packages) for name, value in node.items() if name != "_target_"}
    if "_target_" not in node:
        return built
    return construct(_locate(node["_target_"], key, packages), built, key)


def construct(target: Any, arguments: dict[str, Any], key: str = "") -> Any:
    """Call `target(**arguments)`, turning what is wrong with the arguments into a `ConfigError`."""
    try:
        return target(**arguments)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error.errors()[0], target, key)) from None
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from None
    except (ValueError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError) as error:
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(f"{key}: {type(error).__name__}: {error}") from error  # torch's modules check as they like


def describe(value: Any) -> Any:
    """The JSON-able identity of a config object: its class and every field that decides a result.

    A field declared with `metadata={"decides": False}` (a path, say) is left out. Raises `ConfigError` for an
    object that is no dataclass.
    """
    if is_dataclass(value):
        kind = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
        decisive = [f.name for f in fields(value) if f.metadata.get("decides", True)]
        return {"kind": kind, **{name: describe(getattr(value, name)) for name in decisive}}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {name: describe(item) for name, item in value.items()}
    if not isinstance(value, (str, int, float, type(None))):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise ConfigError(
            f"_target_={kind}: what it decides could not be told apart in the store; allowed: dataclasses"
        )
    return value


def _locate(target: Any, key: str, packages: Iterable[str]) -> Any:
    """The class or function that a config may call. A config from a stranger must not run just anything: nothing
    is imported from elsewhere, and what a module of ours has only imported itself is not ours to give."""
    module, _, name = str(target).rpartition(".")
    own = [package for package in packages if _within(module, package)]
    if not own and not any(_within(module, ours) for ours in (*TARGETS, "torch.nn")):
        raise ConfigError(
            f"{key}._target_={target}: allowed: classes and functions of {', '.join(TARGETS)}, modules of torch.nn, "
            "and what is in packages that you list: packages=[name]"
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"{key}._target_={target}: no such class or function can be imported") from None
    if not _callable_from_config(found, own):
        raise ConfigError(f"{key}._target_={target}: is not a class or function of {module.split('.')[0]} for configs")
    return found


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _callable_from_config(found: Any, own: list[str]) -> bool:
    home = getattr(found, "__module__", None) or ""
    if any(_within(home, package) for package in own):
        return isinstance(found, type) or isfunction(found)
    if _within(home, "torch.nn"):
        from torch.nn import Module

        return isinstance(found, type) and issubclass(found, Module)
    return any(_within(home, ours) for ours in TARGETS) and (is_dataclass(found) or isfunction(found))


def _explain(error: dict[str, Any], target: Any, key: str) -> str:
    where = ".".join(str(part) for part in (key, *error["loc"]) if part != "")
    if error["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        return f"{where}={error['input']}: unknown key; allowed: {', '.join(f.name for f in fields(target))}"
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{where} is missing; it has no default"
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}={error['input']}: {said[0].lower()}{said[1:]}"
