"""What decides a result, as JSON and as a fingerprint: equal identities, equal results."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

from rebuttal.errors import ConfigError, not_frozen, user_code
from rebuttal.store.source import source_digest


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, so that equal values give equal text. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(identity: Any) -> str:
    """Return 32 hexadecimal digits of the SHA-256 of the canonical JSON; -0.0 counts as the 0.0 that it equals."""
    return hashlib.sha256(canonical(_unsigned(identity)).encode()).hexdigest()[:32]


def _unsigned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unsigned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unsigned(item) for item in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


def name_of(kind: str, identity: Any) -> str:
    """Return the name under which the store keeps an artifact: `<kind>/<fingerprint>`."""
    return f"{kind}/{fingerprint(identity)}"


def artifacts_in(identity: Any) -> set[str]:
    """Return the names of the artifacts that an identity speaks of: the stages in it, which name their kind."""
    return {name_of(stage, node) for node in _nodes(identity) if isinstance(stage := node.get("stage"), str)}


def digests_in(identity: Any) -> set[str]:
    """Return the digests of the image sets that an identity speaks of."""
    images = (node.get("digest") for node in _nodes(identity) if node.get("kind") == "images")
    return {digest for digest in images if isinstance(digest, str)}


def _nodes(identity: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in an identity."""
    pending = [identity]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending += node.values()
        elif isinstance(node, (list, tuple)):
            pending += node


def describe(value: Any) -> Any:
    """Return the JSON-able identity of a config object: its class and every field that decides a result.

    A field declared with `metadata={"decides": False}` (a path, say) is left out. Classes of this package are named
    without their module, so that they may move; others by their full name and a digest of their source, torch's by its
    version. A class or function as a value is described likewise.
    Raises `ConfigError` for an object that is not a dataclass.
    """
    if isinstance(value, type) or inspect.isfunction(value):
        return _class_identity(value)
    if is_dataclass(value):
        decisive = [f.name for f in fields(value) if f.metadata.get("decides", True)]
        return {**_class_identity(type(value)), **{name: describe(getattr(value, name)) for name in decisive}}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {name: describe(item) for name, item in value.items()}
    if not isinstance(value, (str, int, float, type(None))):
        kind = type(value)
        raise ConfigError(f"_target_={kind.__module__}.{kind.__qualname__}: {not_frozen(kind)}")
    return value


def without_source(identity: Any) -> Any:
    """Return an identity without the digests of the user's source code."""
    if isinstance(identity, dict):
        kept = {key: without_source(value) for key, value in identity.items()}
        if "kind" in kept:
            kept.pop("source", None)
        return kept
    return [without_source(item) for item in identity] if isinstance(identity, list) else identity


def is_ours(kind: Any) -> bool:
    """True for a class or function of this package, and not of a user's."""
    return str(kind.__module__).partition(".")[0] == "rebuttal"


def code_of(option: Any, what: str) -> AbstractContextManager[None]:
    """`user_code` for an option of a user's class; what one of this package raises stays as it is."""
    return nullcontext() if is_ours(type(option)) else user_code(what)


def _class_identity(kind: Any) -> dict[str, str]:
    package = kind.__module__.partition(".")[0]
    if is_ours(kind):
        return {"kind": f"rebuttal.{kind.__name__}"}
    if package == "torch":
        return {"kind": f"{kind.__module__}.{kind.__qualname__}", "version": version("torch").partition("+")[0]}
    return {"kind": f"{kind.__module__}.{kind.__qualname__}", "source": source_digest(kind)}
