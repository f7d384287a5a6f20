"""From a composed Hydra config to checked objects; a bad key ends in one line.

Every config node that names a `_target_` becomes a frozen dataclass whose type annotations *are* the rules
(`epochs: PositiveInt`). What a run depends on is then a tree of plain values, so its identity can be hashed: see
`rebuttal.store.identity.describe`.
"""

from __future__ import annotations

import math
import re
import shlex
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from inspect import isfunction, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import pydantic
import pydantic.dataclasses
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from typing_extensions import dataclass_transform

from rebuttal.errors import CONFIG_DIR as CONFIG_DIR
from rebuttal.errors import (
    ConfigError,
    UserError,
    as_one_line,
    nearest,
    not_frozen,
    options_of,
    options_with,
    out_of_memory,
    user_code_imported,
)

T = TypeVar("T")


def _arguments(given: Any) -> Any:
    """Raises `ValueError` for a number that no identity can hold, at any depth."""
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError(f"{given} is in it; allowed: finite numbers")
    for value in given.values() if isinstance(given, dict) else given if isinstance(given, (list, tuple)) else ():
        _arguments(value)
    return {} if given is None else given


Arguments = Annotated[dict[str, Any], pydantic.BeforeValidator(_arguments)]
"""What something is called with, by name. Its default in a config is null: keys are only added to what has none."""

# The packages whose classes and functions a config may name.
TARGETS = tuple(
    f"rebuttal.{name}"
    for name in ("data", "functions", "measures", "models", "progress.trackers", "stages", "training")
)
# The options of a run that each of its stages has in common with it, until one is changed for a stage.
GROUPS = ("training", "preprocess", "model", "dataset", "corruption", "measuring")
MOVED = {"rebuttal.trackers": "rebuttal.progress.trackers"}  # modules that configs of past runs name

ONE_AT_A_TIME = threading.RLock()  # Hydra's state, torch's settings and the random generators are the process's

LIMIT = 2**63  # beyond it neither NumPy nor torch can count

_NUMBER_OR_BOOL = re.compile(r"[+-]?[\d_]*\.?\d+(e[+-]?\d+)?|true|false", re.IGNORECASE)

