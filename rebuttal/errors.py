"""Errors that the user can fix, each reported in one line."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from traceback import walk_tb
from typing import Any

import yaml
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

_PACKAGE = Path(__file__).resolve().parent
# The wheel carries conf/ inside the package; a checkout has it beside the package, for people to edit.
CONFIG_DIR = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())

FULL_ERROR = "HYDRA_FULL_ERROR"  # the environment variable by which a user asks for tracebacks
TRACEBACK_WANTED = os.environ.get(FULL_ERROR) == "1"


class UserError(Exception):
    """Base of the errors below; the message is one line."""


class ConfigError(UserError, ValueError):
    """A setting that cannot be used: the key, the value, what is allowed."""


class TrainingError(UserError, RuntimeError):
    """Training cannot continue: where, and what to try."""


_HALF = 500  # characters
_IN_DEFAULTS = "the groups in its defaults"
_COMPOSERS = {"hydra", "omegaconf", "antlr4", "yaml"}
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    # NumPy and torch, for impossible sizes:
    "Storage size calculation overflowed",
    "Overflow when unpacking long",
    "array is too big",
    "Maximum allowed dimension exceeded",
)
_LOGGING = {"colorlog": "hydra-colorlog"}
_PLUGINS = {  # the options of Hydra's own groups that packages add
    "hydra/sweeper": {
        "optuna": "hydra-optuna-sweeper",
        "ax": "hydra-ax-sweeper",
        "nevergrad": "hydra-nevergrad-sweeper",
    },
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher",
        "submitit_local": "hydra-submitit-launcher",
        "submitit_slurm": "hydra-submitit-launcher",
        "rebuttal_slurm": "hydra-submitit-launcher",
        "ray": "hydra-ray-launcher",
        "ray_aws": "hydra-ray-launcher",
        "rq": "hydra-rq-launcher",
    },
    "hydra/job_logging": _LOGGING,
    "hydra/hydra_logging": _LOGGING,
}
_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NOT_WRITABLE |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}  # a file where a folder is meant, or the reverse


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Raise what is wrong with a config as `ConfigError`, whoever noticed it. Other errors stay as they are: of memory,
    of disk, of training, and bugs."""
    try:
        yield
    except Exception as error:
        line = as_one_line(error)
        of_config = isinstance(error, HydraException) or not isinstance(error, (UserError, OSError))
        if line is None or not of_config or out_of_memory(error):
            raise
        raise ConfigError(line) from None


def not_frozen(kind: type) -> str:
    """What to write where an option's class is no frozen dataclass."""
    return (
        "two with other settings could not be distinguished in the store; allowed: a frozen dataclass; write @checked "
        f"above class {kind.__name__} (from rebuttal.config import checked), and its settings as annotated fields"
    )


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Raise what a user's own code raises, which may be anything, as a `ConfigError` that begins with `what`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        raise ConfigError(f"{what}: {type(error).__name__}: {error}") from error


@contextmanager
def user_code_imported(what: str, module: str) -> Iterator[None]:
    """Raise what keeps `module` from being imported in the block as a `ConfigError` that begins with `what`: which
    module is missing, or what went wrong, and in which line."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        if out_of_memory(error):
            raise
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}.") and not _of_others(error):
            raise ConfigError(f"{what}: no such class or function can be imported: no module {missing}") from None
        raise ConfigError(f"{what}: {_where_and_what(error, module.partition('.')[0])}") from error


def _where_and_what(error: BaseException, package: str = "") -> str:
    """File and line, and what is wrong there: a module that is missing, or what was raised. The line is that of the
    user's `package` which led to it, if there is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = _lines(error)
    if isinstance(error, ModuleNotFoundError) and error.name and lines:
        is_own = error.name.partition(".")[0] == package
        return f"{lines[-1][1]}: imports {error.name}, which {'is not there' if is_own else 'is not installed'}"
    own = [line for name, line in lines if name == package] or [line for _, line in lines]
    return f"{f'{own[-1]}: ' if own else ''}{type(error).__name__}: {error}".removesuffix(": ")


