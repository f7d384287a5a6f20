"""The `fit` stage: a network is trained on a dataset whose labels may be corrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt
from torch import nn
from torch.nn import functional as F

from rebuttal.config import checked, describe, option_of
from rebuttal.data.examples import Examples
from rebuttal.measures.agreement import accuracy, wilson
from rebuttal.seeds import generator, torch_stream
from rebuttal.session import Session
from rebuttal.stages.networks import empty_network, new_network, parameter_count, restore_network
from rebuttal.stages.stage import Metrics, Outcome, Work
from rebuttal.store import Artifact
from rebuttal.training import Recipe, predict, time_to_fit, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1  # raised when the same settings come to mean another result


@checked
class Fit:
    """Train `model` on `dataset` with labels changed by `corruption`, and test it against true labels.

    Metrics: `train_accuracy` on the labels it was given and `test_accuracy` on true ones, with Wilson 95 %
    intervals; `generalization_gap`, their difference; `train_loss`, the last epoch's mean; the time to fit,
    see `time_to_fit`; `epochs`, `steps`, `parameters`, `train_size`, `test_size`; `label_noise`, the share
    of training labels that differ from the true ones.

    `initialisation`: 0, the initial weights that go with the seed; 1, 2, …, others for the same data, labels
    and order.
    """

    model: option_of("model", "network", arguments=2)
    dataset: option_of("dataset", "open")
    corruption: option_of("corruption", "__call__", arguments=3)
    training: Recipe
    initialisation: NonNegativeInt = 0
    seed: NonNegativeInt

    def check(self, session: Session) -> None:
        source = session.open(self.dataset)
        for split in ("train", "test"):
            source.identity(split)
        empty_network(self.model, self.training, source)

    def identity(self, session: Session) -> Any:
        source = session.open(self.dataset)
        return {
            "stage": "fit",
            "version": VERSION,
            "model": describe(self.model),
            "train": source.identity("train"),
            "test": source.identity("test"),
            "corruption": describe(self.corruption),
            "training": describe(self.training),
            "initialisation": self.initialisation,
            "seed": self.seed,
        }

    def initial_identity(self, session: Session) -> Any:
        """What determines the network before training."""
        source = session.open(self.dataset)
        return {
            "version": VERSION,
            "model": describe(self.model),
            "train": source.identity("train"),
            "preprocess": [self.training.crop, self.training.normalisation],
            "initialisation": self.initialisation,
            "seed": self.seed,
        }

    def data_identity(self, session: Session) -> Any:
        """What determines the training inputs and the labels given with them."""
        train = session.open(self.dataset).identity("train")
        return {"train": train, "corruption": describe(self.corruption), "seed": self.seed}

    def training_examples(self, session: Session) -> Examples:
        """The training inputs with the labels that the network is given."""
        examples = session.examples(self.dataset, "train", self.seed)
        classes = session.open(self.dataset).classes
        labels = self.corruption(examples.labels.cpu(), classes, self.seed).to(examples.labels.device)
        return Examples(examples.inputs, labels)

    def initial_network(self, session: Session) -> nn.Module:
        role = f"fit{self.initialisation or ''}"
        network = new_network(self.model, self.training, session.open(self.dataset), self.seed, role)
        network.to(session.device)
        network.preprocess.fit(session.examples(self.dataset, "train", self.seed).inputs)
        return network

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def work(self, session: Session) -> Work:
        source = session.open(self.dataset)
        train, test = (source.identity(split)["size"] for split in ("train", "test"))
        return Work(self.model, self.training, source, train, train + test)

    def artifact(self, session: Session) -> Artifact:
        return session.store.get_or_make("fit", self.identity(session), lambda: self._train(session))

    def network(self, session: Session) -> nn.Module:
        """The trained network in evaluation mode."""
        source = session.open(self.dataset)
        return restore_network(self.model, self.training, source, self.artifact(session), session)

    def run(self, session: Session) -> Outcome:
        record = self.artifact(session).record
        return Outcome(record["metrics"], record["history"], _words(record["metrics"]))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import figures

        return {"curves": figures.training_curves(self.artifact(session).record["history"])}

    def _train(self, session: Session) -> Artifact:
        given = self.training_examples(session)
        true = session.examples(self.dataset, "train", self.seed)
        test = session.examples(self.dataset, "test", self.seed)
        network = self.initial_network(session)

        def evaluate(network: nn.Module) -> dict[str, float]:
            return {
                "train_accuracy": accuracy(predict(network, given.inputs), given.labels),
                "test_accuracy": accuracy(predict(network, test.inputs), test.labels),
            }

        with torch_stream(self.seed, "fit", "dropout"):
            history = train(
                network,
                given.inputs,
                given.labels,
                F.cross_entropy,
                self.training,
                generator(self.seed, "fit", "order"),
                evaluate,
                "fit",
                session.support("fit", self.identity(session)),
            )
        metrics = {
            **_accuracies(history[-1], len(given), len(test)),
            "train_loss": history[-1]["loss"],
            "label_noise": (given.labels != true.labels).double().mean().item(),
            "epochs": len(history),
            "steps": history[-1]["step"],
            **time_to_fit(history),
            "parameters": parameter_count(network),
            "train_size": len(given),
            "test_size": len(test),
        }
        return Artifact({"metrics": metrics, "history": history}, network.state_dict())


def _accuracies(last: dict[str, float], train_size: int, test_size: int) -> Metrics:
    metrics: Metrics = {}
    for name, n in (("train_accuracy", train_size), ("test_accuracy", test_size)):
        low, high = wilson(round(last[name] * n), n)
        metrics |= {name: last[name], f"{name}_low": low, f"{name}_high": high}
    return metrics | {"generalization_gap": last["train_accuracy"] - last["test_accuracy"]}


def _words(m: Metrics) -> str:
    if m["epochs_to_fit"] is None:
        fitted = f"fits {m['train_accuracy']:.2%} of its training labels after {m['epochs']} epochs (never all)"
    else:
        fitted = f"fits every training label after {m['epochs_to_fit']} epochs ({m['steps_to_fit']} steps)"
    return f"{fitted}; {m['test_accuracy']:.1%} right on {m['test_size']} test inputs"
