import contextlib
import io
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rebuttal.progress.trackers import NoTracker
from rebuttal.stages.session import Session, Settings
from rebuttal.training import AdamW, Constant, CrossEntropy, Recipe, side_by_side
from tests.command_line import STARTED

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    while STARTED:
        process = STARTED.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def session(tmp_path):
    return Session(
        Settings(
            name="test",
            seed=0,
            device="cpu",
            store=str(tmp_path / "store"),
            force=False,
            objective=None,
            checkpoint=60.0,
            batch_size="whole",
            threads=None,
            jobs_per_gpu=1,
            on_failure="go_on",
            packages=(),
            tracker=NoTracker(),
        )
    )


@pytest.fixture
def stacks(monkeypatch):
    """The number of networks in each stack that is trained."""
    sizes = []
    train = side_by_side.train_stacked

    def counted(members, checkpoint):
        sizes.append(len(members))
        train(members, checkpoint)

    monkeypatch.setattr(side_by_side, "train_stacked", counted)
    return sizes


@pytest.fixture
def recipe():
    """Builds a recipe that is plain but for what a test asks."""

    def build(**changes):
        plain = {
            "optimizer": AdamW(),
            "lr": 1e-3,
            "weight_decay": 0.0,
            "schedule": Constant(),
            "warmup_epochs": 0.0,
            "epochs": 3,
            "batch_size": 32,
            "loss": CrossEntropy(),
            "augmentation": None,
            "stop_accuracy": None,
            "stop_loss": None,
            "precision": "float32",
        }
        return Recipe(**plain | changes)

    return build


def save_images(root: Path, counts: dict[str, int], size=(8, 8), suffix="png") -> np.ndarray:
    """Write random images, `counts` of each "split/class"; returns them all, (n, H, W, 3)."""
    rng = np.random.default_rng(0)
    every = []
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / folder / f"{i:04}.{suffix}")
            every.append(image)
    return np.stack(every)


def pack(folder: Path, archive: Path, prefix: str = "") -> Path:
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                tar.add(path, f"{prefix}{path.relative_to(folder)}")
    return archive


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
