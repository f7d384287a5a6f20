"""Every dataset by its name, in two forms: the second one finds the networks that were trained on the first."""

import math

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from rebuttal import train
from rebuttal.config import CONFIG_DIR
from rebuttal.data import Arrays, Mixture
from rebuttal.models import MLP
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.stages.networks import empty_network
from tests.data import cifar_files, test_arrays, test_cifar_forms, test_idx, test_svhn

SMALL = ["debug=tiny", "model=mlp_toy", "training.epochs=1", "device=cpu"]
SMALL += ["dataset.train_size=30", "dataset.student_size=30", "dataset.test_size=12"]


def run(place, *overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [*SMALL, *overrides, f"store={place / 'store'}"])
    metrics = train.run(cfg)
    assert metrics and all(value is None or math.isfinite(value) for value in metrics.values())
    trained = {p.parent for p in (place / "store").rglob("record.json") if p.parts[-3] != "images"}
    return metrics, trained


def cifar10(place):
    for form in ("Python folder", "Parquet"):
        root = test_cifar_forms.save(form, cifar_files.records(), place / form)[0]
        yield "experiment=baseline", "dataset=cifar10", f"dataset.root={root}"


def cifar100(place):
    for form in ("Python archive", "binary folder"):
        yield (
            "experiment=baseline",
            "dataset=cifar100",
            f"dataset.root={test_cifar_forms.hundred(place / form, form)[0]}",
        )


def digits():
    rng = np.random.default_rng(0)
    return [
        rng.integers(256 if len(s) == 3 else 10, size=s, dtype=np.uint8)
        for s in [(120, 9, 8), (120,), (30, 9, 8), (30,)]
    ]


def mnist(place):
    for compress in (True, False):
        yield (
            "experiment=baseline",
            "dataset=mnist",
            f"dataset.root={test_idx.save(place / str(compress), digits(), compress=compress)}",
        )


def fashion_mnist(place):
    raw = test_idx.save(place / "FashionMNIST/raw", digits())
    for root in (raw, place):
        yield "experiment=baseline", "dataset=fashion_mnist", f"dataset.root={root}"


def svhn(place):
    folder = test_svhn.save(place / "a/SVHN")
    for root in (folder, folder.parent):
        yield (
            "experiment=baseline",
            "dataset=svhn",
            f"dataset.root={root}",
            "dataset.train_size=20",
            "dataset.student_size=20",
        )


def vectors(place):
    for name in ("a.npz", "a.parquet"):
        x = np.concatenate([test_arrays.X] * 3) + np.arange(120)[:, None] * [0, 1e-3, 1, 1e3, 1e4]
        path = test_arrays.save(place / name, {"x": x, "y": np.concatenate([test_arrays.Y] * 3)})
        yield "experiment=two_stage", "dataset=arrays", f"dataset.path={path}", "dataset.test_fraction=0.2"


def images(place):
    for name in ("a.safetensors", "a"):
        arrays = {"x": np.concatenate([test_arrays.PIXELS] * 3), "y": np.concatenate([test_arrays.Y] * 3)}
        yield (
            "experiment=two_stage",
            "dataset=arrays",
            f"dataset.path={test_arrays.save(place / name, arrays)}",
            "dataset.test_fraction=0.2",
        )


@pytest.mark.parametrize("dataset", [cifar10, cifar100, mnist, fashion_mnist, svhn, vectors, images])
def test_the_networks_of_one_form_are_found_for_the_other(dataset, tmp_path):
    (tmp_path / "data").mkdir()
    one, other = dataset(tmp_path / "data")
    metrics, trained = run(tmp_path, *one)
    again, then = run(tmp_path, *other)
    assert again == metrics and then == trained and trained


def test_a_network_normalises_features_one_by_one_and_pixels_together(recipe, tmp_path):
    pixels = test_arrays.save(tmp_path / "pixels.npz", {"x": test_arrays.PIXELS[:, 0, 0], "y": test_arrays.Y})
    features = Arrays(path=next(vectors(tmp_path))[2].partition("=")[2], test_fraction=0.2)
    mixture = Mixture(new=features, towards=features, share=0.5)
    for dataset, size in ((features, 5), (mixture, 5), (Arrays(path=str(pixels), test_fraction=0.2), 1)):
        preprocess = empty_network(MLP(hidden=(8,)), CropAndNormalise(), dataset.open(tmp_path)).preprocess
        assert preprocess.mean.shape == preprocess.std.shape == (size,)
