"""The `mimic` stage: a student learns a teacher's function from the teacher's answers to new inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked, describe, option_of
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import accuracy, agreement, centred, confusion
from rebuttal.seeds import generator, torch_stream
from rebuttal.session import Session
from rebuttal.stages.networks import empty_network, new_network, parameter_count, restore_network
from rebuttal.stages.stage import Metrics, Outcome, Stage, Work
from rebuttal.store import Artifact
from rebuttal.training import Loss, Recipe, predict, time_to_fit, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1  # raised when the same settings come to mean another result


@checked
class Mimic:
    """Train a student, from an initialisation of its own, on `student_size` new inputs that the teacher
    labels; compare the two on held-out inputs that neither was trained on.

    `teacher`: a function, see `rebuttal.functions`. `model`: the student's architecture, null for the
    teacher's. `dataset`: where the student's inputs come from, null for the teacher's own source.
    `target`: `hard`, the teacher's class (cross-entropy); `soft`, its probabilities at `temperature` T
    (cross-entropy at that temperature, times T²; Hinton et al. 2015); `logit`, its logits (mean squared
    error in units of their variance). `initialisation`: `own`, of its own; `teacher`, the weights that the
    teacher's network began with.

    Metrics: those of `rebuttal.measures.agreement`, on the held-out inputs; `train_agreement`, on the
    student's own; the time until that is 100 %; `epochs`, `steps`, `parameters`, `student_size`,
    `test_size`.
    """

    teacher: option_of("function", "function")
    model: option_of("model", "network", arguments=2) | None
    dataset: option_of("dataset", "open") | None
    training: Recipe
    target: Literal["hard", "soft", "logit"]
    temperature: PositiveFloat
    initialisation: Literal["own", "teacher"] = "own"
    seed: NonNegativeInt

    def check(self, session: Session) -> None:
        own, theirs = session.open(self._dataset), session.open(self.teacher.fit.dataset)
        if tuple(own.shape) != tuple(theirs.shape):
            raise ConfigError(
                f"dataset.shape={list(own.shape)}: the student's inputs must have the teacher's shape, "
                f"{list(theirs.shape)}"
            )
        self.teacher.fit.check(session)
        self.teacher.identity(session)
        own.identity("student")
        empty_network(self._model, self.training, theirs)
        if self.initialisation == "teacher" and describe(self._model) != describe(self.teacher.fit.model):
            raise ConfigError(
                "stages.*.initialisation=teacher: the student has another architecture; allowed: own, or model=null"
            )

    def identity(self, session: Session) -> Any:
        return {
            "stage": "mimic",
            "version": VERSION,
            "teacher": self.teacher.identity(session),
            "model": describe(self._model),
            "student": session.open(self._dataset).identity("student"),
            "test": session.open(self.teacher.fit.dataset).identity("test"),
            "training": describe(self.training),
            "target": self.target,
            "temperature": self.temperature if self.target == "soft" else None,
            "initialisation": self.initialisation,
            "seed": self.seed,
        }

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return self.teacher.needs()

    def work(self, session: Session) -> Work:
        theirs = session.open(self.teacher.fit.dataset)
        own = session.open(self._dataset).identity("student")["size"]
        return Work(self._model, self.training, theirs, own, own + theirs.identity("test")["size"])

    def artifact(self, session: Session) -> Artifact:
        return session.store.get_or_make("mimic", self.identity(session), lambda: self._train(session))

    def network(self, session: Session) -> nn.Module:
        """The student in evaluation mode."""
        source = session.open(self.teacher.fit.dataset)
        return restore_network(self._model, self.training, source, self.artifact(session), session)

    def run(self, session: Session) -> Outcome:
        record = self.artifact(session).record
        return Outcome(record["metrics"], record["history"], _words(record["metrics"]))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import student_figures

        record = self.artifact(session).record
        return {
            "curves": student_figures.mimic_curves(record["history"], record["metrics"]),
            "confusion": student_figures.confusion(np.array(record["confusion"])),
            "classes": student_figures.class_shares({self._where(): np.array(record["confusion"])}),
        }

    def _where(self) -> str:
        """What the class histogram is of, and the mode of the teacher's batch-norm where it has a choice."""
        mode = getattr(self.teacher, "batch_norm", None)
        return "held-out inputs" + (f" (batch-norm: {mode})" if mode else "")

    @property
    def _model(self) -> Any:
        return self.teacher.fit.model if self.model is None else self.model

    @property
    def _dataset(self) -> Any:
        return self.teacher.fit.dataset if self.dataset is None else self.dataset

    def _train(self, session: Session) -> Artifact:
        teacher = self.teacher.function(session)
        inputs = session.examples(self._dataset, "student", self.seed).inputs
        held_out = session.examples(self.teacher.fit.dataset, "test", self.seed).inputs
        answers, held_out_answers = predict(teacher, inputs), predict(teacher, held_out)
        classes, held_out_classes = answers.argmax(dim=1), held_out_answers.argmax(dim=1)
        network = self._new_student(session, inputs)

        def evaluate(network: nn.Module) -> dict[str, float]:
            return {
                "train_accuracy": accuracy(predict(network, inputs), classes),
                "agreement": accuracy(predict(network, held_out), held_out_classes),
            }

        targets, loss = self._objective(answers)
        with torch_stream(self.seed, "mimic", "dropout"):
            order = generator(self.seed, "mimic", "order")
            support = session.support("mimic", self.identity(session))
            name = f"mimic ({self.target})"
            history = train(network, inputs, targets, loss, self.training, order, evaluate, name, support)
        final = predict(network, held_out)
        metrics = {
            **agreement(held_out_answers, final),
            "train_agreement": history[-1]["train_accuracy"],
            "epochs": len(history),
            "steps": history[-1]["step"],
            **time_to_fit(history),
            "parameters": parameter_count(network),
            "student_size": len(inputs),
            "test_size": len(held_out),
        }
        record = {"metrics": metrics, "history": history, "confusion": confusion(held_out_answers, final).tolist()}
        return Artifact(record, network.state_dict())

    def _new_student(self, session: Session, inputs: Tensor) -> nn.Module:
        source = session.open(self.teacher.fit.dataset)
        network = new_network(self._model, self.training, source, self.seed, "mimic").to(session.device)
        if self.initialisation == "teacher":
            network.body.load_state_dict(self.teacher.fit.initial_network(session).body.state_dict())
        network.preprocess.fit(inputs)
        return network

    def _objective(self, logits: Tensor) -> tuple[Tensor, Loss]:
        """What the student is shown for these answers of the teacher, and the loss that compares."""
        if self.target == "hard":
            return logits.argmax(dim=1), F.cross_entropy
        if self.target == "soft":
            t = self.temperature
            return (logits / t).softmax(dim=1), lambda ours, theirs: t**2 * F.cross_entropy(ours / t, theirs)
        variance = centred(logits).square().mean().clamp(min=torch.finfo(torch.float32).tiny).item()
        return logits, lambda ours, theirs: F.mse_loss(ours, theirs) / variance


def _words(m: Metrics) -> str:
    says = (
        f"agrees with its teacher on {m['agreement']:.1%} of {m['test_size']} new inputs, where always giving the "
        f"teacher's commonest class scores {m['majority_agreement']:.1%}"
    )
    if m["kappa"] is None:
        return f"{says}; both give one class only, so there is nothing to compare"
    if m["majority_agreement"] > 0.9:
        return (
            f"{says}: the teacher gives hardly more than one class, so there is little to learn (κ = {m['kappa']:.2f})"
        )
    if m["kappa_low"] <= 0 <= m["kappa_high"]:
        return f"{says}; no better than chance: it learnt nothing of the function"
    return f"{says}; it reached {m['kappa']:.0%} of the agreement that chance leaves open"
