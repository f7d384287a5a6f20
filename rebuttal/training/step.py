"""The gradients of one optimiser step: a batch forwards and backwards, in pieces if memory is short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from rebuttal.device import float32_arithmetic
from rebuttal.errors import TrainingError, out_of_memory
from rebuttal.training.recipe import Recipe

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]


class BatchGradients:
    """Computes the gradients of batches, each as a whole or in as many pieces as memory requires.

    `in_pieces`: whether batches may be split; `name`: of the training, for messages."""

    def __init__(self, network: nn.Module, loss: Loss, recipe: Recipe, name: str, in_pieces: bool):
        self.network = network
        self.loss = loss
        self.recipe = recipe
        self.name = name
        self.forward = self._compiled() if recipe.compile is not None else network
        self.pieces = 1
        self.inseparable = next((why for module in network.modules() if (why := _why_whole(module))), None)
        self.in_pieces = in_pieces

    def backward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of the batch's mean loss to the parameters; return that loss, and the logits (n, K).

        Raises `TrainingError` if the batch does not fit into memory and must not, or cannot, be split further."""
        while True:
            try:
                with _tf32(self.recipe.precision):
                    return self._backward(inputs, targets)
            except (RuntimeError, MemoryError) as error:
                if self.recipe.compile is not None and _is_the_compiler_s(error):
                    raise TrainingError(self._not_compiled_message(error)) from error
                if not out_of_memory(error):
                    raise
                if not (self.in_pieces and self.inseparable is None and self.pieces < len(inputs)):
                    raise TrainingError(self._out_of_memory_message()) from error
            self.network.zero_grad(set_to_none=True)
            self.pieces *= 2
            log.warning("%s: out of memory; batches are processed in %d pieces from now on", self.name, self.pieces)

    def _backward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, outputs = [], []
        for x, y in zip(inputs.tensor_split(self.pieces), targets.tensor_split(self.pieces)):
            with autocast(inputs.device, self.recipe.precision):
                logits = self.forward(x)
                value = self.loss(logits, y)
            value = value if self.pieces == 1 else value * (len(x) / len(inputs))
            value.backward()
            losses.append(value.detach())
            # A compiled network may write the next piece's logits to the same memory.
            outputs.append(logits.detach() if self.pieces == 1 else logits.detach().clone())
        return (losses[0], outputs[0]) if self.pieces == 1 else (torch.stack(losses).sum(), torch.cat(outputs))

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        torch.compiler.reset()  # what was compiled before counts towards a limit, above which nothing would be
        try:
            # A size of batches at a time: which sizes came first, as after a checkpoint, must not decide the numbers.
            return torch.compile(self.network, mode=self.recipe.compile, dynamic=False)
        except RuntimeError as error:  # of a Python that this torch cannot compile for
            raise TrainingError(self._not_compiled_message(error)) from error

    def _not_compiled_message(self, error: Exception) -> str:
        return (
            f"{self.name}: training.compile={self.recipe.compile}: torch cannot compile this network here "
            f"({str(error).splitlines()[0]}); allowed: null"
        )

    def _out_of_memory_message(self) -> str:
        message = f"{self.name}: out of memory; training.batch_size={self.recipe.batch_size}: try a smaller one"
        if self.inseparable is not None:
            return f"{message} (batch_size=auto cannot help: {self.inseparable})"
        if self.in_pieces:
            return message
        return f"{message}, or batch_size=auto, which gives the same results in smaller pieces"


def _is_the_compiler_s(error: Exception) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _why_whole(module: nn.Module) -> str | None:
    """Why a module gives another result for a batch in pieces; None if it does not."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "batch-norm needs the whole batch at once"
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return "dropout draws other masks for pieces of a batch"
    return None


def _tf32(precision: str) -> AbstractContextManager[object]:
    """For the forward and the backward pass. Evaluation, between the steps, is in float32."""
    return float32_arithmetic(tf32=True) if precision == "tf32" else nullcontext()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Within the block matrix products and convolutions are computed in bfloat16, if that is the precision.

    torch would keep the weights that it has rounded until the outermost of its autocast blocks ends. A caller may have
    one around a whole training, as a run does to switch off the user's: every step would see the first step's weights.
    """
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
