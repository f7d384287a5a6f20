"""The toy experiment's trainings as a script of plain PyTorch does them: a DataLoader, one network after the other.

    python -m benchmarks.usual toy --judge every        # a teacher, four students, and the learning curve's six
    python -m benchmarks.usual many --networks 100      # so many networks, each fitted to random labels of its own

`--judge every`: accuracy on the training set and on the held-out inputs after each epoch, as most scripts do; `last`:
after the last one only. Nothing is drawn, stored or resumed, and nothing of rebuttal's is used. `benchmarks.peers`
times it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SIZE, CLASSES, HIDDEN, BATCH = 100, 10, (256, 128, 64), 128
TEACHER_INPUTS, STUDENT_INPUTS, HELD_OUT, EPOCHS = 1000, 10_000, 10_000, 30
SHARES = (0.03, 0.1, 0.3)  # of the learning curve; its last point is the student itself
MANY_INPUTS, MANY_EPOCHS = 3840, 10

Loss = Callable[[Tensor, Tensor], Tensor]
Examples = tuple[Tensor, Tensor]  # inputs and their classes


def network() -> nn.Sequential:
    sizes = (SIZE, *HIDDEN, CLASSES)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def share_right(model: nn.Module, examples: Examples) -> float:
    model.eval()
    inputs, classes = examples
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(inputs.split(BATCH), classes.split(BATCH)))
    return right / len(inputs)


def fit(
    inputs: Tensor, targets: Tensor, loss: Loss, epochs: int, held_out: Examples, often: bool
) -> tuple[nn.Module, float]:
    """Train a new network, and judge it after every epoch or after the last."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    loader = DataLoader(TensorDataset(inputs, targets), BATCH, shuffle=True)
    classes = targets if targets.ndim == 1 else targets.argmax(1)
    reached = 0.0
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            running += value.item()
        if often or epoch == epochs - 1:
            share_right(model, (inputs, classes))
            reached = share_right(model, held_out)
    return model.eval(), reached


@torch.no_grad()
def answers(teacher: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    return torch.cat([teacher(x) for x in inputs.split(BATCH)])


def toy(often: bool) -> None:
    """A teacher of random labels, its students of classes and of logits, and a student of each control."""
    inputs, new, held_out = (torch.rand(n, SIZE) for n in (TEACHER_INPUTS, STUDENT_INPUTS, HELD_OUT))
    labels, other_labels = (torch.randint(CLASSES, (n,)) for n in (TEACHER_INPUTS, HELD_OUT))
    teacher, _ = fit(inputs, labels, F.cross_entropy, EPOCHS, (held_out, other_labels), often)
    untrained, weights = network().eval(), torch.randint(2**30, (SIZE,))

    def hashed(x: Tensor) -> Tensor:
        return F.one_hot(((x * 2**20).long() @ weights) % CLASSES, CLASSES).float()

    def student(name: str, teacher: Callable[[Tensor], Tensor], n: int, of_logits: bool = False) -> None:
        answered, loss = answers(teacher, new[:n]), F.mse_loss if of_logits else F.cross_entropy
        targets = answered if of_logits else answered.argmax(1)
        judged = (held_out, answers(teacher, held_out).argmax(1))
        _, agreement = fit(new[:n], targets, loss, EPOCHS, judged, often)
        print(f"{name}, {n} inputs: agreement {agreement:.3f}")

    for share in (*SHARES, 1.0):
        student("student of classes", teacher, int(share * STUDENT_INPUTS))
        student("student of logits", teacher, int(share * STUDENT_INPUTS), of_logits=True)
    student("student of an untrained network", untrained, STUDENT_INPUTS)
    student("student of a hash", hashed, STUDENT_INPUTS)


def many(count: int, often: bool) -> None:
    """Networks that are each fitted to random labels of its own."""
    for seed in range(count):
        torch.manual_seed(seed)
        inputs, labels = torch.rand(MANY_INPUTS, SIZE), torch.randint(CLASSES, (MANY_INPUTS,))
        held_out = (torch.rand(HELD_OUT, SIZE), torch.randint(CLASSES, (HELD_OUT,)))
        _, accuracy = fit(inputs, labels, F.cross_entropy, MANY_EPOCHS, held_out, often)
        print(f"network {seed}: test accuracy {accuracy:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["toy", "many"])
    parser.add_argument("--judge", choices=["every", "last"], default="every")
    parser.add_argument("--networks", type=int, default=100, help="of many")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    often = arguments.judge == "every"
    if arguments.what == "toy":
        toy(often)
    else:
        many(arguments.networks, often)


if __name__ == "__main__":
    main()
