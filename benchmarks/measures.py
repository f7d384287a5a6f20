"""What measuring costs: rebuttal's batched ways beside the plain loops, in one process and in turn.

    python -m benchmarks.measures               # Jacobian norms: mlp, resnet18; operator norms: resnet18

Jacobian norms of untrained networks at uniform noise, 3×32×32: `loop` is `torch.autograd.grad` once for each
input and class; `ours` is `rebuttal.measures.gradients`. They take turns; each figure is the median over
rounds. Operator norms: σ₁ of every layer of ResNet-18 on its real input size.
`--jacobian 1000` instead measures the time and the peak memory of ResNet-18's full Jacobian on that many probes.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from rebuttal.config import CONFIG_DIR, build
from rebuttal.measures.gradients import jacobian, norms
from rebuttal.measures.operators import spectral_norm
from rebuttal.measures.structure import affine_parts, parts_of
from rebuttal.measures.subject import Subject, chunks

SHAPE, CLASSES = (3, 32, 32), 10
PROBES = {"mlp": 200, "resnet18": 16}
MEMORY = 1024 * 2**20


def looped(subject: Subject, inputs: Tensor) -> Tensor:
    """‖J‖_F by the plain way, (n,)."""
    found = []
    for x in inputs:
        x = x[None].requires_grad_()
        logits = subject.function(x)[0]
        rows = [torch.autograd.grad(logit, x, retain_graph=True)[0].flatten() for logit in logits]
        found.append(torch.stack(rows).norm())
    return torch.stack(found)


def batched(subject: Subject, inputs: Tensor) -> Tensor:
    parts = [norms(*jacobian(subject, part)) for part in chunks(subject, inputs, MEMORY)]
    return torch.cat([part["jacobian_frobenius"] for part in parts])


def make_subject(model: str) -> Subject:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"model={model}"])
    torch.manual_seed(0)
    network = build(OmegaConf.to_container(cfg.model), "model").network(SHAPE, CLASSES).eval().requires_grad_(False)
    return Subject(network, network, True, CLASSES)


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare(model: str, rounds: int) -> str:
    subject, inputs = make_subject(model), torch.rand(PROBES[model], *SHAPE)
    times: dict[str, list[float]] = {"loop": [], "ours": []}
    for _ in range(rounds + 1):  # the first warms up
        taken, theirs = timed(lambda: looped(subject, inputs))
        times["loop"].append(taken)
        taken, ours = timed(lambda: batched(subject, inputs))
        times["ours"].append(taken)
        assert torch.allclose(theirs.double(), ours, rtol=1e-3)
    loop, mine = (median(t[1:]) / len(inputs) for t in times.values())
    return f"Jacobian norms, {model}: loop {loop * 1e3:.2f} ms, ours {mine * 1e3:.2f} ms a probe: {loop / mine:.1f}×"


def operator_norms(network: nn.Module) -> str:
    parts = affine_parts(parts_of(network, SHAPE))
    taken, found = timed(lambda: torch.tensor([spectral_norm(part) for part in parts]))
    return f"operator norms, resnet18: {len(parts)} layers in {taken:.1f} s, largest residual {found[:, 1].max():.1e}"


def full_jacobian(probes: int) -> str:
    subject, inputs = make_subject("resnet18"), torch.rand(probes, *SHAPE)
    taken, _ = timed(lambda: batched(subject, inputs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"full Jacobian, resnet18, {probes} probes: {taken:.0f} s, the process's peak memory {peak:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jacobian", type=int, metavar="PROBES", help="only ResNet-18's full Jacobian")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.jacobian:
        print(full_jacobian(arguments.jacobian))
        return
    for model in PROBES:
        print(compare(model, arguments.rounds))
    network = make_subject("resnet18").network
    assert network is not None
    print(operator_norms(network))


if __name__ == "__main__":
    main()
