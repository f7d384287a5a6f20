"""The launcher of `hydra/launcher=stacked`: what the jobs need is trained as one, then they run one after the other.

It is here because Hydra takes launchers from this namespace only.
"""

# Without `from __future__ import annotations`: dataclass looks texts up in sys.modules, where Hydra has no module yet.
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class Stacked:
    _target_: str = "hydra_plugins.rebuttal_stacked.StackedLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="rebuttal_stacked", node=Stacked(), provider="rebuttal")


class StackedLauncher(BasicLauncher):  # type: ignore[misc,unused-ignore]
    """Trains the networks of all jobs, as far as stacks allow, before the jobs run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        context: Any = hydra_context
        context.config_loader = ComposedOnce(context.config_loader)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from rebuttal.launch.stacked import train_networks_of
        from rebuttal.launch.sweep import Sweep

        context: Any = self.hydra_context
        load = context.config_loader.load_sweep_config
        hydra: Any = self.config and self.config.hydra
        sweep = Sweep(Path(hydra.runtime.cwd, hydra.sweep.dir))
        train_networks_of([partial(load, self.config, list(job)) for job in job_overrides], sweep)
        return super().launch(job_overrides, initial_job_idx)


class ComposedOnce:
    """Composes the config of each job once. The sweeper asks for it to see that it can be composed, `launch` for its
    networks, and again to run it; each time it takes longer than all else that a small job does."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        job = tuple(sweep_overrides)
        if job not in self._composed:
            self._composed[job] = self._loader.load_sweep_config(master_config, sweep_overrides)
        return copy.deepcopy(self._composed[job])
