"""What decides a result, as JSON and as a fingerprint: equal identities, equal results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from rebuttal.errors import ConfigError


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, so that equal values give equal text. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(identity: Any) -> str:
    """Return 32 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:32]


def name_of(kind: str, identity: Any) -> str:
    """Return the name under which the store keeps an artifact: `<kind>/<fingerprint>`."""
    return f"{kind}/{fingerprint(identity)}"


def describe(value: Any) -> Any:
    """Return the JSON-able identity of a config object: its class and every field that decides a result.

    A field declared with `metadata={"decides": False}` (a path, say) is left out. Raises `ConfigError` for an object
    that is not a dataclass.
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
        raise ConfigError(f"_target_={kind}: two of them could not be distinguished in the store; allowed: dataclasses")
    return value
