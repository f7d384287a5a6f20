"""On the 60,000 images of the JPEG copy of CIFAR-10. Skipped where REBUTTAL_CIFAR10_JPEG does not name it."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import rebuttal
from rebuttal.data import ImageFolder
from rebuttal.report.claims import read_claims

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images():
    path = os.environ.get("REBUTTAL_CIFAR10_JPEG")
    if path is None:
        pytest.skip("REBUTTAL_CIFAR10_JPEG does not name the JPEG copy of CIFAR-10")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One for all workers: what a test of another worker has decoded or trained is there."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store_of_real_data"


@pytest.fixture
def baseline(images, store):
    def run(*overrides):
        real = ["dataset=image_folder", f"dataset.root={images}", f"store={store}"]
        frame = rebuttal.run("baseline", [*real, *overrides])
        return frame.set_index("measure")["value"]

    return run


@pytest.mark.first
def test_a_study_judges_every_claim_and_the_second_time_does_nothing(images, tmp_path):
    root = Path(__file__).parent.parent
    tiny = f"{sys.executable} -m rebuttal.train -m size=study debug=tiny judged=true hydra.sweeper.params.seed=0"
    study = ["make", "-f", root / "Makefile", "-o", ".venv/installed", f"BIN={Path(sys.executable).parent}"]
    study += [f"STUDY={tiny}", f"IMAGES={images}", "AT_1000=hydra.sweep.dir=outputs/study/leak_1000"]
    study += ["SUBSET=", "ON_SUBSET=$(CONVOLUTIONS) model.widths=[8,8,8]", "study"]  # of the sizes of debug=tiny
    said = []
    for _ in range(2):
        environment = os.environ | {"PYTHONPATH": str(root)}
        done = subprocess.run(study, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        said.append(done.stdout)
    claims = pd.read_csv(tmp_path / "results/processed/claims.csv")
    assert set(claims["claim"]) == {claim.id for claim in read_claims()}
    not_run = claims.loc[claims["verdict"] == "not run", ["claim", "region"]].fillna("")
    assert set(not_run["claim"] + ": " + not_run["region"]) == {
        "student_agrees_classes: K = 100, r ≥ 5, the teacher's own inputs",  # of more inputs, as all K = 100 and 1,000
        "student_agrees_probabilities: K = 100, r ≤ 3",
        "student_agrees_probabilities: K = 100, r ≥ 5",
        "memorised_labels_pass_on: K = 100, r ≥ 5",
        "ten_times_fewer_inputs: K = 100",
        "ten_times_fewer_inputs: K = 1,000",
        *(claim.name for claim in read_claims() if claim.experiment == "zhang"),  # of other runs
        "true_labels_generalize: ",  # of all images
    }
    jobs = len(list((tmp_path / "outputs/study").rglob("metrics.json")))
    first, second = (ended(text) for text in said)
    assert set(first) <= {"done", "from store"} and sum(first.values()) == jobs
    assert second == {"from store": jobs}


def ended(said):
    """How many jobs of all sweeps ended in which way, by the line that closes each sweep."""
    closing = re.findall(r"^outputs/study/\w+: (.+)$", said, re.M)
    counted = Counter()
    for count, state in re.findall(r"(\d+) ([a-z ]+)", " ".join(f"{line}," for line in closing)):
        counted[state] += int(count)
    return counted


def test_the_decoded_set_is_cifar_10_s(images, store):
    decoded = ImageFolder(root=images).read(store)
    assert " ".join(decoded.class_names) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert decoded.train.shape == (50_000, 3, 32, 32) and decoded.test.shape == (10_000, 3, 32, 32)
    assert decoded.train_labels.bincount().tolist() == [5000] * 10
    assert decoded.test_labels.bincount().tolist() == [1000] * 10
    means = [decoded.train[:, c].double().mean().item() / 255 for c in range(3)]
    assert means == pytest.approx([0.4913, 0.4821, 0.4465], abs=5e-4)
    assert decoded.train.dtype == torch.uint8


def test_zhang_s_recipe_learns_true_labels_from_the_start_and_random_ones_slowly(baseline):
    true = baseline("model=mlp_1x512", "training=zhang", "training.epochs=3")
    random = baseline("model=mlp_1x512", "training=zhang", "training.epochs=3", "corruption=random")
    # After 3 epochs, seed 0: 57.7 % train and 49.5 % test; random 18.6 % and 11.6 %.
    assert 0.54 < true["train_accuracy"] < 0.61 and 0.46 < true["test_accuracy"] < 0.52
    assert 0.15 < random["train_accuracy"] < 0.22 and 0.085 < random["test_accuracy"] < 0.125
    assert random["label_noise"] == pytest.approx(0.9, abs=0.006)


@pytest.mark.parametrize("corruption", ["none", "random", "permuted"])
def test_an_mlp_fits_a_thousand_images_whatever_their_labels(baseline, corruption):
    found = baseline("model=mlp", "dataset.train_size=1000", f"corruption={corruption}", "training.stop_accuracy=1.0")
    assert found["train_accuracy"] == 1.0
    assert found["epochs_to_fit"] == found["epochs"] <= 50
    if corruption == "none":
        assert found["test_accuracy_low"] > 0.3
    else:
        assert found["test_accuracy"] == pytest.approx(0.1, abs=0.025)


def test_resnet18_fits_forty_random_labels(baseline):
    sizes = ["dataset.train_size=40", "dataset.test_size=100", "training.batch_size=10"]
    found = baseline("model=resnet18", *sizes, "corruption=random", "training.stop_accuracy=1.0")
    assert found["train_accuracy"] == 1.0


def test_test_accuracy_falls_as_more_labels_are_random(baseline):
    levels = (0.0, 0.5, 1.0)
    common = ["model=mlp", "dataset.train_size=5000", "training.epochs=15", "corruption=partial"]
    found = [baseline(*common, f"corruption.fraction={p}")["test_accuracy"] for p in levels]
    assert spearmanr(levels, found).statistic == pytest.approx(-1.0)
    assert found[0] > 0.4 and found[-1] < 0.13
