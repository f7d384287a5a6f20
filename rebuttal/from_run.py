"""`from_run=FOLDER`: the command line that repeats a past run, with further overrides on top.

What the run was asked for comes first, then every key whose value in the configs has changed since, as it was, then
what is asked for now. All of it are plain overrides: they go through Hydra like any others, to a cluster too, and a
run that repeats another can itself be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError

WORD = "from_run="
NOT_REPEATED = {"packages"}  # what may be imported is for whoever gives the command to say, not for a folder
_OF_HYDRA = ".hydra"  # the folder in which Hydra leaves, before a run begins, what it was asked for


def expanded(arguments: Sequence[str]) -> list[str]:
    """The arguments with `from_run=…` written out; others as they are. Raises `ConfigError`."""
    named = [argument.removeprefix(WORD) for argument in arguments if argument.startswith(WORD)]
    if not named:
        return list(arguments)
    if len(named) > 1:
        raise ConfigError(f"{WORD}{named[1]}: a run repeats one other; allowed: one folder")
    flags = [argument for argument in arguments if argument.startswith("-")]
    now = [argument for argument in arguments if argument not in flags and not argument.startswith(WORD)]
    return [*flags, *_repeated(Path(named[0]), now), *now]


def _repeated(folder: Path, now: list[str]) -> list[str]:
    """The overrides that give the run in `folder`, but for what `now` says otherwise."""
    parse = OverridesParser.create().parse_overrides
    asked, searched = _asked_for(folder)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        today = compose("train", [*searched, *asked])
    new = parse(now)
    said_anew = {_place(override) for override in new} | NOT_REPEATED
    kept = [override.input_line for override in parse(asked) if _place(override) not in said_anew]
    then = _loaded(folder / _OF_HYDRA / "config.yaml")
    return [*searched, *kept, *_as_it_was(then, today, {o.package or o.key_or_group for o in new} | NOT_REPEATED)]


def _as_it_was(then: Any, today: Any, said_anew: set[str]) -> Iterator[str]:
    """An override for each key that the configs gave another value then; not within what is said anew."""
    before, since = (OmegaConf.to_container(cfg, resolve=False) for cfg in (then, today))
    for key, old, now in _changed(before, since):
        if any(key == place or key.startswith(f"{place}.") for place in said_anew):
            continue
        print(f"rebuttal: {key}={old}, as in that run; the configs say {now} today", file=sys.stderr)
        yield f"++{key}={_in_words(old)}"


def _changed(then: dict[str, Any], today: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, value then, value today) of what differs. A key that is new since then has no value of then."""
    for name, old in then.items():
        key, now = f"{above}{name}", today.get(name)
        if isinstance(old, dict) and isinstance(now, dict):
            yield from _changed(old, now, f"{key}.")
        elif name not in today or old != now or type(old) is not type(now):
            yield key, old, now


def _asked_for(folder: Path) -> tuple[list[str], list[str]]:
    """The overrides of the run in `folder`, and where it found configs besides ours, as an override."""
    overrides = OmegaConf.to_container(_loaded(folder / _OF_HYDRA / "overrides.yaml"))
    hydra = folder / _OF_HYDRA / "hydra.yaml"
    sources = _loaded(hydra).hydra.runtime.config_sources if hydra.exists() else ()  # not of a run from the store
    own = [f"file://{source.path}" for source in sources if "command" in source.provider]
    return overrides, [f"hydra.searchpath=[{','.join(own)}]"] if own else []


def _loaded(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{WORD}{path.parent.parent}: {path.parent.name}/{path.name} cannot be read there "
            f"({' '.join(str(error).split())}); allowed: the folder of one run, or of one job of a sweep"
        ) from None


def _place(override: Override) -> str:
    """What an override sets: a key, or a group and the package that its option goes to."""
    package = override.package and f"@{override.package}"
    return f"{override.key_or_group}{package or ''}"


def _in_words(value: Any) -> str:
    """As Hydra's grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(_in_words(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_in_words(item)}" for key, item in value.items()) + "}"
    return str(value)
