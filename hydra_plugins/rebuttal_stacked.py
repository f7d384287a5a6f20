"""The launcher of `hydra/launcher=stacked`: what the jobs need is trained as one, then they run one after the other.

It is here because Hydra takes launchers from this namespace only.
"""

# Without `from __future__ import annotations`: dataclass looks texts up in sys.modules, where Hydra has no module yet.
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn


@dataclass
class Stacked:
    _target_: str = "hydra_plugins.rebuttal_stacked.StackedLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="rebuttal_stacked", node=Stacked(), provider="rebuttal")


class StackedLauncher(BasicLauncher):  # type: ignore[misc,unused-ignore]
    """Trains the networks of all jobs, as far as stacks allow, before the jobs run."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from rebuttal.launch.stacked import train_networks_of

        context: Any = self.hydra_context
        load = context.config_loader.load_sweep_config
        train_networks_of([partial(load, self.config, list(job)) for job in job_overrides])
        return super().launch(job_overrides, initial_job_idx)
