"""The `mimic` stage: a student learns a teacher's function from the teacher's outputs on new inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.data.dataset import Dataset, DatasetOption
from rebuttal.data.examples import Examples, in_unit_range
from rebuttal.errors import ConfigError, TrainingError
from rebuttal.measures.agreement import AGREEMENT, agreement, centred, confusion, label_recall
from rebuttal.models.model import Model, ModelOption
from rebuttal.models.preprocess import CropAndNormalise, PreprocessOption
from rebuttal.rounding import fixed, percent
from rebuttal.seeds import derive, generator, torch_stream
from rebuttal.stages.function import FunctionOption, Logits, check_function, checked_logits, opened
from rebuttal.stages.networks import (
    Network,
    body_shapes,
    empty_network,
    new_network,
    parameter_count,
    restore_network,
)
from rebuttal.stages.questions import permutation, with_boundary
from rebuttal.stages.regions import phase
from rebuttal.stages.seeds import StudentSeeds
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Read, Stage, Work, arithmetic_in_words
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import describe
from rebuttal.training.evaluation import (
    HELD_BACK,
    Evaluation,
    HeldBack,
    accuracy,
    evaluated_epochs,
    predict,
    time_to_fit,
)
from rebuttal.training.losses import LogitError, SoftCrossEntropy
from rebuttal.training.member import Member
from rebuttal.training.recipe import Recipe
from rebuttal.training.step import Loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = (
    *AGREEMENT,
    *("train_agreement", "epochs", "steps", "epochs_to_fit", "steps_to_fit", "parameters", "student_size", "test_size"),
    *("r", "unseen_memorised_agreement", "unseen_memorised_agreement_low", "unseen_memorised_agreement_high"),
)
# Metrics of a student that holds inputs back.
OF_HELD_BACK = ("held_back_agreement", "held_back_loss", "chosen_steps", "converged")
NO_GAIN = 0.01  # of a loss: what is lowered by less has converged
VERSION = 2  # raised when the same settings give another result


@checked
class Mimic:
    """Train a student on `student_size` inputs labelled by the teacher, and compare the two on held-out inputs that
    neither was trained on.

    `teacher`: a function, see `rebuttal.functions`, but no student. `model`: the student's architecture, None for the
    teacher's. `dataset`: the source of the student's new inputs, None for the teacher's. `boundary`: the share of these
    that it replaces by inputs near the teacher's decision boundary, see `with_boundary`. `share`: instead of new inputs
    the student sees this share of the teacher's own training inputs (Behrens and Zdeborová 2025). `target`: `hard`, the
    teacher's class (by the recipe's loss); `soft`, its probabilities at `temperature` T (cross-entropy at that
    temperature, times T²; Hinton et al. 2015); `logit`, its logits (mean squared error in units of their variance).
    `initialisation`: `own` for independent initial weights, `teacher` for the initial weights of the teacher's network.
    `shuffled`: the teacher's answers are dealt out anew among the inputs: a control that can only memorise.
    `held_back`: share of its inputs that the student does not train on, and by whose loss its best weights are chosen,
    see `HeldBack`. `seed`: of initial weights and order, or of what `seeds` does not set; the inputs are drawn by the
    teacher's data seed, so that they are new.

    Metrics: those of `rebuttal.measures.agreement`, on the held-out inputs; `train_agreement`, on the student's
    training inputs; the time until that is 100 %; `epochs`, `steps`, `parameters`, `student_size`, `test_size`; `r`,
    the K − 1 numbers of a soft answer, times `student_size`, for each parameter of the teacher, None if it has
    none; `unseen_memorised_agreement`, with its Wilson interval: how often the student gives the label that the teacher
    memorised, at the teacher's training inputs that it has not seen, None without any or if the teacher was not
    fitted. With `held_back` also `held_back_agreement` and `held_back_loss` of the best weights; `chosen_steps`, after
    how many steps they were best; and `converged`, 1 if the last quarter of the steps lowered that loss by less than
    1 %.
    """

    teacher: FunctionOption
    model: ModelOption | None
    dataset: DatasetOption | None
    preprocess: PreprocessOption = CropAndNormalise()
    training: Recipe
    target: Literal["hard", "soft", "logit"]
    temperature: PositiveFloat
    initialisation: Literal["own", "teacher"] = "own"
    boundary: Annotated[float, Field(ge=0, lt=1)] = 0.0
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    shuffled: bool = False
    held_back: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: NonNegativeInt
    seeds: StudentSeeds = StudentSeeds()

    def check(self, session: Session) -> None:
        own, teachers = session.open(self._dataset), session.open(self.teacher.fit.dataset)
        if tuple(own.shape) != tuple(teachers.shape):
            raise ConfigError(
                f"dataset.shape={list(own.shape)}: the student's inputs must have the shape of its teacher's; "
                f"allowed: {list(teachers.shape)}"
            )
        if not getattr(self.teacher, "teaches", True):
            raise ConfigError(
                f"stages.*.teacher={type(self.teacher).__name__}: it has seen the inputs that its student would get, "
                "in the same order and from the same initial weights; allowed: functions other than students"
            )
        check_function(self.teacher, session)
        self.teacher.identity(session)
        self._check_new(session)
        self._check_size(session)
        empty_network(self._model, self.preprocess, teachers)
        if self.initialisation == "teacher" and not self._is_like_its_teacher(session):
            raise ConfigError(
                "stages.*.initialisation=teacher: the student has another architecture, or crop; allowed: own, or "
                "those of its teacher"
            )

    def _is_like_its_teacher(self, session: Session) -> bool:
        fit, source = self.teacher.fit, session.open(self.teacher.fit.dataset)
        own = body_shapes(self._model, self.preprocess, source)
        return describe(self._model) == describe(fit.model) and own == body_shapes(fit.model, fit.preprocess, source)

    def identity(self, session: Session) -> dict[str, Any]:
        return {
            "stage": "mimic",
            "version": VERSION,
            "teacher": self.teacher.identity(session),
            "model": describe(self._model),
            "student": self._inputs_identity(session),
            "test": session.open(self.teacher.fit.dataset).identity("test"),
            "training": self.training.identity(self.preprocess),
            "target": self.target,
            "temperature": self.temperature if self.target == "soft" else None,
            "initialisation": self.initialisation,
            **({"initial": self.teacher.fit.initial_identity(session)} if self.initialisation == "teacher" else {}),
            "seed": self.seed,
            **({"boundary": self.boundary} if self.boundary else {}),
            **({"shuffled": True} if self.shuffled else {}),
            **({"held_back": self.held_back} if self.held_back else {}),
            **({} if self._data_seed == self.seed else {"data_seed": self._data_seed}),
            **self.seeds.identity("initialisation", "order"),
        }

    def needs(self, session: Session) -> Sequence[Stage]:
        return self.teacher.needs(session)

    def work(self, session: Session) -> Work:
        source = session.open(self.teacher.fit.dataset)
        held_out = self.teacher.fit.dataset
        own: Read = (held_out, "train", self._data_seed)
        if self.share is None:
            own = (self._dataset, "student", self._data_seed)
        reads: tuple[Read, ...] = (own, (held_out, "test", self._data_seed))
        evaluated = self.size(session) + source.identity("test")["size"]
        evaluations = evaluated_epochs(self.training.epochs, session.settings.evaluate)
        trained = self.trained_on(session)
        return Work(self._model, self.preprocess, self.training, source, trained, evaluated, evaluations, reads)

    def metric_names(self, session: Session) -> tuple[str, ...]:
        return METRICS + (OF_HELD_BACK if self.held_back else ())

    def size(self, session: Session) -> int:
        """Return how many inputs the student sees, those that it holds back among them."""
        if self.share is None:
            size: int = session.open(self._dataset).identity("student")["size"]
            return size
        of_teacher: int = session.open(self.teacher.fit.dataset).identity("train")["size"]
        return max(1, round(self.share * of_teacher))

    def trained_on(self, session: Session) -> int:
        """Return how many of its inputs the student trains on."""
        size = self.size(session)
        return size - self._held_back(size)

    def artifact(self, session: Session) -> Artifact:
        """Return the trained student and its record from the store; train it if it is not there."""
        return session.store.get_or_make("mimic", self.identity(session), lambda: self._train(session))

    def network(self, session: Session) -> Network:
        """Return the student in evaluation mode."""
        source = session.open(self.teacher.fit.dataset)
        return restore_network(self._model, self.preprocess, source, self.artifact(session), session)

    def run(self, session: Session) -> Outcome:
        record = self.artifact(session).record
        metrics = record["metrics"]
        if "r" not in metrics:  # of a student that an earlier version trained
            teacher = opened(self.teacher, session)
            metrics = metrics | self._of_teacher(session, self.network(session), _parameters(teacher))
        words = (
            _words(metrics, self.shuffled) + self._phase_in_words(session, metrics) + arithmetic_in_words(self.training)
        )
        return Outcome(metrics, record["history"], words)

    def _phase_in_words(self, session: Session, metrics: Metrics) -> str:
        if self.share is None or self.shuffled or not self.teacher.fitted:
            return ""
        fitted = self.teacher.fit.run(session).metrics
        found = phase(metrics, fitted["train_accuracy"], fitted["chance_accuracy"])
        return "" if found is None else f"; phase: {found}"

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

    def _dictated(self, teacher: Logits, inputs: Tensor, session: Session) -> Tensor:
        """Return the teacher's logits (n, K) of inputs (n, *shape)."""
        return checked_logits(predict(teacher, inputs), self.teacher, len(inputs), session, "stages.*.teacher")

    def member(self, session: Session) -> Member:
        """Return the training, prepared."""
        teacher = opened(self.teacher, session)
        inputs = self._inputs(teacher, session)
        held_out = session.examples(self.teacher.fit.dataset, "test", self._data_seed).inputs
        logits, held_out_logits = (self._dictated(teacher, x, session) for x in (inputs, held_out))
        if self.shuffled:
            logits = logits[permutation("shuffled", self.seed, len(logits))]
        targets, loss = self._objective(logits)
        classes, mine, others = logits.argmax(dim=1), *self._divided(len(inputs))
        held_back = HeldBack(inputs[others], targets[others], loss) if self.held_back else None
        if held_back is not None and self.target != "hard":  # nothing is nearer to the teacher than its own logits
            held_back.targets, _ = self._objective(logits[others].double())
            held_back.floor = loss(logits[others].double(), held_back.targets).item()
        measured = {"agreement": (held_out, held_out_logits.argmax(dim=1))}
        evaluation = Evaluation(inputs[mine], classes[mine], measured, session.settings.evaluate, held_back)
        seed = self.seeds.of("order", self.seed)
        order, augmentation = generator(seed, "mimic", "order"), derive(seed, "mimic", "augmentation")
        name, support = f"mimic ({self.target})", session.support("mimic", self.identity(session))
        return Member(
            network=self._new_student(session, inputs[mine]),
            inputs=evaluation.inputs,
            targets=targets[mine],
            loss=loss,
            recipe=self.training,
            order=order,
            evaluation=evaluation,
            name=name,
            support=support,
            augmentation_seed=augmentation,
            kept={
                "held_out_logits": held_out_logits,
                "held_back_classes": classes[others],
                "teacher_parameters": torch.tensor(_parameters(teacher)),
            },
        )

    def trained(self, member: Member, session: Session) -> Artifact:
        """Return the student and its record, once `member` was carried out."""
        history = member.history
        held_out = session.examples(self.teacher.fit.dataset, "test", self._data_seed).inputs
        held_out_logits = member.kept["held_out_logits"]
        chosen = _choose(member) if self.held_back else {}
        final = None if self.held_back else member.last_logits("agreement")
        final = predict(member.network, held_out) if final is None else final
        metrics = {
            **agreement(held_out_logits, final),
            "train_agreement": history[-1]["train_accuracy"],
            "epochs": len(history),
            "steps": history[-1]["step"],
            **time_to_fit(history),
            "parameters": parameter_count(member.network),
            "student_size": self.size(session),
            "test_size": len(held_out),
            **self._of_teacher(session, member.network, int(member.kept["teacher_parameters"])),
            **chosen,
        }
        record = {"metrics": metrics, "history": history, "confusion": confusion(held_out_logits, final).tolist()}
        return Artifact(record, member.network.state_dict())

    def _of_teacher(self, session: Session, network: nn.Module, parameters: int) -> Metrics:
        """Return how much was asked of the teacher, which has so many parameters, and how many of its memorised labels
        the student gives unseen."""
        answers = self.size(session) * (session.open(self.teacher.fit.dataset).classes - 1)
        unseen, name = self._unseen(session), "unseen_memorised_agreement"
        metrics: Metrics = {"r": answers / parameters if parameters else None}
        if unseen is None or not len(unseen):
            return metrics | {name: None, f"{name}_low": None, f"{name}_high": None}
        recall = label_recall(predict(network, unseen.inputs), unseen.labels)
        return metrics | {f"{name}{end}": recall[f"accuracy{end}"] for end in ("", "_low", "_high")}

    def _unseen(self, session: Session) -> Examples | None:
        """The teacher's training examples that the student has not seen; None if the teacher was not fitted to any."""
        if not self.teacher.fitted:
            return None
        examples = self.teacher.fit.training_examples(session)
        if self.share is None:
            return examples if self._is_of_one_source(session) else self._without_seen(examples, session)
        rows = self._order(len(examples))[self.size(session) :]
        return Examples(examples.inputs[rows], examples.labels[rows])

    def _without_seen(self, examples: Examples, session: Session) -> Examples:
        """Leave out what is among the inputs of the student's own dataset, which may be made of its teacher's."""
        inputs = session.examples(self._dataset, "student", self._data_seed).inputs
        seen = set(_row_digests(inputs))
        rows = [i for i, digest in enumerate(_row_digests(examples.inputs)) if digest not in seen]
        return Examples(examples.inputs[rows], examples.labels[rows])

    def _inputs(self, teacher: Logits, session: Session) -> Tensor:
        """The inputs that the student sees, those that it holds back among them."""
        if self.share is None:
            inputs = session.examples(self._dataset, "student", self._data_seed).inputs
            rng = generator(self._data_seed, "mimic", "boundary")
            return with_boundary(teacher, inputs, self.boundary, rng) if self.boundary else inputs
        inputs = session.examples(self.teacher.fit.dataset, "train", self._data_seed).inputs
        return inputs[self._order(len(inputs))[: self.size(session)]]

    def _order(self, size: int) -> Tensor:
        """In which order the teacher's `size` training inputs are shown: a larger share contains a smaller one."""
        return permutation("share", self._data_seed, size)

    def _inputs_identity(self, session: Session) -> Any:
        if self.share is None:
            return session.open(self._dataset).identity("student")
        return {"share": self.share, "train": session.open(self.teacher.fit.dataset).identity("train")}

    def _check_new(self, session: Session) -> None:
        """Raise `ConfigError` if the student's inputs are of the same images as its teacher's and not all left over by
        them."""
        if self.share is not None or not self._is_of_one_source(session):
            return
        own = session.open(self._dataset).identity("student")
        theirs = session.open(self.teacher.fit.dataset).identity("train")
        start = own.get("start")
        if isinstance(start, int) and start < theirs["size"]:
            raise ConfigError(
                f"stages.*.dataset.train_size={start}: the student's inputs are those that this leaves, and its "
                f"teacher was trained on {theirs['size']}; allowed: at least {theirs['size']}"
            )

    def _is_of_one_source(self, session: Session) -> bool:
        """Whether the student's new inputs and its teacher's are parts of one dataset, and so have none in common."""
        if self.dataset is None:
            return True
        own = session.open(self._dataset).identity("student")
        theirs = session.open(self.teacher.fit.dataset).identity("train")
        of_both = [{k: v for k, v in one.items() if k not in ("split", "start", "size")} for one in (own, theirs)]
        return of_both[0] == of_both[1]

    def _held_back(self, size: int) -> int:
        """How many of `size` inputs are held back."""
        return max(1, round(self.held_back * size)) if self.held_back else 0

    def _divided(self, size: int) -> tuple[Tensor | slice, Tensor | slice]:
        """Which of `size` inputs the student trains on, and which it holds back."""
        if not self.held_back:
            return slice(None), slice(0)
        new = size - round(self.boundary * size)  # the others lie near each other: one would know much of the next
        order, count = permutation("held back", self.seed, new), self._held_back(size)
        return torch.cat([order[count:], torch.arange(new, size)]), order[:count]

    def _check_size(self, session: Session) -> None:
        if self.share is not None and self.dataset is not None:
            raise ConfigError(
                f"stages.*.share={self.share}: the student sees its teacher's training inputs; allowed: dataset=null"
            )
        if self.share is not None and self.boundary:
            raise ConfigError(f"stages.*.boundary={self.boundary}: with stages.*.share allowed: 0")
        if self.share is None:
            session.open(self._dataset).identity("student")
        size = self.size(session)
        if self._held_back(size) >= size:
            raise ConfigError(
                f"stages.*.held_back={self.held_back}: of {size} inputs none is left to train on; allowed: less, or 0"
            )
        new = size - round(self.boundary * size)
        if self._held_back(size) > new:
            raise ConfigError(
                f"stages.*.held_back={self.held_back}: of {size} inputs, {new} are not made by stages.*.boundary="
                f"{self.boundary}, and only these are held back; allowed: less, or 0"
            )

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
            return (logits / self.temperature).softmax(dim=1), SoftCrossEntropy(temperature=self.temperature)
        variance = centred(logits).square().mean().clamp(min=torch.finfo(torch.float32).tiny).item()
        return logits, LogitError(variance=variance)