_RULES = pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, pydantic.Field))
def checked(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass that checks its fields against their annotations.

    An unknown field, a wrong type or a value out of range raises an error that `construct` turns into a `ConfigError`.
    """
    return cast("type[T]", pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=_RULES))


@dataclass(frozen=True)
class Offers:
    """Annotates the type of a field that holds an option of a config group: any object whose `method` takes that many
    arguments. `allowed` says in messages what has it.

    The class of the object is not checked, so that users' own options need not derive from anything here.
    """

    method: str
    arguments: int
    allowed: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> Any:
        """Return `value`, or raise `ValueError`. The number of arguments counts, because a model and a fit both have a
        `network`."""
        try:
            signature(getattr(value, self.method, None)).bind(*range(self.arguments))  # type: ignore[arg-type]
        except (TypeError, ValueError):  # also if it is not callable
            raise ValueError(f"allowed: {self.allowed}") from None
        return value


def _by_model(usual: Any, others: Any, *, _parent_: Any, _root_: Any) -> Any:
    """The value of a recipe's key, which may depend on the architecture: that of the stage, if the recipe is one's and
    it has its own, else the run's. Those in `others` are known by the names of their classes."""
    stage = _parent_._get_parent()
    own = stage._get_node("model") if stage is not _root_ else None
    model = own if isinstance(own, DictConfig) and "_target_" in own else _root_._get_node("model")
    target = model.get("_target_") if isinstance(model, DictConfig) else None
    return others.get(str(target).rpartition(".")[2], usual)


def _register_resolvers() -> None:
    OmegaConf.register_new_resolver("rebuttal.by_model", _by_model, replace=True)


_register_resolvers()  # also in a process that is given a composed config


@contextmanager
def composing() -> Iterator[None]:
    """Within the block Hydra composes configs from conf/, for one thread at a time; afterwards Hydra and OmegaConf's
    resolvers are as they were, also in a program that uses Hydra itself."""
    with ONE_AT_A_TIME:
        instance = GlobalHydra.instance()
        callers, base = instance.hydra, version.getbase()
        resolvers = dict(BaseContainer._resolvers)  # omegaconf has no public way to read them; Hydra does the same
        _register_resolvers()
        instance.clear()
        try:
            with initialize_config_dir(str(CONFIG_DIR), job_name="train", version_base="1.3"):
                yield
        finally:
            GlobalHydra.set_instance(instance)
            instance.hydra = callers
            version.VersionBase.instance().version_base = base  # setbase refuses "none yet"
            BaseContainer._resolvers.clear()
            BaseContainer._resolvers.update(resolvers)


def at_home(value: Any) -> Any:
    """A resolved config value in which the folders that begin with `~` are below the user's home."""
    if isinstance(value, dict):
        return {name: at_home(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [at_home(inner) for inner in value]
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value


def build(node: Any, key: str, packages: Iterable[str] = ()) -> Any:
    """Build what a resolved config node describes, leaves first.

    `node` is plain data (dict, list, scalar); a dict with `_target_` becomes a call of that class or
    function with the remaining entries. `key` is where the node stands, for messages. `packages`: the user's
    own, which a `_target_` may name besides this one and torch's modules. A field of a dataclass with
    `metadata={"names_code": True}` is given what its text names, if that is in `packages` or a module of torch.nn.
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
    target = _locate(node["_target_"], key, packages)
    option = construct(target, _with_code(target, built, key, packages), key)
    _check_frozen(type(option), key, packages)
    return option


def _check_frozen(kind: type, key: str, packages: Iterable[str]) -> None:
    """Raise `ConfigError` if a user's class is no frozen dataclass: its settings would not be part of the identity of
    what is computed with it. A tracker computes nothing."""
    own = any(_within(kind.__module__, package) for package in packages) and key.partition(".")[0] != "tracker"
    if own and not (is_dataclass(kind) and cast(Any, kind).__dataclass_params__.frozen):
        raise ConfigError(f"{key}._target_={kind.__module__}.{kind.__qualname__}: {not_frozen(kind)}")


def construct(target: Any, arguments: dict[str, Any], key: str = "") -> Any:
    """Call `target(**arguments)`, turning what is wrong with the arguments into a `ConfigError`."""
    try:
        return target(**arguments)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error.errors()[0], target, key)) from None
    except TypeError as error:
        raise ConfigError(_unknown_argument(target, arguments, key) or f"{key}: {error}") from None
    except (
        *(ValueError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError),
        *(ImportError, SyntaxError),
    ) as error:
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        if isinstance(error, (ImportError, SyntaxError)):  # of code that is imported on first use
            raise ConfigError(f"{key}: {as_one_line(error) or error}") from error
        raise ConfigError(f"{key}: {type(error).__name__}: {error}") from error  # torch's modules check as they like


def _with_code(target: Any, built: dict[str, Any], key: str, packages: Iterable[str]) -> dict[str, Any]:
    """The arguments, with the classes and functions themselves where `target` wants them instead of their names."""
    wanted = {f.name for f in fields(target) if f.metadata.get("names_code")} if is_dataclass(target) else set()
    named = {name: value for name, value in built.items() if name in wanted and isinstance(value, str)}
    return built | {name: _locate_code(value, f"{key}.{name}", packages) for name, value in named.items()}


def _locate(target: Any, key: str, packages: Iterable[str]) -> Any:
    """The class or function that a config may call. A config from a stranger must not run just anything: nothing
    is imported from elsewhere, and what a module of ours has only imported itself is not ours to give."""
    module, _, name = str(target).rpartition(".")
    module = MOVED.get(module, module)
    own = [package for package in packages if _within(module, package)]
    if not own and not any(_within(module, ours) for ours in (*TARGETS, "torch.nn")):
        raise ConfigError(
            f"{key}._target_={target}: allowed: classes and functions of {', '.join(TARGETS)}, modules of torch.nn, "
            "and what is in packages that you list: packages=[name]"
        )
    return _imported(module, name, f"{key}._target_={target}", own)


def _locate_code(text: str, key: str, packages: Iterable[str]) -> Any:
    """The class or function that a field names, as module:name or module.name; as safe as `_locate`."""
    module, _, name = text.replace(":", ".").rpartition(".")
    own = [package for package in packages if _within(module, package)]
    if not own and not _within(module, "torch.nn"):
        raise ConfigError(
            f"{key}={text}: allowed: module:name, of packages that you list on the command line, as packages=[name], "
            "or of torch.nn"
        )
    return _imported(module, name, f"{key}={text}", own)


def _imported(module: str, name: str, what: str, own: list[str]) -> Any:
    with user_code_imported(what, module):
        imported = import_module(module)
    try:
        found = getattr(imported, name)
    except AttributeError:
        near = nearest(name, (known for known in vars(imported) if not known.startswith("_")))
        raise ConfigError(f"{what}: no such class or function can be imported: {module} has no {name}{near}") from None
    if not _callable_from_config(found, own):
        raise ConfigError(f"{what}: is not a class or function of {module.split('.')[0]} for configs")
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


def _explain(error: ErrorDetails, target: Any, key: str) -> str:
    where = ".".join(str(part) for part in (key, *error["loc"]) if part != "")
    if error["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        return _unknown(str(error["loc"][-1]), error["input"], [f.name for f in fields(target) if f.init], key)
    if error["loc"][-1:] == ("[key]",):
        above = ".".join(str(part) for part in (key, *error["loc"][:-2]) if part != "")
        return (
            f"{above}: it has the key {error['input']}, which is no text; allowed: keys in quotation marks in a file, "
            f"+{above}.{error['input']}=… on the command line"
        )
    if (annotation := _unsettable(error)) is not None:
        value = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
        return f"{where}={value}: {target.__name__}.{error['loc'][0]} is annotated with {annotation}"
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{where} is missing; it has no default"
    said = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return f"{where}={error['input']}: {said[0].lower()}{said[1:]}{_how_to_write(error, where)}"


def _unsettable(error: ErrorDetails) -> str | None:
    """Which annotation of a user's class no config can meet, because settings are hashed, and what to annotate instead;
    None for what only has a wrong value."""
    kind, wanted = error["type"], str(error.get("ctx", {}).get("class", ""))
    if kind in ("list_type", "set_type", "frozen_set_type"):
        return f"a {'list' if kind == 'list_type' else 'set'}; allowed: tuple[int, ...], or a tuple of other values"
    is_path = kind == "path_type" or (kind == "is_instance_of" and wanted.endswith("Path"))
    return "a Path; allowed: str, which the class makes a Path where it uses it" if is_path else None


def _unknown_argument(target: Any, arguments: dict[str, Any], key: str) -> str | None:
    """What is wrong with the first argument that a function does not take; None if it takes them all."""
    parameters = signature(target).parameters if isfunction(target) else {}
    if not isfunction(target) or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    name = next((name for name in arguments if name not in parameters), None)
    return None if name is None else _unknown(name, arguments[name], list(parameters), key)


def _unknown(name: str, value: Any, known: list[str], key: str) -> str:
    others = options_with(name, key, GROUPS)
    allowed = f"allowed: {', '.join(known)}" if known else f"the chosen option of {key} has none"
    return f"{f'{key}.' if key else ''}{name}={value}: unknown key; {allowed}{others}"


def _how_to_write(error: ErrorDetails, where: str) -> str:
    """What to write instead of a value that is only of the wrong type."""
    value, kind = error["input"], error["type"]
    group = re.search(r"an option of the group (\S+)$", error["msg"])
    if group and isinstance(value, dict):  # keys of an option, where none is chosen
        return f"; choose one first: {', '.join(options_of(group[1]))}"
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        as_text = f'{where}="{value}"'
        return f"; write {shlex.quote(as_text)}"
    if kind == "tuple_type" and isinstance(value, (str, int, float)):
        return f"; write {shlex.quote(f'{where}=[{value}]')}"
    if kind == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < LIMIT:
        return f"; write {int(value)}"
    if isinstance(value, str) and value.lower() in ("none", "nil", "nul"):
        return "; none is called null here"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type") and _NUMBER_OR_BOOL.fullmatch(value):
        return "; it is text here, because it stands in quotation marks: write it without them"
    return ""
