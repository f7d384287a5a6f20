"""What `training.compile` saves, and after how many steps it has paid for its compilation.

    python -m benchmarks.compiled                        # airbench, resnet18, vgg11, mlp on the CPU
    python -m benchmarks.compiled mlp --mode reduce-overhead --device cuda

Steps forwards and backwards of `rebuttal.training.step`, in each precision, compiled and not, in turn, so that both
meet the same machine. `compile`: seconds of the first step, which compiles, with nothing in torch's cache. The figures
are medians over rounds, the ratio the median of the rounds' ratios; `steps to pay`: how many steps it takes until
compilation has been worth its time, null if it never is.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional as F

from benchmarks.record import record
from benchmarks.throughput import seconds, settings
from rebuttal import device
from rebuttal.device import has_bfloat16
from rebuttal.training.layout import layout_of_steps, takes_channels_last
from rebuttal.training.step import BatchGradients

BATCHES = {"airbench": 512, "resnet18": 64, "vgg11": 128, "mlp": 128}
SHAPE, CLASSES = (3, 32, 32), 10


def compete(name: str, precision: str, mode: str, where: torch.device, rounds: int) -> dict[str, float | None]:
    """Seconds of a step by whether it is compiled, their ratio, and what compilation takes."""
    model, recipe = settings(name)
    network = model.network(SHAPE, CLASSES).to(where).train()
    size = BATCHES[name]
    inputs, labels = torch.randn(size, *SHAPE, device=where), torch.arange(size, device=where) % CLASSES
    plain, compiled = (
        BatchGradients(network, F.cross_entropy, replace(recipe, precision=precision, compile=way), name, False)
        for way in (None, mode)
    )

    def step(gradients: BatchGradients) -> float:
        network.zero_grad()
        return seconds(lambda: gradients.backward(inputs, labels), where)

    with layout_of_steps(network, recipe.make_optimizer(network), precision, takes_channels_last(network, inputs[:2])):
        step(plain)
        first = step(compiled)
        step(compiled)  # on a GPU the second step records the graph
        times = [(step(plain), step(compiled)) for _ in range(rounds)]
    without, with_it = (median(column) for column in zip(*times))
    gained = without - with_it
    return {
        "plain": without,
        "compiled": with_it,
        "plain/compiled": median(a / b for a, b in times),
        "compile": first,
        "steps to pay": first / gained if gained > 0 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(BATCHES), help=", ".join(BATCHES))
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    where = device.resolve(arguments.device)
    precisions = ["float32", "bfloat16"] if has_bfloat16(where) else ["float32"]
    results = {}
    with TemporaryDirectory() as cache, device.configured(where.type, None):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name in arguments.models:
            for precision in precisions:
                found = compete(name, precision, arguments.mode, where, arguments.rounds)
                results[f"{name}, {precision}"] = found
                print(f"{name}, {precision}: " + ", ".join(_in_words(item) for item in found.items()), flush=True)
    record("compiled", {"mode": arguments.mode, "threads": torch.get_num_threads(), "steps": results}, where)


def _in_words(item: tuple[str, float | None]) -> str:
    name, value = item
    return f"{name} {'never' if value is None else f'{value:.3g}'}"


if __name__ == "__main__":
    main()
