"""The `mimic` stage: a student learns a teacher's function from the teacher's outputs on new inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.dataset import Dataset, DatasetOption
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import AGREEMENT, agreement, centred, confusion
from rebuttal.models.model import Model, ModelOption
from rebuttal.models.preprocess import CropAndNormalise, PreprocessOption
from rebuttal.seeds import derive, generator, torch_stream
from rebuttal.stages.function import FunctionOption
from rebuttal.stages.networks import Network, empty_network, new_network, parameter_count, restore_network
from rebuttal.stages.seeds import StudentSeeds
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Read, Stage, Work, precision_in_words
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import describe
from rebuttal.training.evaluation import Evaluation, evaluated_epochs, predict, time_to_fit
from rebuttal.training.member import Member
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import Loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = (
    *AGREEMENT,
    *("train_agreement", "epochs", "steps", "epochs_to_fit", "steps_to_fit", "parameters", "student_size", "test_size"),
)
VERSION = 1  # raised when the same settings give another result


@checked
class Mimic:
    """Train a student on `student_size` new inputs labelled by the teacher, and compare the two on held-out inputs that
    neither was trained on.

    `teacher`: a function, see `rebuttal.functions`. `model`: the student's architecture, None for the teacher's.
    `dataset`: the source of the student's inputs, None for the teacher's. `target`: `hard`, the teacher's class (by the
    recipe's loss); `soft`, its probabilities at `temperature` T (cross-entropy at that temperature, times T²; Hinton et
    al. 2015); `logit`, its logits (mean squared error in units of their variance). `initialisation`: `own` for
    independent initial weights, `teacher` for the initial weights of the teacher's network. `seed`: of initial weights
    and order, or of what `seeds` does not set; the inputs are drawn by the teacher's data seed, so that they are new.

    Metrics: those of `rebuttal.measures.agreement`, on the held-out inputs; `train_agreement`, on the student's
    training inputs; the time until that is 100 %; `epochs`, `steps`, `parameters`, `student_size`, `test_size`.
    """

    teacher: FunctionOption
    model: ModelOption | None
    dataset: DatasetOption | None
    preprocess: PreprocessOption = CropAndNormalise()
    training: Recipe
    target: Literal["hard", "soft", "logit"]
    temperature: PositiveFloat
    initialisation: Literal["own", "teacher"] = "own"
    seed: NonNegativeInt
    seeds: StudentSeeds = StudentSeeds()

    def check(self, session: Session) -> None:
        own, teachers = session.open(self._dataset), session.open(self.teacher.fit.dataset)
        if tuple(own.shape) != tuple(teachers.shape):
            raise ConfigError(
                f"dataset.shape={list(own.shape)}: the student's inputs must have the shape of its teacher's; "
                f"allowed: {list(teachers.shape)}"
            )
        self.teacher.fit.check(session)
        self.teacher.identity(session)
        own.identity("student")
        empty_network(self._model, self.preprocess, teachers)
        if self.initialisation == "teacher" and describe(self._model) != describe(self.teacher.fit.model):
            raise ConfigError(
                "stages.*.initialisation=teacher: the student has another architecture; allowed: own, or model=null"
            )

    def identity(self, session: Session) -> dict[str, Any]:
        return {
            "stage": "mimic",
            "version": VERSION,
            "teacher": self.teacher.identity(session),
            "model": describe(self._model),
            "student": session.open(self._dataset).identity("student"),
            "test": session.open(self.teacher.fit.dataset).identity("test"),
            "training": self.training.identity(self.preprocess),
            "target": self.target,
            "temperature": self.temperature if self.target == "soft" else None,
            "initialisation": self.initialisation,
            "seed": self.seed,
            **({} if self._data_seed == self.seed else {"data_seed": self._data_seed}),
            **self.seeds.identity("initialisation", "order"),
        }

    def needs(self, session: Session) -> Sequence[Stage]:
        return self.teacher.needs(session)

    def work(self, session: Session) -> Work:
        source = session.open(self.teacher.fit.dataset)
        size = session.open(self._dataset).identity("student")["size"]
        held_out = self.teacher.fit.dataset
        reads: tuple[Read, ...] = ((self._dataset, "student", self._data_seed), (held_out, "test", self._data_seed))
        evaluated = size + source.identity("test")["size"]
        evaluations = evaluated_epochs(self.training.epochs, session.settings.evaluate)
        return Work(self._model, self.preprocess, self.training, source, size, evaluated, evaluations, reads)

    def metric_names(self, session: Session) -> tuple[str, ...]:
        return METRICS

    def artifact(self, session: Session) -> Artifact:
        """Return the trained student and its record from the store; train it if it is not there."""
        return session.store.get_or_make("mimic", self.identity(session), lambda: self._train(session))

    def network(self, session: Session) -> Network:
        """Return the student in evaluation mode."""
        source = session.open(self.teacher.fit.dataset)
        return restore_network(self._model, self.preprocess, source, self.artifact(session), session)

    def run(self, session: Session) -> Outcome:
        record = self.artifact(session).record
        words = _words(record["metrics"]) + precision_in_words(self.training)
        return Outcome(record["metrics"], record["history"], words)

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import students

        record = self.artifact(session).record
        return {
            "curves": students.mimic_curves(record["history"], record["metrics"]),
            "confusion": students.confusion(np.array(record["confusion"])),
            "classes": students.class_shares({self._inputs_in_words(): np.array(record["confusion"])}),
        }

    def _inputs_in_words(self) -> str:
        """Name the inputs of the class histogram, and the mode of the teacher's batch-norm if it has one."""
        mode = getattr(self.teacher, "batch_norm", None)
        return "held-out inputs" + (f" (batch-norm: {mode})" if mode else "")

    @property
    def _data_seed(self) -> int:
        """The teacher's: only so are the student's inputs and the held-out ones new to the teacher."""
        return self.teacher.fit.data_seed

    @property
    def _model(self) -> Model:
        return self.teacher.fit.model if self.model is None else self.model

    @property
    def _dataset(self) -> Dataset:
        return self.teacher.fit.dataset if self.dataset is None else self.dataset

    def member(self, session: Session) -> Member:
        """Return the training, prepared."""
        teacher = self.teacher.function(session)
        inputs = session.examples(self._dataset, "student", self._data_seed).inputs
        held_out = session.examples(self.teacher.fit.dataset, "test", self._data_seed).inputs
        logits, held_out_logits = predict(teacher, inputs), predict(teacher, held_out)
        network = self._new_student(session, inputs)
        measured = {"agreement": (held_out, held_out_logits.argmax(dim=1))}
        evaluation = Evaluation(inputs, logits.argmax(dim=1), measured, session.settings.evaluate)
        targets, loss = self._objective(logits)
        seed = self.seeds.of("order", self.seed)
        order, augmentation = generator(seed, "mimic", "order"), derive(seed, "mimic", "augmentation")
        name, support = f"mimic ({self.target})", session.support("mimic", self.identity(session))
        of_teacher = {"held_out_logits": held_out_logits}
        return Member(
            network, inputs, targets, loss, self.training, order, evaluation, name, support, augmentation, of_teacher
        )

    def trained(self, member: Member, session: Session) -> Artifact:
        """Return the student and its record, once `member` was carried out."""
        history = member.history
        held_out = session.examples(self.teacher.fit.dataset, "test", self._data_seed).inputs
        held_out_logits = member.kept["held_out_logits"]
        final = member.last_logits("agreement")
        final = predict(member.network, held_out) if final is None else final
        metrics = {
            **agreement(held_out_logits, final),
            "train_agreement": history[-1]["train_accuracy"],
            "epochs": len(history),
            "steps": history[-1]["step"],
            **time_to_fit(history),
            "parameters": parameter_count(member.network),
            "student_size": len(member.inputs),
            "test_size": len(held_out),
        }
        record = {"metrics": metrics, "history": history, "confusion": confusion(held_out_logits, final).tolist()}
        return Artifact(record, member.network.state_dict())

    def _train(self, session: Session) -> Artifact:
        member = self.member(session)
        with torch_stream(self.seeds.of("order", self.seed), "mimic", "dropout"):
            member.train_alone()
        return self.trained(member, session)

    def _new_student(self, session: Session, inputs: Tensor) -> Network:
        source = session.open(self.teacher.fit.dataset)
        seed = self.seeds.of("initialisation", self.seed)
        network = new_network(self._model, self.preprocess, source, seed, "mimic").to(session.device)
        network.fit(inputs)
        if self.initialisation == "teacher":
            network.body.load_state_dict(self.teacher.fit.initial_network(session).body.state_dict())
        return network

    def _objective(self, logits: Tensor) -> tuple[Tensor, Loss]:
        """Return the student's targets for the teacher's logits (n, K), and the loss of the student's logits against
        them."""
        if self.target == "hard":
            return logits.argmax(dim=1), self.training.loss
        if self.target == "soft":
            t = self.temperature
            return (logits / t).softmax(dim=1), lambda logits, targets: t**2 * F.cross_entropy(logits / t, targets)
        variance = centred(logits).square().mean().clamp(min=torch.finfo(torch.float32).tiny).item()
        return logits, lambda logits, targets: F.mse_loss(logits, targets) / variance


def _words(m: Metrics) -> str:
    words = (
        f"agrees with its teacher on {m['agreement']:.1%} of {m['test_size']} new inputs; the teacher's most common "
        f"class alone scores {m['majority_agreement']:.1%}"
    )
    if m["kappa"] is None:
        return f"{words}; both give a single class, so that κ is undefined"
    kappa = f"κ = {m['kappa']:.2f}"
    if m["majority_agreement"] > 0.9:
        return f"{words}; {kappa}, but the teacher gives little more than one class, so that there is little to learn"
    if m["kappa_low"] <= 0 <= m["kappa_high"]:
        return f"{words}; {kappa}, no better than chance: it learnt nothing of the function"
    return f"{words}; {kappa}: it reaches {m['kappa']:.0%} of the possible agreement beyond chance"
