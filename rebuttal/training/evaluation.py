"""Evaluation of a network on many inputs, and the time that it took to fit its labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rebuttal.errors import out_of_memory

EVALUATION_BATCH = 2048


@torch.inference_mode()
def predict(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return logits (n, K), of at least single precision, for inputs (n, *shape).

    The batch size is halved until a batch fits into memory."""
    size = EVALUATION_BATCH
    while True:
        try:
            logits = torch.cat([network(batch) for batch in inputs.split(size)])
            return logits.to(torch.promote_types(logits.dtype, torch.float32))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2


def time_to_fit(history: list[dict[str, float]]) -> dict[str, float | None]:
    """Return the epochs and optimiser steps until training accuracy, evaluated at the end of each epoch, first
    reached 100 %; None (censored) if training ended before."""
    fitted = next((row for row in history if row["train_accuracy"] == 1.0), None)
    return {
        "epochs_to_fit": fitted["epoch"] if fitted else None,
        "steps_to_fit": fitted["step"] if fitted else None,
    }
