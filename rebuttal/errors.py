"""Errors that the user can fix, each reported in one line."""

from __future__ import annotations

import errno
import os
import re
import sys
from itertools import takewhile
from traceback import walk_tb

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

FULL_ERROR = "HYDRA_FULL_ERROR"  # the environment variable by which a user asks for tracebacks
TRACEBACK_WANTED = os.environ.get(FULL_ERROR) == "1"


class UserError(Exception):
    """Base of the errors below; the message is one line."""


class ConfigError(UserError, ValueError):
    """A setting that cannot be used: the key, the value, what is allowed."""


class TrainingError(UserError, RuntimeError):
    """Training cannot continue: where, and what to try."""


_HALF = 500  # characters
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
_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NOT_WRITABLE |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}  # a file where a folder is meant, or the reverse


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
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        return _unknown_key(str(error), error.__cause__)
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
    return f"{group}={option}: no such option; allowed: {', '.join(options)}"


def _unknown_key(message: str, cause: OmegaConfBaseException) -> str:
    """Parse Hydra's "Could not override 'a.b'. To append to your config use +a.b=1", caused by omegaconf's error,
    which knows the keys beside it."""
    found = re.search(r"use \+(\S+)", message) or re.search(r"Could not override '(.+?)'", message)
    key = found.group(1) if found else cause.full_key
    try:
        beside = sorted(str(name) for name in cause.parent_node if name not in ("_target_", "hydra"))
    except (TypeError, OmegaConfBaseException):  # the parent is a value, or copied from elsewhere by ${…}
        beside = []
    if not beside:
        return f"{key}: its parent has no keys of its own here; if it is copied from another key (${{…}}), set that one"
    return f"{key}: unknown key; allowed here: {', '.join(beside)}"
