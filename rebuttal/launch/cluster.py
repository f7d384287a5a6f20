"""What SLURM and submitit say: refusals of sbatch in one line, and waiting for the jobs of a sweep, because submitit
stops waiting at the first job that dies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO, cast

from omegaconf import OmegaConf

from rebuttal.errors import ConfigError

MAX_SILENT_QUERIES = 24  # consecutive unanswered queries before giving up on SLURM

_OF_A_NODE = "hydra.launcher.cpus_per_task hydra.launcher.mem_gb hydra.launcher.gpus_per_node"
# What sbatch may complain of, by its own words, first match first: the keys that ask for it, and what is allowed.
_REFUSED = (
    (r"\baccount\b|association", "hydra.launcher.account", "one that `sacctmgr show associations user=$USER` lists"),
    (r"qos|accounting", "hydra.launcher.qos", "one that you may use, within its limits"),
    (r"job array", "hydra.sweeper.max_batch_size", "fewer than MaxArraySize of `scontrol show config`"),
    (r"time limit|--time", "hydra.launcher.timeout_min", "at most the partition's limit, which `sinfo` lists"),
    (r"partition", "hydra.launcher.partition", "one that `sinfo` lists"),
    (r"feature|constraint", "hydra.launcher.constraint", "features that `sinfo --format=%f` lists"),
    (r"gres|tres|gpu", "hydra.launcher.gpus_per_node", "at most those of a node, which `sinfo --format=%G` lists"),
    (r"memory", "hydra.launcher.mem_gb", "at most that of a node, which `sinfo --format=%m` lists"),
    (r"cpu|processor", "hydra.launcher.cpus_per_task", "at most those of a node, which `sinfo --format=%c` lists"),
    (r"node config", _OF_A_NODE, "together at most what a node has, which `sinfo --Node --long` lists"),
    (r"option|specification|--\w+", "hydra.launcher.additional_parameters", "options of sbatch"),
)


@contextmanager
def sbatch_refusals(hydra: Any) -> Iterator[None]:
    """Within the block raise what sbatch refuses as `ConfigError`, with SLURM's own words and the key to change.

    `hydra`: Hydra's config of the sweep."""
    try:
        with redirect_stderr(cast(TextIO, _WithoutSbatch(sys.stderr))):
            yield
    except Exception as error:
        cause = error.__cause__  # submitit's error is raised from that of the process
        if isinstance(cause, subprocess.CalledProcessError) and Path(str(cause.cmd[0])).name == "sbatch":
            raise ConfigError(_refusal(str(cause.stderr or cause.stdout or cause), hydra)) from error
        raise


def _refusal(said: str, hydra: Any) -> str:
    lines = [re.sub(r"^sbatch: (error: )?", "", line).strip() for line in said.splitlines()]
    words = "; ".join(line for line in lines if line)
    for pattern, keys, allowed in _REFUSED:
        if re.search(pattern, words, flags=re.IGNORECASE):
            asked = ((key, OmegaConf.select(hydra, key.removeprefix("hydra."))) for key in keys.split())
            settings = " ".join(f"{key}={'null' if value is None else value}" for key, value in asked)
            return f"{settings}: sbatch: {words}; allowed: {allowed}"
    return f"hydra/launcher=slurm: sbatch: {words}"


class _WithoutSbatch:
    """A text stream without sbatch's complaints, which submitit prints before it raises them as an error."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._complained = False

    def write(self, text: str) -> int:
        ends_complaint = self._complained and text == "\n"
        self._complained = re.search("^sbatch: ", text, flags=re.MULTILINE) is not None
        return len(text) if self._complained or ends_complaint else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def wait_for_cluster(folder: Path, seconds: float = 5) -> None:
    """Wait while SLURM still has jobs of the sweep in `folder`. submitit stops waiting at the first job that dies."""
    silent = 0
    while (queued := is_queued(folder)) is not False and silent < MAX_SILENT_QUERIES:
        silent = silent + 1 if queued is None else 0
        time.sleep(seconds)


def is_queued(folder: Path) -> bool | None:
    """True if SLURM has jobs of the sweep in `folder`; None if it does not answer."""
    ids = _submitted(folder)
    queued = _queued() if ids else set()
    return None if queued is None else bool(ids & queued)


def wait_for_submitit_local(folder: Path, seconds: float = 0.2) -> None:
    """Wait while processes that submitit started here for the sweep in `folder` run; it names jobs by process."""
    for number in _submitted(folder):
        while _is_running_child(int(number)):
            time.sleep(seconds)


def _is_running_child(process: int) -> bool:
    try:
        return os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # it has ended, and submitit has seen it
        return False


def _submitted(folder: Path) -> set[str]:
    """The ids of the jobs and arrays that submitit started for the sweep in `folder`."""
    names = {path.name.split("_")[0] for path in (folder / ".submitit").glob("*")}
    return {name for name in names if name.isdigit()}  # the others are files of jobs that were never submitted


def _queued() -> set[str] | None:
    """The ids of this user's jobs and arrays in SLURM's queue; None if SLURM does not answer."""
    try:
        query = ["squeue", "--noheader", "--me", "--format=%F"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(answer.stdout.split()) if answer.returncode == 0 else None
