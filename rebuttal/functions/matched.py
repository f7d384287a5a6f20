"""A function whose logits are rescaled to the spread of another's."""

from __future__ import annotations

from typing import Any

from rebuttal.config import checked
from rebuttal.measures.measure import spread
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import FunctionOption, Logits, opened
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage
from rebuttal.training.evaluation import predict


@checked
class Matched:
    """The function `of`, multiplied by a constant so that its logits on the held-out inputs have the spread of those of
    `to`: the two then differ in shape, not in scale. One that is constant there stays as it is."""

    of: FunctionOption
    to: FunctionOption

    @property
    def fit(self) -> Fit:
        return self.of.fit

    @property
    def differentiable(self) -> bool:
        return self.of.differentiable

    @property
    def fitted(self) -> bool:
        return False

    @property
    def teaches(self) -> bool:
        return bool(getattr(self.of, "teaches", True))

    def needs(self, session: Session) -> tuple[Stage, ...]:
        return (*self.of.needs(session), *self.to.needs(session))

    def function(self, session: Session) -> Logits:
        inputs = session.examples(self.to.fit.dataset, "test", self.to.fit.data_seed).inputs
        inner = opened(self.of, session)
        own = spread(predict(inner, inputs))
        scale = spread(predict(opened(self.to, session), inputs)) / own if own > 0 else 1.0
        return lambda x: scale * inner(x)

    def identity(self, session: Session) -> Any:
        return {"matched": self.of.identity(session), "to": self.to.identity(session)}
