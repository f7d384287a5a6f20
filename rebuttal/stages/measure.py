"""The `measure` stage: several functions, measured at the same probes with the same measures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.data.dataset import Dataset, DatasetOption
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError, user_code
from rebuttal.measures.layers import faster, unsupported
from rebuttal.measures.measure import Findings, MeasureOption, Probes, Subject, logits_at
from rebuttal.progress.console import track
from rebuttal.rounding import percent
from rebuttal.seeds import generator
from rebuttal.stages.function import FunctionOption, check_function, checked_logits, opened
from rebuttal.stages.networks import empty_network
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage, check_number
from rebuttal.store.entries import Artifact
from rebuttal.store.identity import describe, is_ours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 3  # increment when the same settings give different results
log = logging.getLogger(__name__)

KINDS = ("train", "test", "noise", "between")  # of probes


def probe_count(session: Session, dataset: Dataset, wanted: int) -> int:
    """Return the number of probes of each kind: those wanted, or as many as the dataset has."""
    source = session.open(dataset)
    train_size: int = source.identity("train")["size"]
    test_size: int = source.identity("test")["size"]
    return min(wanted, train_size, test_size)


def probe_inputs(session: Session, dataset: Dataset, n: int, seed: int) -> dict[str, Tensor]:
    """Return n points of each kind, (n, *shape) each, on the session's device."""
    train, test = (in_unit_range(session.examples(dataset, split, seed).inputs[:n]) for split in ("train", "test"))
    rng = generator(seed, "probe")
    noise = torch.from_numpy(rng.random(train.shape)).to(train)
    share = torch.from_numpy(rng.random((n, *[1] * (train.ndim - 1)))).to(train)
    between = train + share * (train.roll(1, dims=0) - train)
    return dict(zip(KINDS, (train, test, noise, between)))