def _lines(error: BaseException) -> list[tuple[str, str]]:
    """Where the error was raised, and from where that was called, innermost last and without Python's import system:
    the top-level package and `file, line n`."""
    found = []
    for frame, number in walk_tb(error.__traceback__):
        package, file = str(frame.f_globals.get("__name__", "")).partition(".")[0], frame.f_code.co_filename
        if package != "importlib" and not file.startswith("<frozen"):
            found.append((package, f"{_relative(file)}, line {number}"))
    return found


def _of_others(error: BaseException) -> bool:
    """True if the error was raised in code that is not this package's."""
    return [package for package, _ in _lines(error)][-1:] != ["rebuttal"]


def _relative(file: str) -> str:
    """A file by its path from the working directory, if it lies below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def check_working_directory() -> None:
    """Raise `ConfigError` if the process stands in a folder that has been deleted; torch would end it when imported."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory has been deleted; allowed: to run in one that exists") from None


@cache
def config_groups() -> frozenset[str]:
    """The names of the config groups, e.g. `model` and `hydra/launcher`. `report` is none: a report reads it."""
    options = CONFIG_DIR.glob("*/**/*.yaml")
    return frozenset(option.parent.relative_to(CONFIG_DIR).as_posix() for option in options) - {"report"}


def nearest(word: str, known: Iterable[str]) -> str:
    """`; nearest: …`, what of `known` a mistyped `word` may have meant; empty if nothing is near."""
    by_case = {str(name).lower(): str(name) for name in known}
    found = get_close_matches(word.lower(), by_case, n=1)
    return f"; nearest: {by_case[found[0]]}" if found else ""


def place_in_yaml(error: yaml.YAMLError) -> str:
    """`, line 3, column 1: what is wrong there`, as far as the error says so."""
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return place + (f": {what}" if what else "")


def options_of(group: str) -> list[str]:
    """The options of a config group, as they are typed."""
    return [f"{group}={path.stem}" for path in sorted((CONFIG_DIR / group).glob("*.yaml"))]


def exit_if_user_error(error: BaseException) -> None:
    """Print an error that the user can fix in one line and exit with status 2; return for any other error, and if the
    user asked for the traceback."""
    line = as_one_line(error)
    if line is not None and not TRACEBACK_WANTED:
        print(f"rebuttal: {line}", file=sys.stderr)
        sys.exit(2)


def out_of_memory(error: BaseException) -> bool:
    """True for any out-of-memory error (CUDA, cuBLAS, cuDNN, CPU allocator, Python, impossible sizes). Does not import
    torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    could_say = isinstance(error, (RuntimeError, ValueError, TypeError))
    return could_say and any(words in str(error) for words in _OUT_OF_MEMORY)


def as_one_line(error: BaseException) -> str | None:
    """Return the line to print for an error that the user can fix; None for a bug, which deserves its traceback."""
    if isinstance(error, UserError):
        return _joined(error)
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, ConfigCompositionException):
        return _refused_override(error)
    if out_of_memory(error):
        return (
            "out of memory: try smaller training.batch_size (or batch_size=auto), measuring.memory, measuring.probes "
            "or dataset sizes"
        )
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror}; finished results are kept: free some space or choose another folder, and rerun"
        )
    if isinstance(error, RuntimeError) and 'Could not detect "srun"' in str(error):
        return (
            "hydra/launcher=slurm: sbatch and srun are not on this machine's PATH; allowed: on a login node of a SLURM "
            "cluster; elsewhere hydra/launcher=local"
        )
    if type(error).__name__ == "UncompletedJobError" and "timed-out too many times" in str(error):
        return (
            "SLURM's time limit was reached more often than hydra.launcher.max_num_timeout allows; rerun the command "
            "to resume from the last checkpoint"
        )
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _joined(error)
    if isinstance(error, (ModuleNotFoundError, SyntaxError)) and _of_others(error):  # a user's code, on first use
        return _where_and_what(error)
    frames = _packages(error)
    composing = any(package in _COMPOSERS for package in takewhile(lambda package: package != "rebuttal", frames))
    if composing and isinstance(error, RecursionError):
        return (
            "the config cannot be composed: values, references or defaults are nested too deeply, or within themselves"
        )
    if composing and isinstance(error, UnicodeDecodeError):
        return f"the config cannot be composed: a file is not UTF-8 ({error.reason} at byte {error.start})"
    if frames and frames[0] in _COMPOSERS:  # Hydra has errors of its own for some mistakes only
        return f"the config cannot be composed: {_joined(error)}"
    return None


def _joined(error: BaseException) -> str:
    """Return the message as one line, a very long one shortened in the middle."""
    line = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    return line if len(line) <= 2 * _HALF else f"{line[:_HALF]} … {line[-_HALF:]}"


def _packages(error: BaseException) -> list[str]:
    """The top-level packages of the error's stack frames, innermost first."""
    frames = reversed([frame for frame, _ in walk_tb(error.__traceback__)])
    return [frame.f_globals.get("__name__", "").split(".")[0] for frame in frames]


