"""The `fit` stage: train a network on a dataset, with true or corrupted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt

from rebuttal.config import checked
from rebuttal.data.dataset import CorruptionOption, DatasetOption
from rebuttal.data.examples import Examples
from rebuttal.data.labels import corrupted, true_labels
from rebuttal.errors import ConfigError
from rebuttal.measures.agreement import wilson
from rebuttal.models.model import ModelOption
from rebuttal.models.preprocess import CropAndNormalise, PreprocessOption
from rebuttal.rounding import percent
from rebuttal.seeds import derive, generator, torch_stream
from rebuttal.stages.networks import Network, empty_network, new_network, parameter_count, restore_network
from rebuttal.stages.seeds import Seeds
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Read, Stage, Work, arithmetic_in_words
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import describe
from rebuttal.training.evaluation import Evaluation, evaluated_epochs, time_to_fit
from rebuttal.training.member import Member
from rebuttal.training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = (
    *("train_accuracy", "train_accuracy_low", "train_accuracy_high"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "generalization_gap", "train_loss", "label_noise"),
    *("epochs", "steps", "epochs_to_fit", "steps_to_fit", "parameters", "train_size", "test_size"),
    *("classes", "chance_accuracy"),
)
VERSION = 1  # raised when the same settings give another result


@checked
class Fit:
    """Train `model` on `dataset` with labels corrupted by `corruption`, and test it on true labels.

    Metrics: `train_accuracy` on the (corrupted) training labels and `test_accuracy` on true labels, with Wilson 95 %
    intervals; `generalization_gap`, their difference; `train_loss`, the mean of the last epoch; the time to fit, see
    `time_to_fit`; `epochs`, `steps`, `parameters`, `train_size`, `test_size`; `label_noise`, the share of training
    labels that differ from the true ones; `classes`, K, and `chance_accuracy`, 1/K.

    `seed`: of everything drawn at random, or of what `seeds` does not set.

    `initialisation`: 0 for the initial weights of the seed; 1, 2, … for other initial weights with the same data,
    labels and order. `relabelling`: 1, 2, … for other corrupted labels of the same inputs.
    """

    model: ModelOption
    dataset: DatasetOption
    corruption: CorruptionOption
    preprocess: PreprocessOption = CropAndNormalise()
    training: Recipe
    initialisation: NonNegativeInt = 0
    relabelling: NonNegativeInt = 0
    seed: NonNegativeInt
    seeds: Seeds = Seeds()

    def check(self, session: Session) -> None:
        source = session.open(self.dataset)
        for split in ("train", "test"):
            source.identity(split)
        if self.relabelling and self.corruption == true_labels():
            raise ConfigError(
                f"stages.*.relabelling={self.relabelling}: its labels are drawn anew; allowed: 0, or a corruption "
                "other than none"
            )
        empty_network(self.model, self.preprocess, source)

    def identity(self, session: Session) -> dict[str, Any]:
        source = session.open(self.dataset)
        return {
            "stage": "fit",
            "version": VERSION,
            "model": describe(self.model),
            "train": source.identity("train"),
            "test": source.identity("test"),
            "corruption": describe(self.corruption),
            "training": self.training.identity(self.preprocess),
            "initialisation": self.initialisation,
            "seed": self.seed,
            **self._relabelling,
            **self.seeds.identity("data", "labels", "initialisation", "order"),
        }

    def initial_identity(self, session: Session) -> dict[str, Any]:
        """Return everything that decides the network before training."""
        source = session.open(self.dataset)
        return {
            "version": VERSION,
            "model": describe(self.model),
            "train": source.identity("train"),
            "preprocess": _preprocess_identity(self.preprocess),
            "initialisation": self.initialisation,
            "seed": self.seed,
            **self.seeds.identity("data", "initialisation"),
        }

    def data_identity(self, session: Session) -> dict[str, Any]:
        """Return everything that decides the training inputs and their (corrupted) labels."""
        train = session.open(self.dataset).identity("train")
        seeds = {"seed": self.seed, **self._relabelling, **self.seeds.identity("data", "labels")}
        return {"train": train, "corruption": describe(self.corruption), **seeds}

    @property
    def data_seed(self) -> int:
        """The seed of the data: also what is new to this network, or held out from it, is drawn by it."""
        return self.seeds.of("data", self.seed)

    @property
    def _relabelling(self) -> dict[str, Any]:
        """Its part of identities; networks with the first labels keep the identity they always had."""
        return {"relabelling": self.relabelling} if self.relabelling else {}

    def training_examples(self, session: Session) -> Examples:
        """Return the training inputs with their (corrupted) labels."""
        examples = session.examples(self.dataset, "train", self.data_seed)
        classes = session.open(self.dataset).classes
        seed = self.seeds.of("labels", self.seed)
        if self.relabelling:
            seed = derive(seed, "relabelling", str(self.relabelling))
        labels = corrupted(self.corruption, examples.labels, classes, seed)
        return self.chosen(Examples(examples.inputs, labels))

    def chosen(self, examples: Examples) -> Examples:
        """Return those of the dataset's training examples that it is trained on: all."""
        return examples

    def initial_network(self, session: Session) -> Network:
        """Return the network before training, on the session's device; what depends on training inputs is set."""
        role = f"fit{self.initialisation or ''}"
        seed = self.seeds.of("initialisation", self.seed)
        network = new_network(self.model, self.preprocess, session.open(self.dataset), seed, role)
        network.to(session.device)
        network.fit(self.chosen(session.examples(self.dataset, "train", self.data_seed)).inputs)
        return network

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return ()

    def work(self, session: Session) -> Work:
        source = session.open(self.dataset)
        train, test = (source.identity(split)["size"] for split in ("train", "test"))
        reads: tuple[Read, ...] = ((self.dataset, "train", self.data_seed), (self.dataset, "test", self.data_seed))
        evaluations = evaluated_epochs(self.training.epochs, session.settings.evaluate)
        return Work(self.model, self.preprocess, self.training, source, train, train + test, evaluations, reads)

    def metric_names(self, session: Session) -> tuple[str, ...]:
        return METRICS

    def artifact(self, session: Session) -> Artifact:
        """Return the trained network and its record from the store; train it if it is not there."""
        return session.store.get_or_make("fit", self.identity(session), lambda: self._train(session))

    def network(self, session: Session) -> Network:
        """Return the trained network in evaluation mode."""
        source = session.open(self.dataset)
        return restore_network(self.model, self.preprocess, source, self.artifact(session), session)

    def run(self, session: Session) -> Outcome:
        record = self.artifact(session).record
        classes = session.open(self.dataset).classes
        metrics = record["metrics"] | {"classes": classes, "chance_accuracy": 1 / classes}
        return Outcome(metrics, record["history"], _words(metrics) + arithmetic_in_words(self.training))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures.training import training_curves

        return {"curves": training_curves(self.artifact(session).record["history"])}

    def member(self, session: Session) -> Member:
        """Return the training, prepared."""
        train_set = self.training_examples(session)
        test_set = session.examples(self.dataset, "test", self.data_seed)
        held_out = {"test_accuracy": (test_set.inputs, test_set.labels)}
        evaluation = Evaluation(train_set.inputs, train_set.labels, held_out, session.settings.evaluate)
        seed = self.seeds.of("order", self.seed)
        return Member(
            self.initial_network(session),
            train_set.inputs,
            train_set.labels,
            self.training.loss,
            self.training,
            generator(seed, "fit", "order"),
            evaluation,
            "fit",
            session.support("fit", self.identity(session)),
            derive(seed, "fit", "augmentation"),
        )

    def trained(self, member: Member, session: Session) -> Artifact:
        """Return the network and its record, once `member` was carried out."""
        history, train_size = member.history, len(member.inputs)
        uncorrupted = self.chosen(session.examples(self.dataset, "train", self.data_seed)).labels
        test_size = len(session.examples(self.dataset, "test", self.data_seed))
        metrics = {
            **_accuracies(history[-1], train_size, test_size),
            "train_loss": history[-1]["loss"],
            "label_noise": int((member.targets != uncorrupted).sum()) / len(uncorrupted),
            "epochs": len(history),
            "steps": history[-1]["step"],
            **time_to_fit(history),
            "parameters": parameter_count(member.network),
            "train_size": train_size,
            "test_size": test_size,
        }
        return Artifact({"metrics": metrics, "history": history}, member.network.state_dict())

    def _train(self, session: Session) -> Artifact:
        member = self.member(session)
        with torch_stream(self.seeds.of("order", self.seed), "fit", "dropout"):
            member.train_alone()
        return self.trained(member, session)


def _preprocess_identity(preprocess: Any) -> Any:
    """In the form of when there was one class of preprocessing, for that one: measures stored then are found."""
    if type(preprocess) is CropAndNormalise:
        return [preprocess.crop, preprocess.normalisation]
    return describe(preprocess)


def _accuracies(last: dict[str, float], train_size: int, test_size: int) -> Metrics:
    metrics: Metrics = {}
    for name, n in (("train_accuracy", train_size), ("test_accuracy", test_size)):
        low, high = wilson(round(last[name] * n), n)
        metrics |= {name: last[name], f"{name}_low": low, f"{name}_high": high}
    return metrics | {"generalization_gap": last["train_accuracy"] - last["test_accuracy"]}


def _words(m: Metrics) -> str:
    if m["epochs_to_fit"] is None:
        fitted = f"fits {percent(m['train_accuracy'], 2)} of its training labels after {m['epochs']} epochs (never all)"
    else:
        fitted = f"fits every training label after {m['epochs_to_fit']} epochs ({m['steps_to_fit']} steps)"
    return f"{fitted}; test accuracy {percent(m['test_accuracy'], 1)} on {m['test_size']} inputs"
