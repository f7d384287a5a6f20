"""The jobs that a command line expands into, known before Hydra launches any of them.

Hydra composes the config of each job twice, which for a finished job takes longer than everything else. Here it is
composed once for each choice of groups; single values are set on copies.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from rebuttal.config import composing
from rebuttal.errors import ConfigError
from rebuttal.launch.settings import (
    SLURM,
    check_not_nested,
    check_objective_wanted,
    check_seeds_of_trial,
    check_sweep,
    check_typed,
    failures_tolerated,
    read_flags,
    search_only_what_was_asked,
    uses_basic_sweeper,
)

PACKAGES, SEARCHPATH = "packages", "hydra.searchpath"
_ALLOWED_SUBDIR = "allowed: a folder for each job, such as ${hydra:job.num}"


@dataclass(frozen=True)
class Request:
    """The jobs that a command line asks for.

    `jobs`: the parsed overrides of each job; None if the sweeper (Optuna, say) chooses jobs from earlier results.
    `composed`: the config of a single run, or of a sweep what its jobs share, with Hydra's own node. `arguments`: what
    Hydra is to be given. `folder`: the sweep's folder; None for a single run. `searchpath`: config folders besides the
    package's own, as an override of Hydra's.
    """

    jobs: list[list[Override]] | None
    composed: DictConfig
    arguments: tuple[str, ...] = ()
    folder: Path | None = None
    searchpath: tuple[str, ...] = ()

    @property
    def launcher(self) -> str:
        """The class that starts the jobs of a sweep."""
        return str(self.composed.hydra.launcher["_target_"]).rpartition(".")[2]

    @property
    def subdir(self) -> str:
        """Each job's folder in that of the sweep, before interpolation."""
        sweep: Any = OmegaConf.to_container(self.composed.hydra.sweep, resolve=False)
        return str(sweep["subdir"])

    @property
    def numbered(self) -> bool:
        """True if each job's folder is its number."""
        return self.subdir == "${hydra:job.num}"

    def overrides(self) -> list[list[str]] | None:
        """The overrides of each job as they were typed, without Hydra's own."""
        if self.jobs is None:
            return None
        return [[typed(o) for o in job if not o.key_or_group.startswith("hydra.")] for job in self.jobs]

    @cached_property
    def subdirs(self) -> tuple[str, ...]:
        """Each job's folder in that of the sweep, as far as the jobs are known in advance."""
        jobs = self.jobs or ()
        if self.numbered:
            return tuple(str(number) for number in range(len(jobs)))
        if "${" not in self.subdir:
            return (self.subdir,) * len(jobs)
        return tuple(self._subdir_of(number, job) for number, job in enumerate(jobs))

    def _subdir_of(self, number: int, job: list[Override]) -> str:
        composed = _compose([*self.searchpath, *(typed(o) for o in job)], return_hydra_config=True)
        with flag_override(composed.hydra.job, ["struct", "readonly"], False):
            composed.hydra.job.num = composed.hydra.job.id = number
        try:
            with hydra_config(composed):
                return str(composed.hydra.sweep.subdir)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"hydra.sweep.subdir={self.subdir}: {reason}; {_ALLOWED_SUBDIR}") from None

    def runs_elsewhere(self) -> bool:
        """True if the jobs may run on other machines."""
        return self.launcher == SLURM

    def may_try(self, device: str) -> bool:
        """True if this process may try networks on the device of that name: it is here, and is no GPU that the jobs of
        a sweep claim."""
        if self.runs_elsewhere():
            return False
        from rebuttal.device import resolve

        return self.folder is None or resolve(device).type == "cpu"

    def needs_hydra(self) -> bool:
        """True if a single run asks for what only Hydra's own command does: its flags, callbacks, and the
        refusal of several values."""
        hydra = self.composed.hydra
        several = any(override.is_sweep_override() for job in self.jobs or () for override in job)
        flags = any(text.startswith("-") for text in self.arguments)
        return bool(hydra.callbacks or flags or several)

    def uses_own_configs(self) -> bool:
        """True if configs come from a folder of the user's."""
        searches = any(o.key_or_group == SEARCHPATH for o in self.jobs[0]) if self.jobs else False
        return searches or bool(self.searchpath)

    def packages(self) -> tuple[str, ...]:
        """The packages that the command line lists for `_target_`; all jobs share them."""
        return packages_in(typed(o) for o in self.jobs[0]) if self.jobs else ()

    def configs(self) -> Iterator[DictConfig]:
        """Yield each job's composed config.

        Overrides that choose groups, or add or remove keys, are composed by Hydra. Setting a single value on a
        composed config gives the same result, because interpolations are resolved later.
        Raises `ConfigError` if the sweeper chooses its jobs as it goes.
        """
        if self.jobs is None:
            raise ConfigError("hydra/sweeper: chooses its jobs from earlier results; allowed here: basic")
        whole = _compose([*self.searchpath, *(typed(o) for o in self.jobs[0])])
        values = {o.key_or_group for o in self.jobs[0] if _sets_a_value(o, whole)}
        composed: dict[tuple[str, ...], DictConfig] = {}
        for job in self.jobs:
            choices = tuple(typed(o) for o in job if o.key_or_group not in values)
            if choices not in composed:
                composed[choices] = _compose([*self.searchpath, *choices])
            cfg = copy.deepcopy(composed[choices])
            for override in job:
                if override.key_or_group in values:
                    OmegaConf.update(cfg, override.key_or_group, override.value())
            yield cfg


