"""Training throughput: rebuttal's loop beside the usual one, in one process and in turn.

    python -m benchmarks.throughput                     # mlp_1x512, mlp, resnet18, vgg11
    python -m benchmarks.throughput mlp --rounds 9
    python -m benchmarks.throughput mlp resnet18 --images 12800 --batch 512 --device cuda

Same model, images, batch size, optimiser settings and preprocessing (Zhang et al.'s recipe). `files`: the
usual loop over JPEG files, with torchvision's ImageFolder, PIL, transforms, a DataLoader with workers, and
`.item()` at each step. `memory`: the same, but the images lie in memory as in torchvision's CIFAR10. `ours`:
`rebuttal.training.train`; `bfloat16`: the same in bfloat16, which `training.precision=auto` takes if it wins, where
the processor has instructions for it. `raw`: forward, backward and step on one batch that never changes, the most
that any loop could reach in float32. `matrix`: 2048×2048 float32 products, the machine's rate. They take turns, so that
all meet the same machine; each figure is the median over rounds, each ratio the median of the rounds'
ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import ImageFolder, VisionDataset

from benchmarks.record import record
from rebuttal import device
from rebuttal.config import CONFIG_DIR, build
from rebuttal.models.preprocess import Preprocess
from rebuttal.training.loop import train
from rebuttal.training.recipe import Recipe

IMAGES = {"mlp_1x512": 12_800, "mlp": 12_800, "resnet18": 512, "vgg11": 1024}
MATRIX = 2048
CROP = 28  # as with training=zhang
LOOPS = ("files", "memory", "ours", "raw", "bfloat16")


class InMemory(VisionDataset):
    """Images as torchvision's CIFAR10 keeps and gives them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable):
        super().__init__(root="", transform=transform)
        self.images, self.labels = images, labels.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)