def _parameters(teacher: Logits) -> int:
    """How many parameters a teacher has, trained or found by solving equations; 0 if it has none."""
    solved: int = getattr(teacher, "solution", {}).get("weights", 0)
    return solved or (parameter_count(teacher) if isinstance(teacher, nn.Module) else 0)


def _row_digests(inputs: Tensor) -> Iterator[bytes]:
    """Yield a digest of each input (n, *shape) in input space."""
    return (sha256(row.tobytes()).digest() for row in in_unit_range(inputs).cpu().numpy())


def _choose(member: Member) -> Metrics:
    """Give the network its best weights; return the metrics that these change, and those of the choice."""
    network, evaluation = member.network, member.evaluation
    assert evaluation is not None and evaluation.held_back is not None
    if not evaluation.held_back.best:
        raise TrainingError(f"{member.name}: the loss on what it held back was never finite")
    network.load_state_dict(evaluation.held_back.best)
    rows = [row for row in member.history if HELD_BACK in row]
    best = min(rows, key=lambda row: row[HELD_BACK])
    others = predict(network, evaluation.held_back.inputs)
    return {
        "train_agreement": accuracy(predict(network, member.inputs), evaluation.classes),
        "held_back_agreement": accuracy(others, member.kept["held_back_classes"]),
        "held_back_loss": best[HELD_BACK],
        "chosen_steps": best["step"],
        "converged": float(_converged(rows)),
    }