def read_command(arguments: Sequence[str]) -> Request | None:
    """Expand a command line into its jobs; None for a question that Hydra answers itself, such as `--help`.

    Raises `ConfigError` for what cannot be used here, and Hydra's own errors for overrides that are wrong.
    """
    given = read_flags(arguments)
    if given is None:
        return None
    place = given.config_dir
    searchpath = (f"{SEARCHPATH}=[{quoted(f'file://{Path(place).resolve()}')}]",) if place else ()
    with _hydra() as parser:
        parsed = parser.parse_overrides(given.overrides)
        check_typed(parsed)
        for override in parsed:
            check_not_nested(override)
        common = [typed(override) for override in parsed if not override.is_sweep_override()]
        composed = compose("train", as_one(SEARCHPATH, [*searchpath, *common]), return_hydra_config=True)
        if not given.multirun and composed.hydra.mode != RunMode.MULTIRUN:
            check_seeds_of_trial(composed, are_trials=False)
            return Request([_without_launcher(parsed)], composed, tuple(arguments), searchpath=searchpath)
        check_sweep(composed.hydra)
        check_objective_wanted(composed)
        if uses_basic_sweeper(composed.hydra):
            jobs, fixed = _expand(parser, composed.hydra, given.overrides)
        else:
            jobs, fixed = None, search_only_what_was_asked(composed, parsed, parser)
            fixed += failures_tolerated(composed, parsed)
        folder = str(composed.hydra.sweep.dir)  # which holds the time, and is composed only once
        for_hydra = (*arguments, *fixed, f"hydra.sweep.dir={quoted(folder)}")
        request = Request(jobs, composed, for_hydra, Path(folder), searchpath)
        _check_folders(request)
        return request


def typed(override: Override) -> str:
    """An override as it was typed."""
    return override.input_line or ""


def as_typed(overrides: Any) -> list[str]:
    """Overrides that Hydra recorded; `${…}` in them is what the user typed, and means nothing where they are kept."""
    texts = [str(override) for override in cast("list[Any]", OmegaConf.to_container(overrides, resolve=False))]
    return [_removal(text) for text in texts]


def _removal(text: str) -> str:
    """Without the null that Hydra's sweeper adds where a key is removed: `~key=null`."""
    return text.removesuffix("=null") if text.startswith("~") else text


def own_configs(hydra: Any) -> tuple[str, ...]:
    """The config folders that the command line named, as an override."""
    named = [source for source in hydra.runtime.config_sources if "command" in source.provider]
    places = ",".join(quoted(f"{source.schema}://{source.path}") for source in named)
    return (f"{SEARCHPATH}=[{places}]",) if named else ()


def packages_in(arguments: Iterable[str]) -> tuple[str, ...]:
    """The packages that the arguments of a command list. A config file, which may be a stranger's, has no say in
    them."""
    return tuple(listed(PACKAGES, arguments) or ())  # a wrong type is reported when the config is checked