def jpeg_folder(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write the images as `<class>/<number>.jpg`."""
    for number, (image, label) in enumerate(zip(images, labels)):
        folder = root / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:05}.jpg")
    return root


def whiten(x: Tensor) -> Tensor:
    return (x - x.mean()) / x.std(correction=0).clamp(min=x.numel() ** -0.5)


class Contest:
    """One model's loops over the same images; each method trains through all of them once."""

    def __init__(self, name: str, images: int, batch: int | None, where: torch.device, workers: int, folder: Path):
        model, recipe = settings(name)
        self.recipe = replace(recipe, batch_size=batch or recipe.batch_size)
        rng = np.random.default_rng(0)
        pixels = rng.integers(256, size=(images, 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(10, size=images)
        self.where = where
        self.inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(where)
        self.labels = torch.from_numpy(labels).to(where)
        preprocess = Preprocess((3, 32, 32), CROP, "per_image")
        self.network = nn.Sequential(preprocess, model.network(preprocess.output_shape, 10)).to(where)
        steps = transforms.Compose((transforms.CenterCrop(CROP), transforms.ToTensor(), whiten))
        kind = {"shuffle": True, "num_workers": workers, "persistent_workers": workers > 0}
        from_files = ImageFolder(str(jpeg_folder(folder, pixels, labels)), steps)
        self._files = DataLoader(from_files, self.recipe.batch_size, **kind)
        self._memory = DataLoader(InMemory(pixels, labels, steps), self.recipe.batch_size, **kind)

    def files(self) -> None:
        self._usual(self._files)

    def memory(self) -> None:
        self._usual(self._memory)

    def ours(self) -> None:
        self._trained(self.recipe)

    def bfloat16(self) -> None:
        self._trained(replace(self.recipe, precision="bfloat16"))

    def raw(self) -> None:
        optimizer = self._optimizer()
        batch = self.network[0](self.inputs[: self.recipe.batch_size])
        labels, network = self.labels[: self.recipe.batch_size], self.network[1].train()
        for _ in range(len(self.inputs) // self.recipe.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(batch), labels).backward()
            optimizer.step()

    def flops_per_image(self) -> float:
        """Multiplications and additions of a training step's products, forward and backward."""
        batch = self.network[0](self.inputs[:16])
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(self.network[1](batch), self.labels[:16]).backward()
        return counter.get_total_flops() / len(batch)

    def _trained(self, recipe: Recipe) -> None:
        order = np.random.default_rng(0)
        train(self.network, self.inputs, self.labels, F.cross_entropy, recipe, order, None, "benchmark")

    def _usual(self, loader: DataLoader) -> None:
        optimizer = self._optimizer()
        network = self.network[1].train()
        running = 0.0
        for x, y in loader:
            x, y = x.to(self.where), y.to(self.where)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()

    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network[1].parameters(), lr=self.recipe.lr, momentum=self.recipe.optimizer.momentum)


def settings(name: str) -> tuple[object, Recipe]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["experiment=baseline", f"model={name}", "training=zhang", "training.epochs=1"])
    model, recipe = (OmegaConf.to_container(cfg[group], resolve=True) for group in ("model", "training"))
    return build(model, "model"), build(recipe, "training")


def matrix_rate(where: torch.device) -> float:
    """FLOP/s of large float32 matrix products."""
    a = torch.randn(MATRIX, MATRIX, device=where)
    return 4 * 2 * MATRIX**3 / seconds(lambda: [a @ a for _ in range(4)], where)


def seconds(work: Callable[[], object], where: torch.device) -> float:
    begin = time.perf_counter()
    work()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def compete(name: str, where: torch.device, options: argparse.Namespace) -> dict[str, float]:
    """Images a second of each loop, ratios, and the share of the matrix rate: medians over the rounds."""
    loops = LOOPS if device.has_bfloat16(where) else LOOPS[:-1]
    with TemporaryDirectory() as folder:
        contest = Contest(name, options.images or IMAGES[name], options.batch, where, options.workers, Path(folder))
        speeds: dict[str, list[float]] = {loop: [] for loop in loops}
        matrix = []
        for turn in range(options.rounds + 1):
            for loop in loops:
                speed = len(contest.inputs) / seconds(getattr(contest, loop), where)
                if turn > 0:  # the first round warms up
                    speeds[loop].append(speed)
            if turn > 0:
                matrix.append(matrix_rate(where))
    found = {loop: np.array(speeds[loop]) for loop in loops}
    ours = found["ours"]
    ratios = {f"ours/{loop}": ours / found[loop] for loop in ("files", "memory", "raw")}
    if "bfloat16" in found:
        ratios["bfloat16/ours"] = found["bfloat16"] / ours
    found |= ratios | {"matrix": ours * contest.flops_per_image() / np.array(matrix)}
    return {name: float(median(values)) for name, values in found.items()}


def line(name: str, found: dict[str, float]) -> str:
    """A row of the printed table."""
    speeds = " ".join(f"{found[loop]:>10,.0f}" if loop in found else f"{'-':>10}" for loop in LOOPS)
    ratios = f"{found['ours/files']:>10.1f}x {found['ours/memory']:>11.1f}x {found['ours/raw']:>9.0%}"
    rounded = f"{found['bfloat16/ours']:>12.2f}x" if "bfloat16/ours" in found else f"{'-':>13}"
    return f"{name:<10} {speeds} {ratios} {found['matrix']:>9.0%} {rounded}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(IMAGES), help=", ".join(IMAGES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="that each loop goes through once; else as many as suit two cores")
    parser.add_argument("--batch", type=int, help="images of a step; else the recipe's 128")
    parser.add_argument("--workers", type=int, default=2, help="of the usual loops' DataLoader")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    where = device.resolve(arguments.device)
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print(
        "images/s:       files     memory       ours        raw   bfloat16  ours/files  ours/memory  ours/raw    matrix"
        "  bfloat16/ours"
    )
    results = {}
    with device.configured(where.type, None):  # the arithmetic of a run, for the usual loops too
        for name in arguments.models:
            results[name] = compete(name, where, arguments)
            print(line(name, results[name]), flush=True)
    record("throughput", results, where)


if __name__ == "__main__":
    main()