def _unknown_option(error: MissingConfigException) -> str:
    """Parse Hydra's "In 'train': Could not find 'model/nix'", then the options, each on an indented line."""
    first = str(error).splitlines()[0]
    found = re.search(r"Could not (?:find|load) '(.+)/([^/]+)'", first)
    if found is None:
        return first
    group, option = found.groups()
    options = re.findall(r"^\t([^=\t\n]+)$", str(error), flags=re.MULTILINE)
    if (plugin := _PLUGINS.get(group, {}).get(option)) is not None:
        return f"{group}={option}: is not installed here; allowed: {', '.join(options)}; or pip install {plugin}"
    return f"{group}={option}: no such option; allowed: {', '.join(options)}{nearest(option, options)}"


def _refused_override(error: ConfigCompositionException) -> str:
    """Parse what Hydra says of an override: "Could not override 'a.b'. To append to your config use +a.b=1" or "Error
    merging override a.b=1", both caused by omegaconf's error, or one of the messages below."""
    message, cause = str(error), error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        found = re.search(r"(?:use \+|merging override )(.+)", message, flags=re.DOTALL)
        override = found.group(1) if found else str(cause.full_key)
        # A missing key is reported as one of two errors, of which neither derives from the other.
        return _unknown_key(override, cause) if _is_key_error(cause) else _wrong_type(override, cause)
    if several := re.search(r"Ambiguous value for argument '(.*)'\n1\.", message, flags=re.DOTALL):
        key, _, values = several.group(1).partition("=")
        as_list, as_text = shlex.quote(f"{key}=[{values}]"), shlex.quote(f'{key}="{values}"')
        return f"{key}={values}: a sweep of several values needs -m; write {as_list} for a list, {as_text} for a text"
    if sweep := re.search(r"Sweep parameters '(.*)' requires", message, flags=re.DOTALL):
        return f"{sweep.group(1)}: a sweep of several values needs -m"
    if unknown := re.search(r"config group '(.*)' does not exist", message):
        group, groups = unknown.group(1), config_groups()
        return f"{group}: no such group; allowed: {_listed(groups)}{nearest(group, groups)}"
    if absent := re.search(r"^Could not override '(.*?)'\..*use \+(.+)$", message, flags=re.DOTALL):
        return _unused_group(*absent.groups())
    return _joined(error)