def listed(key: str, arguments: Iterable[str]) -> list[str] | None:
    """The texts that the arguments of a command list for `key`; None if they give it anything else."""
    parse = OverridesParser.create().parse_override
    values: list[Any] = [parse(text).value() for text in arguments if text.lstrip("+~").startswith(f"{key}=")]
    if not all(isinstance(value, list) and all(isinstance(item, str) for item in value) for value in values):
        return None
    return [str(item) for value in values for item in value]


def as_one(key: str, arguments: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """Return the arguments with what they list for `key`, and `further` items, in one override: of several Hydra takes
    one. Anything else that they give it stays as it is, for a message."""
    given = [text for text in arguments if text.startswith(f"{key}=")]
    items = listed(key, arguments)
    if items is None or not (further or len(given) > 1):
        return list(arguments)
    texts = ",".join(map(_plain, dict.fromkeys([*items, *further])))
    return [*(text for text in arguments if text not in given), f"{key}=[{texts}]"]


def _plain(name: str) -> str:
    """A text in a list, in quotation marks only if the grammar needs them."""
    return name if name.isidentifier() and name.lower() not in ("null", "true", "false", "nan", "inf") else quoted(name)


def quoted(value: Any) -> str:
    """A value as Hydra's override grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(quoted(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(item)}" for key, item in value.items()) + "}"
    return str(value)


@contextmanager
def _hydra() -> Iterator[OverridesParser]:
    """Within the block configs can be composed; yields a parser that knows the groups' options, for `glob(…)`."""
    with composing():
        yield OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())


@contextmanager
def hydra_config(composed: DictConfig) -> Iterator[None]:
    """Within the block `${hydra:…}` refers to the Hydra node of this config."""
    singleton = HydraConfig.instance()
    before = singleton.cfg
    try:
        singleton.set_config(composed)
        yield
    finally:
        singleton.cfg = before


def _compose(overrides: list[str], return_hydra_config: bool = False) -> DictConfig:
    with composing():
        return compose("train", as_one(SEARCHPATH, overrides), return_hydra_config)


def _expand(
    parser: OverridesParser, hydra: DictConfig, overrides: Sequence[str]
) -> tuple[list[list[Override]], list[str]]:
    """Return every combination of the values to sweep, in the order of Hydra's basic sweeper, and overrides by which
    Hydra takes shuffled values in the same order. Those that the config's own `hydra.sweeper.params` asks for come
    first."""
    given = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    choices: dict[str, list[str]] = {}
    shuffled: dict[str, bool] = {}
    for override in parser.parse_overrides([*given, *overrides]):
        key = override.get_key_element()
        choices[key] = _choices(override)
        shuffled[key] = bool(getattr(override.value(), "shuffle", False))
    parsed = {text: parser.parse_override(text) for values in choices.values() for text in values}
    jobs = [_without_launcher(parsed[text] for text in job) for job in product(*choices.values())]
    fixed = [
        f"{key}={','.join(text.removeprefix(f'{key}=') for text in choices[key])}"
        for key, is_shuffled in shuffled.items()
        if is_shuffled
    ]
    return jobs, fixed


def _choices(override: Override) -> list[str]:
    """The values of one key, as overrides."""
    check_not_nested(override)  # which a config's own `hydra.sweeper.params` may ask for
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [_removal(f"{key}={override.get_value_element_as_str()}")]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: hydra/sweeper=basic sweeps lists, ranges and globs only")
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"{override.input_line}: there is nothing to sweep; allowed: at least one value")
    return values


def _check_folders(request: Request) -> None:
    """Raise `ConfigError` if two jobs would have one folder."""
    taken: dict[str, int] = {}
    for number, name in enumerate(request.subdirs):
        first = taken.setdefault(os.path.normpath(name), number)
        if first != number:
            raise ConfigError(
                f"hydra.sweep.subdir={request.subdir}: jobs {first} and {number} would have one folder; "
                f"{_ALLOWED_SUBDIR}"
            )


def _without_launcher(job: Iterable[Override]) -> list[Override]:
    """The launcher and its settings decide nothing of a job."""
    return [override for override in job if not override.key_or_group.startswith(("hydra/launcher", "hydra.launcher"))]


def _sets_a_value(override: Override, cfg: DictConfig) -> bool:
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    parent, _, key = override.key_or_group.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or key not in node:  # as one that leads nowhere
        return False
    return not OmegaConf.is_interpolation(node, key) and not isinstance(node[key], DictConfig)
