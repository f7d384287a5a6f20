"""A digest of the user's source code behind a class or function: of what is imported, whatever else a process has."""

from __future__ import annotations

import ast
import hashlib
import inspect
import logging
import sys
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

# By module: the import that it is of, its source when that was first asked for, and when it was last. A process goes on
# with the code that it has imported when the file changes.
_KEPT: dict[str, tuple[ModuleSpec | None, str, str]] = {}


def source_digest(kind: Any) -> str:
    """Return a digest of the source of the module of a class or function, and of every module of the same package, or
    of one in the same folder (but for that of installed ones), that it imports, also within functions, directly or
    through others."""
    beside = _folder(kind.__module__.partition(".")[0])
    pending, sources = [kind.__module__], dict[str, str]()
    while pending:
        name = pending.pop()
        if name not in sources and (source := _source(name, kind)) is not None:
            sources[name] = source
            used = {*_imported(name, source), *_origins(name), name.rpartition(".")[0]}
            pending += [found for found in used if _is_own(found.partition(".")[0], kind, beside)]
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(sources[name].encode())
    return digest.hexdigest()[:32]


def _is_own(package: str, kind: Any, beside: Path | None) -> bool:
    if package == kind.__module__.partition(".")[0]:
        return True
    return beside is not None and package != "rebuttal" and _folder(package) == beside


def _folder(package: str) -> Path | None:
    """The folder that a package, or a single module, lies in; None if other people's are installed there."""
    spec = _spec(package) if package else None
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    file = Path(spec.origin).resolve()
    folder = file.parent.parent if spec.submodule_search_locations is not None else file.parent
    return None if _INSTALLED & set(folder.parts) or folder == _STANDARD else folder


_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = Path(ast.__file__).resolve().parent


@lru_cache(maxsize=1024)  # identities are asked for again and again
def _imported(name: str, source: str) -> frozenset[str]:
    """The names that a module imports, as far as they may be modules."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a part of a notebook
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            where = _absolute(name, node)
            found |= {where, *(f"{where}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def _absolute(name: str, node: ast.ImportFrom) -> str:
    """The module from which a module imports."""
    if not node.level:
        return node.module or ""
    spec = _spec(name)
    is_package = spec is not None and spec.submodule_search_locations is not None
    try:
        return resolve_name("." * node.level + (node.module or ""), name if is_package else name.rpartition(".")[0])
    except ImportError:
        return ""


def _origins(name: str) -> set[str]:
    """The modules in which what a module holds was made, such as what it was given by a name that is put together."""
    held = vars(sys.modules[name]).values() if name in sys.modules else ()
    made = {getattr(value, "__module__", None) for value in held if not isinstance(value, ModuleType)}
    return {module for module in made if isinstance(module, str)}


def _spec(name: str) -> ModuleSpec | None:
    """Where a module comes from, found without importing anything; None if there is none of that name."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    if not (parent := name.rpartition(".")[0]):
        return PathFinder.find_spec(name)
    package = _spec(parent)
    places = None if package is None else package.submodule_search_locations
    return None if places is None else PathFinder.find_spec(name, list(places))


def _source(name: str, kind: Any) -> str | None:
    """The source of a module; that of `kind` alone if it is in a notebook; None if there is no such module."""
    spec = _spec(name)
    if spec is None and name not in sys.modules:
        return None
    found = _read(name, spec)
    if found is None:
        return inspect.getsource(kind) if name == kind.__module__ else ""
    imported, first, last = _KEPT.get(name, (spec, found, found))
    if imported is not spec:
        first = last = found
    if last != found:
        log.warning("%s has changed since this process imported it, and goes on as it was; restart to use it", name)
    _KEPT[name] = spec, first, found
    return first


def _read(name: str, spec: ModuleSpec | None) -> str | None:
    """The source of a module's file as it is now; None without one."""
    try:
        reader = None if spec is None else getattr(spec.loader, "get_source", None)
        if reader is None:  # a script, or a loader that does not tell
            return inspect.getsource(sys.modules[name])
        text: str | None = reader(name)
    except (OSError, TypeError, ImportError, KeyError):
        return None
    return f"{text}\n" if text and not text.endswith("\n") else text