def _converged(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last quarter of the steps lowered the loss on what is held back by less than `NO_GAIN`."""
    before = [row[HELD_BACK] for row in rows if row["step"] <= 0.75 * rows[-1]["step"]]
    return bool(before) and min(before) <= (1 + NO_GAIN) * min(row[HELD_BACK] for row in rows)


def _words(m: Metrics, shuffled: bool) -> str:
    own = f"with {percent(m['train_agreement'], 1)} of the {m['student_size']} answers that it was dealt"
    if not shuffled:
        own = f"on {percent(m['train_agreement'], 1)} of its own {m['student_size']}"
    agreement = percent(m["agreement"], 1)
    words = (
        f"agrees with its teacher on {agreement} of {m['test_size']} new inputs and {own}{_asked(m['r'])}; "
        f"the teacher's most common class alone scores {percent(m['majority_agreement'], 1)}"
    )
    if m["unseen_memorised_agreement"] is not None:
        recalled = percent(m["unseen_memorised_agreement"], 1)
        words += f"; it gives {recalled} of the labels that its teacher memorised, unseen"
    if m["kappa"] is None:
        return f"{words}; both give a single class, so that κ is undefined"
    kappa = f"κ = {fixed(m['kappa'], 2)}"
    if m["majority_agreement"] > 0.9:
        return f"{words}; {kappa}, but the teacher gives little more than one class, so that there is little to learn"
    if m["kappa_low"] <= 0 <= m["kappa_high"]:
        return f"{words}; {kappa}, no better than chance: it learnt nothing of the function"
    return f"{words}; {kappa}: it reaches {percent(m['kappa'])} of the possible agreement beyond chance"


def _asked(r: float | None) -> str:
    return "" if r is None else f" (r = {r:.2g} answers a parameter)"
