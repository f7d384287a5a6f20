"""Time and memory of the measures: rebuttal's batched computations against plain loops, in one process.

    python -m benchmarks.measures               # Jacobian norms: mlp, resnet18; operator norms: resnet18

Jacobian norms of untrained networks at uniform noise, 3×32×32: `loop` calls `torch.autograd.grad` once for each input
and class; `vmap` takes all classes and inputs in one batched backward pass, as rebuttal did before; `ours` is
`rebuttal.measures.gradients` on the network that measures get. They alternate; each value is the median over rounds
of processor seconds, which depend less than wall time on what else the machine does.
Operator norms: σ₁ of every layer of ResNet-18 on its real input size.
`--jacobian 1000` instead measures the time and the peak memory of ResNet-18's full Jacobian at that many probes.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from benchmarks.record import record
from rebuttal.config import CONFIG_DIR, build
from rebuttal.measures.gradients import jacobian, norms
from rebuttal.measures.layers import affine_parts, faster, parts_of
from rebuttal.measures.measure import Subject, chunks
from rebuttal.measures.operator_norms import spectral_norm

SHAPE, CLASSES = (3, 32, 32), 10
PROBES = {"mlp": 200, "resnet18": 32}  # number of inputs, by model
MEMORY = 1024 * 2**20  # bytes that `chunks` may use


def looped(subject: Subject, inputs: Tensor) -> Tensor:
    """Return ‖J‖_F, (n,), by one backward pass for each input and class."""
    found = []
    for x in inputs:
        x = x[None].requires_grad_()
        logits = subject.function(x)[0]
        rows = [torch.autograd.grad(logit, x, retain_graph=True)[0].flatten() for logit in logits]
        found.append(torch.stack(rows).norm())
    return torch.stack(found)


def vmapped(subject: Subject, inputs: Tensor) -> Tensor:
    """Return ‖J‖_F, (n,), by one backward pass for all inputs and classes."""
    x = inputs.clone().requires_grad_()
    logits = subject.function(x)
    cotangents = torch.eye(CLASSES)[:, None].expand(-1, len(x), -1)
    (rows,) = torch.autograd.grad(logits, x, cotangents, is_grads_batched=True)
    return rows.flatten(2).transpose(0, 1).flatten(1).norm(dim=1)


def batched(subject: Subject, inputs: Tensor) -> Tensor:
    """Return ‖J‖_F, (n,), by one backward pass for each class and chunk of inputs."""
    parts = [norms(*jacobian(subject, part)) for part in chunks(subject, inputs, MEMORY)]
    return torch.cat([part["jacobian_frobenius"] for part in parts])


def make_subject(model: str) -> Subject:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"model={model}"])
    torch.manual_seed(0)
    network = build(OmegaConf.to_container(cfg.model), "model").network(SHAPE, CLASSES).eval().requires_grad_(False)
    return Subject(network, network, True, CLASSES)


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the processor seconds that `work` takes, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def compare(model: str, rounds: int) -> dict[str, float]:
    """Return the seconds a probe of the Jacobian norms: by a loop, by one pass, and by ours; and how many times ours is
    faster than each."""
    subject, inputs = make_subject(model), torch.rand(PROBES[model], *SHAPE)
    ours = replace(subject, function=faster(subject.network, inputs), kept={})
    ways = {"loop": (looped, subject), "vmap": (vmapped, subject), "ours": (batched, ours)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first warms up
        found = []
        for name, (way, on) in ways.items():
            seconds, norm = timed(lambda way=way, on=on: way(on, inputs))
            times[name].append(seconds)
            found.append(norm.double())
        assert all(torch.allclose(norm, found[0], rtol=1e-3) for norm in found)
    each = {name: median(t[1:]) / len(inputs) for name, t in times.items()}
    ratios = {f"{name} / ours": each[name] / each["ours"] for name in ("loop", "vmap")}
    shown = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in each.items())
    print(f"Jacobian norms, {model}: {shown} a probe; " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    return each | ratios


def operator_norms(network: nn.Module) -> dict[str, float]:
    """Return the seconds that all layers' operator norms take, and the largest residual."""
    parts = affine_parts(parts_of(network, SHAPE))
    seconds, found = timed(lambda: torch.tensor([spectral_norm(part) for part in parts]))
    residual = found[:, 1].max().item()
    print(f"operator norms, resnet18: {len(parts)} layers in {seconds:.1f} s, largest residual {residual:.1e}")
    return {"seconds": seconds, "largest residual": residual}


def full_jacobian(probes: int) -> dict[str, float]:
    """Return the seconds and the peak memory, GiB, of ResNet-18's full Jacobian."""
    subject, inputs = make_subject("resnet18"), torch.rand(probes, *SHAPE)
    seconds, _ = timed(lambda: batched(subject, inputs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"full Jacobian, resnet18, {probes} probes: {seconds:.0f} s, peak memory of the process {peak:.2f} GiB")
    return {"probes": probes, "seconds": seconds, "peak GiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jacobian", type=int, metavar="PROBES", help="only ResNet-18's full Jacobian")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.jacobian:
        record("measures", {"full Jacobian, resnet18": full_jacobian(arguments.jacobian)})
        return
    results = {f"Jacobian norms, {model}": compare(model, arguments.rounds) for model in PROBES}
    network = make_subject("resnet18").network
    assert network is not None
    record("measures", results | {"operator norms, resnet18": operator_norms(network)})


if __name__ == "__main__":
    main()
