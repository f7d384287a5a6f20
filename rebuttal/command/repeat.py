"""`from_run=FOLDER`: the command line that repeats a past run, with further overrides on top.

The past run's overrides come first, then the old value of every key whose value in the configs has changed since, then
the new overrides. All of them are plain overrides: Hydra handles them like any others, also on a cluster, and a run
that repeats another can itself be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rebuttal.command.moved import as_composed_now, where_it_is_now
from rebuttal.config import composing
from rebuttal.errors import ConfigError
from rebuttal.launch.expand import PACKAGES, SEARCHPATH, as_one, as_typed, listed, own_configs, quoted, typed

WORD = "from_run="
NOT_REPEATED = {PACKAGES, SEARCHPATH}  # only the user of the command may allow imports; folders are merged below
_HYDRA_FOLDER = ".hydra"  # where a run saves its overrides and its config, in the format of Hydra


def expand(arguments: Sequence[str]) -> list[str]:
    """Replace `from_run=…` by the overrides it stands for; other arguments stay. Raises `ConfigError`."""
    named = [argument.removeprefix(WORD) for argument in arguments if argument.startswith(WORD)]
    if not named:
        return list(arguments)
    if len(named) > 1:
        raise ConfigError(f"{WORD}{named[1]}: a run can repeat only one other; allowed: one folder")
    flags = [argument for argument in arguments if argument.startswith("-")]
    now = [argument for argument in arguments if argument not in flags and not argument.startswith(WORD)]
    folders = [argument for argument in now if argument.startswith(f"{SEARCHPATH}=")]
    return [*flags, *_repeated(Path(named[0]).expanduser(), now), *(a for a in now if a not in folders)]


def _repeated(folder: Path, now: list[str]) -> list[str]:
    """The overrides that reproduce the run in `folder`, except where `now` overrides it."""
    parse = OverridesParser.create().parse_overrides
    saved, searchpath = _saved_overrides(folder)
    old = [where_it_is_now(override) for override in parse(saved)]
    searched = _searched(now, [*searchpath, *old])
    with composing():
        today = compose("train", [*searched, *(text for text in old if not text.startswith(f"{SEARCHPATH}="))])
    new = parse(now)
    overridden = {_place(override) for override in new} | NOT_REPEATED
    kept = [typed(override) for override in parse(old) if _place(override) not in overridden]
    then = as_composed_now(_unresolved(_loaded(folder / _HYDRA_FOLDER / "config.yaml")))
    set_now = {o.package or o.key_or_group for o in new} | NOT_REPEATED
    as_then = [*_as_it_was(then, today, set_now), *_as_decided(folder, then, set_now)]
    return [*searched, *kept, *as_then, *_where_it_was(folder, then, set_now)]


def _searched(now: list[str], then: list[str]) -> list[str]:
    """The folders of configs that the command names, then those of the run that are still there, as one override. What
    is no folder would be imported."""
    named = (place.removeprefix("file://") for place in listed(SEARCHPATH, then) or ())
    there = [f"file://{place}" for place in named if Path(place).is_dir()]
    return as_one(SEARCHPATH, [argument for argument in now if argument.startswith(f"{SEARCHPATH}=")], there)


def _as_it_was(then: dict[str, Any], today: DictConfig, overridden: set[str]) -> Iterator[str]:
    """Yield an override for each key to which the configs gave another value then, unless the user sets it now."""
    for key, old, now in _changed(then, _unresolved(today)):
        if _is_in(key, overridden):
            continue
        print(f"rebuttal: {key}={old}, as in that run; the configs say {now} today", file=sys.stderr)
        yield f"++{key}={quoted(old)}"


def _as_decided(folder: Path, then: dict[str, Any], overridden: set[str]) -> Iterator[str]:
    """Yield an override for each precision that a trial chose then, unless the user sets it or the model now: what was
    faster there need not be so here."""
    from rebuttal.runs.precision import settled

    if not (folder / "config.yaml").exists() or _is_in("training.precision", overridden):
        return
    for key, became in settled(then, _unresolved(_loaded(folder / "config.yaml"))).items():
        owner = key.removesuffix("training.precision")
        if not _is_in(key, overridden) and not {"model", f"{owner}model"} & overridden:
            print(f"rebuttal: {key}={became}, as in that run; auto would choose again", file=sys.stderr)
            yield f"++{key}={became}"


def _where_it_was(folder: Path, then: dict[str, Any], overridden: set[str]) -> Iterator[str]:
    """Yield an override for each path to data that does not lead there from here, unless the user sets it now."""
    from rebuttal.runs.places import datasets, from_here, is_here, paths, started_in

    began_in, config = started_in(folder), OmegaConf.create(then)
    for _, name, above in () if is_here(began_in) else paths(then, datasets(then)):
        key = ".".join(map(str, (*above, name)))
        try:
            path = str(OmegaConf.select(config, key))
        except OmegaConfBaseException:  # refers to what only Hydra knows
            continue
        place = from_here(path, began_in)
        if place != path and not _is_in(key, overridden):
            print(f"rebuttal: {key}={place}, seen from where that run was started", file=sys.stderr)
            yield f"++{key}={quoted(place)}"


def _is_in(key: str, places: set[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _changed(then: dict[str, Any], today: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, value then, value today) of what differs. A key that is new since then is left out."""
    for name, old in then.items():
        key, now = f"{above}{name}", today.get(name)
        if isinstance(old, dict) and isinstance(now, dict):
            yield from _changed(old, now, f"{key}.")
        elif name not in today or old != now or type(old) is not type(now):
            yield key, old, now


def _saved_overrides(folder: Path) -> tuple[list[str], list[str]]:
    """The overrides of the run in `folder`, and its additional config folders, as an override."""
    if (folder / "config.yaml").exists() and not (folder / _HYDRA_FOLDER).exists():
        raise ConfigError(
            f"{WORD}{folder}: its config was composed in Python, so that its overrides are not known; allowed: the "
            f"folder of one run of a command, or of rebuttal.run; in Python: "
            f"train.run(OmegaConf.load('{folder}/config.yaml'))"
        )
    overrides = as_typed(_loaded(folder / _HYDRA_FOLDER / "overrides.yaml"))
    hydra = folder / _HYDRA_FOLDER / "hydra.yaml"
    # Runs from the store, and those of Python, have none.
    return overrides, [*own_configs(_loaded(hydra).hydra)] if hydra.exists() else []


def _unresolved(cfg: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=False))


def _loaded(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{WORD}{path.parent.parent}: {path.parent.name}/{path.name} cannot be read there "
            f"({' '.join(str(error).split())}); allowed: the folder of one run, or of one job of a sweep"
        ) from None


def _place(override: Override) -> str:
    """What an override sets: a key, or a group and the package of its option."""
    package = override.package and f"@{override.package}"
    return f"{override.key_or_group}{package or ''}"
