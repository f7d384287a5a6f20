"""Errors that their reader can mend, each told in one line."""

from __future__ import annotations

import re

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """Base of the errors below; the message is one line."""


class ConfigError(UserError, ValueError):
    """A setting that cannot be used: the key, the value, what is allowed."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on: where, and what to try."""


def as_one_line(error: BaseException) -> str | None:
    """What to tell the user, or null for an error that is ours and deserves its traceback."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        return _unknown_key(str(error), error.__cause__)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return None


def _unknown_option(error: MissingConfigException) -> str:
    """Hydra: "In 'train': Could not find 'model/nix'", then the options, one on an indented line."""
    found = re.search(r"Could not (?:find|load) '(.+?)/([^/]+)'", str(error))
    if found is None:
        return str(error).splitlines()[0]
    group, option = found.groups()
    options = re.findall(r"^\t([^=\t]+)$", str(error), flags=re.MULTILINE)
    return f"{group}={option}: no such option; allowed: {', '.join(options)}"


def _unknown_key(message: str, cause: OmegaConfBaseException) -> str:
    """Hydra: "Could not override 'training.lx'.", caused by omegaconf's error, which knows the siblings."""
    found = re.search(r"Could not override '(.+?)'", message)
    key = found.group(1) if found else cause.full_key
    if cause.parent_node is None or not hasattr(cause.parent_node, "keys"):
        return f"{key}: {cause.msg}"
    return f"{key}: unknown key; allowed here: {', '.join(sorted(map(str, cause.parent_node.keys())))}"
