"""Networks as functions: trained, untrained, independent, refitted, and a student's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.seeds import derive
from rebuttal.stages.best_student import BestStudent
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.seeds import Seeds
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage
from rebuttal.training.evaluation import EVALUATION_BATCH


@checked
class Trained:
    """The network that `fit` trained, in evaluation mode.

    `batch_norm`: `evaluation`, with the running statistics of its training; `new_inputs`, with statistics recomputed
    over all student inputs of its dataset, as if the network had been run in training mode on them.
    """

    fit: Fit
    batch_norm: Literal["evaluation", "new_inputs"] = "evaluation"
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = True

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (self.fit,)

    def function(self, session: Session) -> Logits:
        network = self.fit.network(session)
        if self.batch_norm == "evaluation":
            return network
        return with_statistics_of(network, session.examples(self.fit.dataset, "student", self.fit.data_seed).inputs)

    def identity(self, session: Session) -> Any:
        if self.batch_norm == "evaluation":
            return {"function": "trained", "fit": self.fit.identity(session)}
        inputs = session.open(self.fit.dataset).identity("student")
        return {"function": "trained", "fit": self.fit.identity(session), "batch_norm": inputs}


@torch.no_grad()
def with_statistics_of(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a copy of `network`, in evaluation mode, whose batch-norms have the statistics of `inputs`, averaged over
    batches, as running statistics."""
    network = copy.deepcopy(network).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    for batch in inputs.tensor_split(-(-len(inputs) // EVALUATION_BATCH)):
        network(batch)
    return network.eval()


def independent(fit: Fit) -> Trained:
    """The network of the same recipe from a derived seed: other labels, initial weights and order, and other inputs if
    they are generated. From a finite dataset it takes the teacher's, which are new to the student too.

    Agreement with it is the agreement of unrelated networks."""
    data = None if getattr(fit.dataset, "generated", False) else fit.data_seed
    return Trained(fit=replace(fit, seed=derive(fit.seed, "independent"), seeds=Seeds(data=data)))


def refitted(fit: Fit) -> Trained:
    """A network trained on the same data and labels in the same order from another initialisation.

    Its agreement with the network of `fit` is due to the data alone."""
    return Trained(fit=replace(fit, initialisation=fit.initialisation + 1))


def relabelled(fit: Fit) -> Trained:
    """The network of the same recipe, on the same inputs with other labels: what else it might have memorised."""
    return Trained(fit=replace(fit, relabelling=fit.relabelling + 1))


@checked
class Student:
    """The student of a `mimic` or `best_student` stage. It teaches no other: see `Mimic`."""

    mimic: Mimic | BestStudent
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False
    teaches: ClassVar[bool] = False

    @property
    def fit(self) -> Fit:
        return self.mimic.teacher.fit

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (self.mimic,)

    def function(self, session: Session) -> Logits:
        return self.mimic.network(session)

    def identity(self, session: Session) -> Any:
        return {"function": "student", "mimic": self.mimic.identity(session)}


@checked
class Untrained:
    """The network of `fit` before its first step: the same architecture and initial weights."""

    fit: Fit
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        return self.fit.initial_network(session).eval()

    def identity(self, session: Session) -> Any:
        return {"function": "untrained", "fit": self.fit.initial_identity(session)}
