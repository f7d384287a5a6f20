"""The `transfer` stage: whether weights that were fitted to other labels, random ones say, help or hinder."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.stages.fit import Fit
from rebuttal.stages.networks import Network, body_shapes
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Metrics, Outcome, Stage
from rebuttal.store.identity import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@checked
class WarmFit(Fit):
    """A training from the weights, and buffers such as those of batch-norms, of the network that `start` trained; its
    own are the first layer, which preprocesses, and a new optimiser."""

    start: Fit

    @classmethod
    def of(cls, fit: Fit, start: Fit) -> WarmFit:
        """Return `fit` from the weights of `start`."""
        return cls(**{f.name: getattr(fit, f.name) for f in fields(fit)} | {"start": start})

    def identity(self, session: Session) -> dict[str, Any]:
        return super().identity(session) | {"start": self.start.identity(session)}

    def initial_identity(self, session: Session) -> dict[str, Any]:
        return super().initial_identity(session) | {"start": self.start.identity(session)}

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (self.start,)

    def initial_network(self, session: Session) -> Network:
        network = super().initial_network(session)
        network.body.load_state_dict(self.start.network(session).body.state_dict())
        return network


@checked
class Transfer:
    """Repeat the training `fit`, of true labels say, from the weights of the network that `start` trained, on random
    labels of the same inputs say, and compare it with `fit` itself, which starts afresh with the same data, order and
    recipe. Faster by Maennel et al. 2020; up to 40 % less test accuracy by Liu et al. 2020.

    Metrics: `steps_to_fit_<which>` and `test_accuracy_<which>`, <which> `fresh` or `transferred`, see the stage `fit`;
    `steps_ratio`, transferred over fresh, below 1 where the weights help, None if one of the two never fits all of its
    labels; `test_accuracy_change`, transferred minus fresh. `start_train_accuracy`: how well `start` fits its own
    labels. Without any change of the weights by `start`, the ratio is 1 and the change 0. Cost: one training more.
    """

    fit: Fit
    start: Fit

    def check(self, session: Session) -> None:
        for stage in (self.fit, self.start):
            stage.check(session)
        kinds = [
            [describe(stage.model), source.classes, body_shapes(stage.model, stage.preprocess, source)]
            for stage in (self.fit, self.start)
            for source in [session.open(stage.dataset)]
        ]
        if kinds[0] != kinds[1]:
            raise ConfigError(
                "stages.*.start: has another architecture, shape of inputs (after a crop) or number of classes than "
                "stages.*.fit; allowed: the same"
            )

    def identity(self, session: Session) -> list[Any]:
        return [stage.identity(session) for stage in self.needs(session)]

    def needs(self, session: Session) -> list[Fit]:
        return [self.fit, self.start, self._warm]

    def work(self, session: Session) -> None:
        return None

    def metric_names(self, session: Session) -> list[str]:
        both = [f"{name}_{which}" for name in _COMPARED for which in ("fresh", "transferred")]
        return [*both, "steps_ratio", "test_accuracy_change", "start_train_accuracy"]

    def run(self, session: Session) -> Outcome:
        found = {"fresh": self.fit.run(session).metrics, "transferred": self._warm.run(session).metrics}
        metrics: Metrics = {f"{name}_{which}": m[name] for name in _COMPARED for which, m in found.items()}
        fresh, transferred = (metrics[f"steps_to_fit_{which}"] for which in found)
        metrics["steps_ratio"] = None if fresh is None or transferred is None else transferred / fresh
        metrics["test_accuracy_change"] = metrics["test_accuracy_transferred"] - metrics["test_accuracy_fresh"]
        metrics["start_train_accuracy"] = self.start.run(session).metrics["train_accuracy"]
        return Outcome(metrics, words=_words(metrics))

    def figures(self, session: Session) -> dict[str, Figure]:
        return {}

    @property
    def _warm(self) -> WarmFit:
        return WarmFit.of(self.fit, self.start)


_COMPARED = ("steps_to_fit", "test_accuracy")


def _words(m: Metrics) -> str:
    ratio = "a time to fit that is not known" if m["steps_ratio"] is None else f"{m['steps_ratio']:.2g} times the steps"
    change = f"{100 * m['test_accuracy_change']:+.1f} points of test accuracy"
    return f"from the other weights {ratio} of a fresh start, {change}"
