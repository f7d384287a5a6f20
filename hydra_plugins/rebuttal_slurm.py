"""The launcher of `hydra/launcher=slurm`: submitit's, with several jobs in a task where `jobs_per_task` asks for it.

It is here because Hydra takes launchers from this namespace only; what a task does is in `rebuttal.launch.packing`.
"""

# Without `from __future__ import annotations`: dataclass looks texts up in sys.modules, where Hydra has no module yet.
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as OneJobATask

from rebuttal.launch.packing import Job, cores_of_task, in_tasks, run_jobs
from rebuttal.launch.settings import uses_basic_sweeper
from rebuttal.launch.sweep import Sweep


@dataclass
class Slurm(SlurmQueueConf):
    _target_: str = "hydra_plugins.rebuttal_slurm.SlurmLauncher"
    jobs_per_task: int = 1
    jobs_at_a_time: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="rebuttal_slurm", node=Slurm(), provider="rebuttal")


class SlurmLauncher(OneJobATask):
    """submitit's launcher, which calls itself in each task; its `checkpoint` requeues a task that SLURM warns."""

    def __init__(self, jobs_per_task: int = 1, jobs_at_a_time: int | None = None, **params: Any):
        super().__init__(**params)
        self.jobs_per_task = jobs_per_task
        self.jobs_at_a_time = jobs_at_a_time
        self.tasks: list[list[Job]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.jobs_per_task == 1:
            return super().launch(job_overrides, initial_job_idx)
        self.tasks = in_tasks(job_overrides, initial_job_idx, self.jobs_per_task)
        named = [[f"jobs {task[0].number} to {task[-1].number}"] for task in self.tasks]
        returned: Any = super().launch(named, 0)
        return [of_job for of_task in returned for of_job in of_task]

    def __call__(
        self,
        sweep_overrides: list[str],
        job_dir_key: str,
        job_num: int,
        job_id: str,
        singleton_state: dict[type, Singleton],
    ) -> Any:
        """Run one job, or all those of task `job_num` that have not ended before the task was requeued."""
        if self.jobs_per_task == 1:
            return super().__call__(sweep_overrides, job_dir_key, job_num, job_id, singleton_state)
        hydra: Any = self.config and self.config.hydra
        known_in_advance = uses_basic_sweeper(hydra)  # else the sweeper is waiting for the results of all
        sweep = Sweep(Path(hydra.runtime.cwd, hydra.sweep.dir))
        run_one = partial(OneJobATask.__call__, self)
        calls = {
            job: partial(run_one, list(job.overrides), job_dir_key, job.number, job_id, singleton_state)
            for job in self.tasks[job_num]
            if not (known_in_advance and sweep.has_ended(job.number))
        }
        returned = dict(zip(calls, run_jobs(list(calls.values()), self.jobs_at_a_time or cores_of_task())))
        return [_as_return(job, returned.get(job), known_in_advance) for job in self.tasks[job_num]]


def _as_return(job: Job, returned: JobReturn | Exception | None, known_in_advance: bool) -> JobReturn:
    """What Hydra's sweeper is given for a job. That one died is in its folder; raising would hide the others."""
    if isinstance(returned, JobReturn):
        return returned
    given = JobReturn(overrides=list(job.overrides))
    given.status, given.return_value = job.outcome(None if known_in_advance else returned)
    return given
