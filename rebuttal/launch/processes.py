"""Jobs in processes of their own, so that one that is killed takes no other with it, and CUDA starts afresh.

They are forked from a server that has imported what every run imports, which takes seconds, and has done nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rebuttal.launch.stopping import stop_with_parent

if TYPE_CHECKING:
    from concurrent.futures import Future

    from joblib.externals.loky import ProcessPoolExecutor

T = TypeVar("T")

IGNORED = (signal.SIGTERM, signal.SIGUSR2)  # by the server: what is sent to all processes is for its jobs
# torch._dynamo by torch's optimisers; without joblib's own no process can be begun by a worker of joblib's.
_OF_LIBRARIES = ["torch._dynamo", "joblib.externals.loky", "scipy.stats", "pandas"]
IMPORTED = ["rebuttal.launch.fork_server", "rebuttal.runs.execute", *_OF_LIBRARIES]


class ProcessDied(Exception):
    """The process of a job was killed."""


@dataclass(frozen=True)
class OwnProcess:
    """A process for one job, `number` to the system."""

    number: int
    executor: ProcessPoolExecutor

    def run(self, job: Callable[[], T]) -> T:
        """Return what the job returns. Raises what it raises, and `ProcessDied` if its process was killed."""
        result: T = _result_of(self.executor.submit(job))
        return result

    def terminate(self) -> None:
        """Stop the job by SIGTERM, on which it saves a checkpoint. The block of `own_process` waits for that."""
        with suppress(ProcessLookupError):
            os.kill(self.number, signal.SIGTERM)


@contextmanager
def own_process() -> Iterator[OwnProcess]:
    """A process in this one's folder and with its environment variables; it ends with the block, or with this one."""
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(1, context=_server()) as executor:
        number = _result_of(executor.submit(_begin, dict(os.environ), Path.cwd()))
        yield OwnProcess(number, executor)


def _result_of(job: Future[T]) -> T:
    """Return the result of a job. Raises what the job raises, and `ProcessDied` if its process was killed."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        return job.result()
    except TerminatedWorkerError as error:
        raise ProcessDied(str(error)) from error


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _begin(environment: dict[str, str], folder: Path) -> int:
    os.environ.clear()  # the server has those of when it began
    os.environ.update(environment)
    os.chdir(folder)
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    stop_with_parent()
    return os.getpid()
