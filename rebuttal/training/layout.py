"""How the weights of convolutions lie in memory, which decides how fast they are and no value."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from rebuttal.seeds import torch_stream

log = logging.getLogger(__name__)


@contextmanager
def channels_last(
    network: nn.Module, optimizer: torch.optim.Optimizer | None = None, when: bool = True
) -> Iterator[None]:
    """Within the block the weights of 2-D convolutions, and what the optimiser keeps of them, lie channels last, if
    `when`. Outside they lie as ever."""
    if not when:
        yield
        return
    try:
        lay_out(network, torch.channels_last, optimizer)
        yield
    finally:
        lay_out(network, torch.contiguous_format, optimizer)


def layout_of_steps(
    network: nn.Module, optimizer: torch.optim.Optimizer, precision: str, takes: bool
) -> AbstractContextManager[None]:
    """Within the block weights lie as is the fastest for steps of that precision, if the network takes channels last:
    so in bfloat16, as ever in others."""
    known = type(optimizer).__module__.startswith("torch.")  # another may flatten gradients by views
    return channels_last(network, optimizer, takes and known and precision == "bfloat16")


def layout_of_evaluation(network: nn.Module, takes: bool) -> AbstractContextManager[None]:
    """Within the block weights lie as is the fastest for evaluation in float32, if the network takes channels last: so
    on a CPU, as ever elsewhere."""
    return channels_last(network, when=takes and not any(parameter.is_cuda for parameter in network.parameters()))


def has_convolutions(network: nn.Module) -> bool:
    """Whether a network has weights that can lie channels last."""
    return any(parameter.ndim == 4 for parameter in network.parameters())


def takes_channels_last(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a network computes convolutions, and runs with their weights channels last: forwards and backwards, in
    training and in evaluation mode, on a few of its inputs. What they give lies so too, and cannot be flattened by
    `x.view(len(x), -1)`, with which many do it.

    Leaves the network, its gradients and the global random numbers as they are."""
    tensors = [*network.parameters(), *network.buffers()]
    shared = len({tensor.untyped_storage().data_ptr() for tensor in tensors}) < len(tensors)  # which moving would end
    if shared or not has_convolutions(network):
        return False
    try:
        tried = copy.deepcopy(network)  # layers may keep what they like of what they see
        lay_out(tried, torch.channels_last)
        with torch_stream(0, "layout"):
            _run(tried.train(), inputs)
            _run(tried.eval(), inputs)
        return True
    except Exception as error:  # which others' code may raise as it likes
        log.info("the weights of %s stay as they lie: %s", type(network).__name__, error)
        return False


@torch.enable_grad()
def _run(network: nn.Module, inputs: Tensor) -> None:
    of: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if inputs.is_floating_point():  # not so stored pixels
        inputs = inputs.detach().requires_grad_()
        of.append(inputs)
    total = network(inputs).sum()
    if of:
        torch.autograd.grad(total, of, allow_unused=True)


def lay_out(network: nn.Module, layout: torch.memory_format, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Lay out the tensors of four dimensions, others than which torch refuses to, of a network and its optimiser."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    for values in {} if optimizer is None else optimizer.state.values():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                values[name] = value.contiguous(memory_format=layout)
