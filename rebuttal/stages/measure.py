"""The `measure` stage: several functions, looked at in the same places with the same measures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked, describe, offering, option_of
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.measures.structure import check_layers
from rebuttal.measures.subject import Findings, Subject, Surroundings
from rebuttal.seeds import generator
from rebuttal.session import Session
from rebuttal.stages.networks import empty_network
from rebuttal.stages.stage import Metrics, Outcome, Stage
from rebuttal.store import Artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 2  # raised when the same settings come to mean another result
KINDS = ("train", "test", "noise", "between")


@checked
class Measure:
    """Apply `measures` (by name; null switches one off) to `functions` (by name; see `rebuttal.functions`).

    Each is looked at, at `probes` points of each kind (all there are, where the dataset has fewer), the same for
    all functions: `train` and `test`, images or points of `dataset`; `noise`, uniform on [0, 1]^d; `between`,
    uniform on segments between pairs of training points. `only`: the names of the measures to take, null for
    all. `memory`: MiB that a measure may use at a time, as far as it can choose. A network whose training
    accuracy is below `fit_target` is marked: `<function>_fitted` is 0. `show`: the numbers that are also told
    on the terminal.

    Metrics: `<function>_<number>`, where the measures name the numbers.
    """

    functions: dict[str, option_of("function", "function")]
    measures: dict[str, offering("__call__", 2, "a measure, such as those of rebuttal.measures") | None]
    only: tuple[str, ...] | None
    show: tuple[str, ...]
    dataset: option_of("dataset", "open")
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
            function.fit.check(session)
            if session.open(function.fit.dataset).identity("train") != train or function.fit.seed != self.seed:
                raise ConfigError(
                    f"stages.*.functions.{name}: was fitted to other inputs than those of stages.*.dataset and "
                    "stages.*.seed, where it would be measured; allowed: the same"
                )
        self._check_measures(session)
        if self._count(session) < 3:
            raise ConfigError("dataset.test_size: the measures need 3 probes; allowed: 3 or more, also in train_size")

    def identity(self, session: Session) -> Any:
        return [self._identity(session, f, m) for f in self.functions for m in self._chosen()]

    def needs(self, session: Session) -> list[Stage]:
        return [stage for function in self.functions.values() for stage in function.needs()]

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
        """All that the chosen measures say of one function."""
        subject = cache(lambda: self._subject(session, function))  # made once, and only if something is missing
        found = Findings()
        for name in self._chosen():
            artifact = session.store.get_or_make(
                "measure",
                self._identity(session, function, name),
                lambda name=name: self._take(subject(), self._surroundings(session, function, name), name),
            )
            found |= Findings(artifact.record["numbers"], artifact.tensors)
        return found | Findings(self._fitted(session, function))

    def figures(self, session: Session) -> dict[str, Figure]:
        from rebuttal.analysis import measure_figures

        found = {name: self.findings(session, name) for name in self.functions}
        return measure_figures.draw({n: f.numbers for n, f in found.items()}, {n: f.arrays for n, f in found.items()})

    def _chosen(self) -> list[str]:
        wanted = self.measures if self.only is None else self.only
        return [name for name in wanted if self.measures[name] is not None]

    def _identity(self, session: Session, function: str, measure: str) -> Any:
        source = session.open(self.dataset)
        return {
            "stage": "measure",
            "version": VERSION,
            "function": self.functions[function].identity(session),
            "measure": [measure, describe(self.measures[measure])],
            "train": source.identity("train"),
            "test": source.identity("test"),
            "probes": self._count(session),
            "seed": self.seed,
        }

    def _check_measures(self, session: Session) -> None:
        """Raise `ConfigError` where a measure needs what the data or the networks do not have."""
        source = session.open(self.dataset)
        chosen = {name: self.measures[name] for name in self._chosen()}
        for name, measure in chosen.items():
            if getattr(measure, "needs_images", False) and len(source.shape) != 3:
                raise ConfigError(
                    f"stages.*.measures.{name}: needs images, but the dataset's inputs have shape "
                    f"{list(source.shape)}; allowed: [channels,height,width], or stages.*.measures.{name}=null"
                )
        if any(getattr(measure, "needs_layers", False) for measure in chosen.values()):
            for function in self.functions.values():
                check_layers(empty_network(function.fit.model, function.fit.training, source))

    def _count(self, session: Session) -> int:
        source = session.open(self.dataset)
        return min(self.probes, *(source.identity(split)["size"] for split in ("train", "test")))

    def _take(self, subject: Subject, around: Surroundings, name: str) -> Artifact:
        found = self.measures[name](subject, around)
        return Artifact({"numbers": found.numbers}, found.arrays)

    def _subject(self, session: Session, name: str) -> Subject:
        chosen = self.functions[name]
        function = chosen.function(session)
        network = function if isinstance(function, nn.Module) else None
        return Subject(function, network, chosen.differentiable, session.open(chosen.fit.dataset).classes)

    def _surroundings(self, session: Session, function: str, measure: str) -> Surroundings:
        n = self._count(session)
        train, test = (
            in_unit_range(session.examples(self.dataset, split, self.seed).inputs[:n]) for split in ("train", "test")
        )
        rng = generator(self.seed, "probe")
        noise = torch.from_numpy(rng.random(train.shape)).to(train)
        share = torch.from_numpy(rng.random((n, *[1] * (train.ndim - 1)))).to(train)
        between = train + share * (train.roll(1, dims=0) - train)
        labels = self.functions[function].fit.training_examples(session).labels[:n]
        probes = dict(zip(KINDS, (train, test, noise, between)))
        return Surroundings(probes, labels, self.memory * 2**20, generator(self.seed, "probe", measure))

    def _fitted(self, session: Session, function: str) -> dict[str, float | None]:
        from rebuttal.functions import Trained

        chosen = self.functions[function]
        if not isinstance(chosen, Trained):
            return {}
        reached = chosen.fit.artifact(session).record["metrics"]["train_accuracy"] >= self.fit_target
        return {"fitted": float(reached)}

    def _words(self, table: dict[str, dict[str, float | None]]) -> str:
        unfit = [name for name, value in table.get("fitted", {}).items() if value == 0]
        said = f"{len(table)} numbers for each of {', '.join(self.functions)}; all are in the table beside the metrics"
        if unfit:
            said += f". Below the fit target of {self.fit_target:.0%}, not to be compared: {', '.join(unfit)}"
        return said
