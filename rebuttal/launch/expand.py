"""The jobs that a command line expands into, known before Hydra launches any of them.

Hydra composes the config of each job twice, which for a finished job takes longer than everything else. Here it is
composed once for each choice of groups; single values are set on copies.
"""

from __future__ import annotations

import copy
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """The jobs that a command line asks for.

    `jobs`: the parsed overrides of each job; None if the sweeper (Optuna, say) chooses jobs from earlier results.
    `folder`: the sweep's folder; None for a single run. `numbered`: whether each job's folder is its number.
    `searchpath`: config folders besides the package's own, as an override of Hydra's. `composed`: the config of a
    single run, or of a sweep what its jobs share, with Hydra's own node.
    """

    jobs: list[list[Override]] | None
    composed: DictConfig
    folder: Path | None = None
    numbered: bool = False
    searchpath: tuple[str, ...] = ()

    def overrides(self) -> list[list[str]] | None:
        """The overrides of each job as they were typed, without Hydra's own."""
        if self.jobs is None:
            return None
        return [[text for o in job if not (text := typed(o)).startswith("hydra.")] for job in self.jobs]

    def subdirs(self) -> Iterator[str]:
        """Yield each job's folder below the sweep's, as far as the jobs are known in advance."""
        for number, job in enumerate(self.jobs or ()):
            if self.numbered:
                yield str(number)
                continue
            hydra = _compose([*self.searchpath, *(typed(o) for o in job)], return_hydra_config=True)
            with flag_override(hydra.hydra.job, ["struct", "readonly"], False):
                hydra.hydra.job.num = hydra.hydra.job.id = number
            with hydra_config(hydra):
                yield str(hydra.hydra.sweep.subdir)

    def runs_elsewhere(self) -> bool:
        """True if the jobs may run on other machines."""
        return "Slurm" in self.composed.hydra.launcher["_target_"]

    def uses_own_configs(self) -> bool:
        """True if configs come from a folder of the user's."""
        searches = any(o.key_or_group == "hydra.searchpath" for o in self.jobs[0]) if self.jobs else False
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

    Raises `ConfigError` for a flag that cannot be used here, and Hydra's own errors for overrides that are wrong.
    """
    flags, overrides = _parse_flags(arguments)
    if flags is None:
        return None
    searchpath = (f"hydra.searchpath=[{quoted(f'file://{Path(flags).resolve()}')}]",) if flags else ()
    multirun = any(argument in ("-m", "--multirun") for argument in arguments)
    with _hydra() as parser:
        parsed = parser.parse_overrides(overrides)
        common = [typed(override) for override in parsed if not override.is_sweep_override()]
        composed = compose("train", [*searchpath, *common], return_hydra_config=True)
        hydra = composed.hydra
        if not multirun and hydra.mode != RunMode.MULTIRUN:
            return Request([_without_launcher(parsed)], composed, searchpath=searchpath)
        jobs = _expand(parser, hydra, overrides) if uses_basic_sweeper(hydra) else None
    subdir = OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
    return Request(jobs, composed, Path(hydra.sweep.dir), subdir == "${hydra:job.num}", searchpath)


def typed(override: Override) -> str:
    """An override as it was typed."""
    return override.input_line or ""


def own_configs(hydra: Any) -> tuple[str, ...]:
    """The config folders that the command line named, as an override."""
    named = [source for source in hydra.runtime.config_sources if "command" in source.provider]
    places = ",".join(quoted(f"{source.schema}://{source.path}") for source in named)
    return (f"hydra.searchpath=[{places}]",) if named else ()


def uses_basic_sweeper(hydra: Any) -> bool:
    """True if all jobs of a sweep are known in advance, whatever their results."""
    return bool(hydra.sweeper["_target_"].endswith(".BasicSweeper"))


def packages_in(overrides: Iterable[str]) -> tuple[str, ...]:
    """The packages that these overrides list. A config file, which may be a stranger's, has no say in them."""
    listed: Any = ()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group == "packages" and not override.is_sweep_override():
            listed = override.value()
    return tuple(listed) if isinstance(listed, list) else ()  # a wrong type is reported when the config is checked


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


def _parse_flags(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The folder of `--config-dir` ("" without one; None for a question that Hydra answers), and the overrides."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", default="")
    parser.add_argument("-cp", "--config-path")
    parser.add_argument("-cn", "--config-name")
    try:
        known, rest = parser.parse_known_args(list(arguments))
    except ArgumentError:
        return None, []
    if any(argument.startswith("-") for argument in rest):
        return None, []
    for flag in ("config_path", "config_name"):
        if (value := getattr(known, flag)) is not None:
            name = f"--{flag.replace('_', '-')}"
            raise ConfigError(f"{name}={value}: the root config is conf/train.yaml; allowed: --config-dir=FOLDER")
    return known.config_dir, rest


@contextmanager
def _hydra() -> Iterator[OverridesParser]:
    """Within the block configs can be composed; yields a parser that knows the groups' options, for `glob(…)`."""
    with initialize_config_dir(str(CONFIG_DIR), job_name="train", version_base="1.3"):
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
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides, return_hydra_config)


def _expand(parser: OverridesParser, hydra: DictConfig, overrides: Sequence[str]) -> list[list[Override]]:
    """Every combination of the values to sweep, in the order of Hydra's basic sweeper; those that the config's own
    `hydra.sweeper.params` asks for come first."""
    given = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    choices: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*given, *overrides]):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise ConfigError(f"{override.input_line}: hydra/sweeper=basic sweeps lists, ranges and globs only")
    parsed = {text: parser.parse_override(text) for values in choices.values() for text in values}
    return [_without_launcher(parsed[text] for text in job) for job in product(*choices.values())]


def _without_launcher(job: Iterable[Override]) -> list[Override]:
    """The launcher and its settings decide nothing of a job."""
    return [override for override in job if not override.key_or_group.startswith(("hydra/launcher", "hydra.launcher"))]


def _sets_a_value(override: Override, cfg: DictConfig) -> bool:
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    parent, _, key = override.key_or_group.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    there = isinstance(node, DictConfig) and key in node
    return there and not isinstance(node[key], DictConfig)