@checked
class Measure:
    """Apply `measures` (by name; None switches one off) to `functions` (by name; see `rebuttal.functions`).

    All functions are evaluated at the same `probes` points of each kind (fewer if the dataset is smaller): `train` and
    `test`, inputs of `dataset`; `noise`, uniform on [0, 1]^d; `between`, uniform on segments between pairs of training
    inputs. `only`: the names of the measures to apply; None for all. `memory`: MiB that a measure may use at a time, as
    far as it can choose. A network whose training accuracy is below `fit_target` is marked: `<function>_fitted` is 0.
    `show`: the numbers that are also printed on the terminal.

    Metrics: `<function>_<number>`, with the numbers' names from the measures.
    """

    functions: dict[str, FunctionOption]
    measures: dict[str, MeasureOption | None]
    only: tuple[str, ...] | None
    show: tuple[str, ...]
    dataset: DatasetOption
    probes: Annotated[int, Field(ge=3)]
    memory: PositiveInt
    fit_target: Annotated[float, Field(gt=0, le=1)]
    seed: NonNegativeInt

    def check(self, session: Session) -> None:
        if not self.functions:
            raise ConfigError("stages.*.functions={}: allowed: at least one function, by name")
        for name in self.only or ():
            if name not in self.measures:
                raise ConfigError(f"stages.*.only={name}: no such measure; allowed: {', '.join(self.measures)}")
        train = session.open(self.dataset).identity("train")
        for name, function in self.functions.items():
            check_function(function, session)
            if session.open(function.fit.dataset).identity("train") != train or function.fit.data_seed != self.seed:
                raise ConfigError(
                    f"stages.*.functions.{name}: was fitted to inputs other than the training inputs of "
                    "stages.*.dataset and stages.*.seed; allowed: the same dataset and seed"
                )
        self._check_measures(session)
        if self._count(session) < 3:
            raise ConfigError("dataset.test_size: the measures need 3 probes; allowed: 3 or more, also in train_size")

    def identity(self, session: Session) -> Any:
        return [self._identity(session, f, m) for f in self.functions for m, _ in self._chosen()]

    def needs(self, session: Session) -> list[Stage]:
        return [stage for function in self.functions.values() for stage in function.needs(session)]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        return [f"{function}_*" for function in self.functions]  # which numbers a measure gives is known only after it

    def run(self, session: Session) -> Outcome:
        metrics: Metrics = {}
        table: dict[str, dict[str, float | None]] = {}
        arrays: dict[str, Tensor] = {}
        for name in self.functions:
            found = self.findings(session, name)
            metrics |= {f"{name}_{key}": value for key, value in found.numbers.items()}
            arrays |= {f"{name}_{key}": value for key, value in found.arrays.items()}
            for key, value in found.numbers.items():
                table.setdefault(key, {})[name] = value
        shown = tuple(key for key in self.show if key in table)
        return Outcome(metrics, words=self._words(table), table=table, shown=shown, arrays=arrays)

    def findings(self, session: Session, function: str) -> Findings:
        """Return the findings of all chosen measures for one function."""
        inputs = cache(lambda: self._inputs(session))  # the same tensors for all measures, which share what they need
        # Built once, and only if a result is missing.
        subject = cache(lambda: self._subject(session, function, inputs()))
        found = Findings()
        for name, measure in track(self._chosen(), f"measures of {function}"):
            artifact = self._artifact(session, function, name, measure, subject, inputs)
            found |= Findings(artifact.record["numbers"], artifact.tensors)
        return found | Findings(self._fitted(session, function))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.figures import measures

        found = {name: self.findings(session, name) for name in self.functions}
        return measures.draw({n: f.numbers for n, f in found.items()}, {n: f.arrays for n, f in found.items()})

    def _chosen(self) -> list[tuple[str, MeasureOption]]:
        wanted = self.measures if self.only is None else self.only
        return [(name, measure) for name in wanted if (measure := self.measures[name]) is not None]

    def _artifact(
        self,
        session: Session,
        function: str,
        name: str,
        measure: MeasureOption,
        subject: Callable[[], Subject],
        inputs: Callable[[], dict[str, Tensor]],
    ) -> Artifact:
        def compute() -> Artifact:
            probes = self._probes(session, function, name, inputs())
            found = (
                measure(subject(), probes) if is_ours(type(measure)) else _of_a_user(measure, name, subject(), probes)
            )
            for number, value in found.numbers.items():
                check_number(value, f"stages.*.measures.{name}: {number} of {function}")
            return Artifact({"numbers": found.numbers}, found.arrays)

        return session.store.get_or_make("measure", self._identity(session, function, name), compute)

    def _identity(self, session: Session, function: str, measure: str) -> Any:
        source, chosen = session.open(self.dataset), self.measures[measure]
        version = getattr(chosen, "version", 1)  # of one measure: raised when it alone gives other results
        return {
            "stage": "measure",
            "version": VERSION,
            "function": self.functions[function].identity(session),
            "measure": [measure, describe(chosen), *([version] if version > 1 else [])],
            "train": source.identity("train"),
            "test": source.identity("test"),
            "labels": self.functions[function].fit.data_identity(session),
            "probes": self._count(session),
            "seed": self.seed,
        }

    def _check_measures(self, session: Session) -> None:
        """Raise `ConfigError` if a measure needs images that the data do not have, or if all need layers that a network
        does not have; where only some do, log that they leave it out."""
        source = session.open(self.dataset)
        for name, measure in self._chosen():
            if getattr(measure, "needs_images", False) and len(source.shape) != 3:
                raise ConfigError(
                    f"stages.*.measures.{name}: needs images, but the dataset's inputs have shape "
                    f"{list(source.shape)}; allowed: [channels,height,width], or stages.*.measures.{name}=null"
                )
        of_layers = {name: measure for name, measure in self._chosen() if getattr(measure, "needs_layers", False)}
        fits = (function.fit for function in self.functions.values()) if of_layers else ()
        networks = [empty_network(fit.model, fit.preprocess, source) for fit in fits]
        left_out: dict[str, list[str]] = {}  # by reason
        for name, measure in of_layers.items():
            paths = getattr(measure, "needs_paths", False)
            for reason in {reason for network in networks if (reason := unsupported(network, paths)) is not None}:
                left_out.setdefault(reason, []).append(name)
        for reason, names in sorted(left_out.items()):
            if len(names) == len(self._chosen()):
                raise ConfigError(reason)
            said = reason.partition(": ")[2].partition("; allowed")[0]
            log.warning("%s: %s leave out what needs it", said, ", ".join(names))

    def _count(self, session: Session) -> int:
        return probe_count(session, self.dataset, self.probes)

    def _subject(self, session: Session, name: str, inputs: dict[str, Tensor]) -> Subject:
        chosen = self.functions[name]
        function = opened(chosen, session)
        network = function if isinstance(function, nn.Module) else None
        function = function if network is None else faster(network, inputs["train"])
        subject = Subject(function, network, chosen.differentiable, session.open(chosen.fit.dataset).classes)
        for of_kind in inputs.values():
            key = f"stages.*.functions.{name}"
            checked_logits(logits_at(subject, of_kind), chosen, len(of_kind), session, key)
        return subject

    def _inputs(self, session: Session) -> dict[str, Tensor]:
        return probe_inputs(session, self.dataset, self._count(session), self.seed)

    def _probes(self, session: Session, function: str, measure: str, inputs: dict[str, Tensor]) -> Probes:
        labels = self.functions[function].fit.training_examples(session).labels[: self._count(session)]
        return Probes(inputs, labels, self.memory * 2**20, generator(self.seed, "probe", measure))

    def _fitted(self, session: Session, function: str) -> dict[str, float | None]:
        chosen = self.functions[function]
        if not chosen.fitted:
            return {}
        reached = chosen.fit.artifact(session).record["metrics"]["train_accuracy"] >= self.fit_target
        return {"fitted": float(reached)}

    def _words(self, table: dict[str, dict[str, float | None]]) -> str:
        words = f"{len(table)} numbers for each of {', '.join(self.functions)}; all are in the table beside the metrics"
        if unfit := [name for name, value in table.get("fitted", {}).items() if value == 0]:
            words += f". Below the fit target of {percent(self.fit_target)}, not to be compared: {', '.join(unfit)}"
        return words


def _of_a_user(measure: MeasureOption, name: str, subject: Subject, probes: Probes) -> Findings:
    """What a measure of the user's finds at probes of its own, which it may change in place. Raises `ConfigError`."""
    inputs = {kind: tensor.clone() for kind, tensor in probes.inputs.items()}
    with user_code(f"stages.*.measures.{name}"):
        found = measure(subject, replace(probes, inputs=inputs, labels=probes.labels.clone()))
        if not isinstance(found, Findings):
            raise TypeError(f"it gives a {type(found).__name__}; allowed: rebuttal.measures.Findings")
        for array, values in found.arrays.items():
            if not isinstance(values, Tensor):
                raise TypeError(f"its array {array} is a {type(values).__name__}; allowed: tensors")
    return found
