"""The interface of functions under study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from torch import Tensor, nn

from rebuttal.config import Offers
from rebuttal.errors import UserError, user_code
from rebuttal.stages.session import Session
from rebuttal.stages.stage import Stage
from rebuttal.store.identity import is_ours

if TYPE_CHECKING:
    from rebuttal.stages.fit import Fit

Logits = Callable[[Tensor], Tensor]  # a function from inputs (n, *shape), float32 or uint8 pixels, to logits (n, K)


class Function(Protocol):
    """A config object of the group `function`: a teacher, or a null function to compare it with."""

    @property
    def fit(self) -> Fit:
        """The stage whose network it is or is compared with; it decides data, labels and seed."""
        ...

    @property
    def differentiable(self) -> bool:
        """False for step functions: their derivative is 0 wherever it exists and says nothing about smoothness."""
        ...

    @property
    def fitted(self) -> bool:
        """True if it is the network that `fit` trains, so that its training accuracy is defined."""
        ...

    def needs(self, session: Session) -> Sequence[Stage]:
        """Return the stages whose results it needs."""
        ...

    def function(self, session: Session) -> Logits:
        """Return the function itself: an `nn.Module` in evaluation mode if it is a network."""
        ...

    def identity(self, session: Session) -> Any:
        """Return everything that decides its values, as JSON-serialisable values."""
        ...


def opened(function: Function, session: Session) -> Logits:
    """Return the function itself. One of the user's is given copies of the inputs, which it may change in place, and
    what it raises is a `ConfigError`."""
    if is_ours(type(function)):
        return function.function(session)
    name = f"function={type(function).__name__}"
    with user_code(name):
        made = function.function(session)
    if isinstance(made, nn.Module):
        made.register_forward_pre_hook(lambda module, given: (given[0].clone(),))
        return made

    def called(inputs: Tensor) -> Tensor:
        with user_code(name):
            logits = made(inputs.clone())
            if not isinstance(logits, Tensor):
                raise TypeError(f"it gives a {type(logits).__name__}; allowed: logits (n, K), as a tensor")
        return logits

    return update_wrapper(called, made)


def checked_logits(logits: Tensor, function: Function, n: int, session: Session, key: str) -> Tensor:
    """Return what a function, which `key` chose, gave for n inputs. Raises `UserError` if these are not logits (n, K),
    or some are not finite: NaN would pass for the largest of them."""
    expected = (n, session.open(function.fit.dataset).classes)
    if tuple(logits.shape) != expected:
        raise UserError(f"{key}: its outputs have the shape {tuple(logits.shape)}; allowed: {expected}")
    wrong = int((~logits.isfinite()).any(dim=1).sum())
    if wrong:
        raise UserError(
            f"{key}: its outputs at {wrong} of {len(logits)} inputs are not finite; allowed: finite numbers"
        )
    return logits


def check_function(function: Function, session: Session) -> None:
    """Raise `ConfigError` for a function that cannot be had, before anything is trained: what the stage that it belongs
    to raises, and its own `check(session)`, if it has one."""
    function.fit.check(session)
    own = getattr(function, "check", None)
    if callable(own):
        own(session)


FunctionOption = Annotated[Function, Offers("function", 1, "an option of the group function")]