def _unused_group(group: str, override: str) -> str:
    """Name the experiments that have a choice of the group, which the one at hand does not have."""
    having = [path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml") if f"/{group}: " in path.read_text()]
    ways = [f"with experiment={' | '.join(sorted(having))}"] if having else []
    if place := group.partition("@")[2]:
        ways.append(f"{_with_plus(override)}, where the experiment has a key {place}")
    return f"{override}: the experiment has no choice of {group}; allowed: {', or '.join(ways) or _IN_DEFAULTS}"


def _with_plus(override: str) -> str:
    """The override that adds a key or a choice instead of changing one, as a shell takes it."""
    return shlex.quote(f"+{override}")


def _is_key_error(cause: OmegaConfBaseException) -> bool:
    return isinstance(cause, (ConfigKeyError, AttributeError))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _wrong_type(override: str, cause: OmegaConfBaseException) -> str:
    said = re.sub("^(Value|Invalid value) '.*?' ", "", str(cause).splitlines()[0])
    said = said.replace(
        "of type 'str' could not be converted to Integer", "wrong type; allowed: a whole number, without a unit"
    )
    said = said.replace(
        "of type 'float' could not be converted to Integer", "wrong type; allowed: a whole number, without a point"
    )
    return f"{override}: {said}"


def _unknown_key(override: str, cause: OmegaConfBaseException) -> str:
    """Name the keys beside the unknown one, which omegaconf's error knows, and what else the user may have meant."""
    name, parent = str(cause.key), cause.parent_node
    above = str(cause.full_key).removesuffix(name).rstrip(".")
    try:
        beside = {str(key) for key in parent if key not in ("_target_", "hydra")}
    except (TypeError, OmegaConfBaseException):  # the parent is a value, or copied from elsewhere by ${…}
        beside = set()
    elsewhere, unlisted = options_with(name, above), _unlisted_field(override, name, parent)
    if isinstance(parent, DictConfig) and parent and not beside:
        return f"{override}: unknown key; the chosen option of {above} has none{elsewhere}{unlisted}"
    if not beside:  # omegaconf has replaced what was there, null or ${…}, before it raised this
        return (
            f"{override}: its parent has no keys of its own here{_options_first(name, above)}; if it is copied from "
            "another key (${…}), set that one"
        )
    known = beside if above else beside | config_groups()
    hint = nearest(name, known).replace(": ", f": {above}." if above else ": ")
    return f"{override}: unknown key; allowed here: {_listed(beside)}{hint or elsewhere}{unlisted}"


def _unlisted_field(override: str, name: str, parent: Any) -> str:
    """How to set a field of the option's class that its file does not list. Of another's class the fields are not
    known, because its code is not imported for a message."""
    target = str(parent.get("_target_", "")) if isinstance(parent, DictConfig) else ""
    module, _, kind = target.rpartition(".")
    if not module or override.startswith("hydra."):
        return ""
    if not module.startswith("rebuttal."):
        return f"; if it is another field of {kind}, write {_with_plus(override)}"
    with suppress(ImportError, AttributeError, TypeError):  # a function has no fields
        if name in {f.name for f in fields(getattr(import_module(module), kind)) if f.init}:
            return f"; write {_with_plus(override)}"
    return ""


def options_with(key: str, above: str, of_run: Collection[str] = ()) -> str:
    """`; allowed with corruption=partial`, for a key that other options of the group chosen `above` it have. `of_run`:
    the groups whose option a stage takes from the run."""
    options = [option for option, keys in _options_at(above, of_run).items() if key in keys]
    return f"; allowed with {', '.join(options)}" if options else ""


def _options_first(key: str, above: str) -> str:
    """`; choose an option first: …`, those that have the key, or all if none has it."""
    options = _options_at(above)
    having = [option for option, keys in options.items() if key in keys] or list(options)
    return f"; choose an option first: {', '.join(having)}" if having else ""


def _options_at(above: str, of_run: Collection[str] = ()) -> dict[str, set[str]]:
    """The options of the group whose choice stands at the key `above`, as they are typed, and the keys of each."""
    package = above.replace(".", "/")
    groups = (package, "/".join(package.split("/")[-2:]), package.rpartition("/")[2])
    group = next((name for name in groups if name in config_groups()), None)
    if group is None:
        return {}
    chosen = group if group == package or group.partition("/")[0] in of_run else f"{group}@{above}"
    files = sorted((CONFIG_DIR / group).glob("*.yaml"))
    contents = {f"{chosen}={path.stem}": yaml.safe_load(path.read_bytes()) or {} for path in files}
    return {option: set(content) - {"_target_", "defaults"} for option, content in contents.items()}
