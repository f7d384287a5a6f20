"""Every experiment, function and measure on every kind of dataset: floats and uint8 pixels, vectors and images."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir

from rebuttal import functions, train
from rebuttal.config import CONFIG_DIR
from rebuttal.data import ImageFolder, RandomLabels, RandomWalk
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError
from rebuttal.models import MLP
from rebuttal.stages import Fit, Mimic
from rebuttal.training.evaluation import predict
from tests.conftest import save_images
from tests.golden import EXPERIMENTS
from tests.parameters import some_slow

SMALL = ["debug=tiny", "model=mlp_toy", "training.epochs=1", "dataset.test_size=20", "dataset.train_size=24"]
SMALL += ["dataset.student_size=24", "measuring.probes=3", "measuring.climbs=1", "measuring.lines=1", "device=cpu"]
KINDS = {
    "float vectors": ["dataset=uniform_noise", "dataset.shape=[12]"],
    "float images": ["dataset=uniform_noise", "dataset.shape=[3,8,8]"],
    "uint8 vectors": ["dataset=random_walk", "dataset.shape=[12]"],
    "uint8 images": ["dataset=image_folder"],
}
# What it needs to run on the kinds above: sizes of its own, that the images have; no crop.
PLANE = ["stages.map.train_sizes=[12,24]", "stages.map.student_sizes=[12,24]", "stages.map.line_train_sizes=[12]"]
CURVE = ["stages.sample_efficiency.train_sizes=[12,24]", "stages.sample_efficiency.student_sizes=[12,24]"]
OF_EXPERIMENT = {"sample_efficiency": CURVE, "map": PLANE, "zhang": ["preprocess=none"]}
REFUSED = {
    **{("random_walk", kind): "its teacher fits no random walk" for kind in ("float images", "uint8 images")},
    **{("random_walk", kind): "a strip shows images" for kind in ("float vectors", "uint8 vectors")},
    ("leak", "uint8 images"): "dataset.classes=100: allowed: 2 to 2",
    ("map", "uint8 images"): "dataset=ImageFolder has no shape to vary",
    **{
        (experiment, kind): "needs images"
        for experiment in ("architectures", "corruption", "frequency")
        for kind in ("float vectors", "uint8 vectors")
    },
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    save_images(root, {f"{split}/{name}": 30 for split in ("train", "test") for name in ("cat", "dog")}, size=(8, 8))
    return root


SLOW = ("architectures", "two_stage", "smoothness", "frequency", "corruption", "random_walk", "sample_efficiency")
SLOW += ("map", "leak", "questions")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experiment", some_slow(EXPERIMENTS, *SLOW))
def test_every_experiment_runs_on_every_kind_of_data_or_is_refused_in_one_line(experiment, kind, images, tmp_path):
    overrides = [f"experiment={experiment}", *SMALL, *KINDS[kind], f"store={tmp_path}"]
    overrides += [f"dataset.root={images}"] if kind == "uint8 images" else []
    overrides += OF_EXPERIMENT.get(experiment, [])
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", overrides)
    if (experiment, kind) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[experiment, kind]) as caught:
            train.run(cfg)
        assert "\n" not in str(caught.value)
        return
    metrics = train.run(cfg, tmp_path / "run")
    assert metrics and all(value is None or math.isfinite(value) for value in metrics.values())


FUNCTIONS = {
    "trained": lambda fit, student: functions.Trained(fit=fit),
    "new_inputs": lambda fit, student: functions.Trained(fit=fit, batch_norm="new_inputs"),
    "independent": lambda fit, student: functions.independent(fit),
    "refitted": lambda fit, student: functions.refitted(fit),
    "student": lambda fit, student: functions.Student(mimic=student),
    "untrained": lambda fit, student: functions.Untrained(fit=fit),
    "hash": lambda fit, student: functions.Hash(fit=fit),
    "nearest_neighbour": lambda fit, student: functions.NearestNeighbour(fit=fit),
    "linear": lambda fit, student: functions.Linear(fit=fit),
    "fourier": lambda fit, student: functions.Fourier(fit=fit),
    "theorem1": lambda fit, student: functions.Theorem1(fit=fit),
    "kernel": lambda fit, student: functions.Kernel(fit=fit),
    "matched": lambda fit, student: functions.Matched(of=functions.Linear(fit=fit), to=functions.Trained(fit=fit)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", ["walk of vectors", "walk of images", "images"])
def test_a_function_of_pixels_is_that_of_the_same_inputs_as_floats(kind, name, images, recipe, session):
    sizes = {"train_size": 24, "student_size": 24, "test_size": 20}
    shape = (12,) if kind == "walk of vectors" else (3, 8, 8)
    walk = RandomWalk(shape=shape, classes=4, **sizes)
    dataset = ImageFolder(root=str(images), **sizes) if kind == "images" else walk
    model, labels = MLP(hidden=(8,)), RandomLabels(fraction=1.0)
    fit = Fit(model=model, dataset=dataset, corruption=labels, training=recipe(epochs=1), seed=0)
    learner = {"model": None, "dataset": None, "training": recipe(epochs=1), "target": "hard", "temperature": 1.0}
    student = Mimic(teacher=functions.Hash(fit=fit), **learner, seed=0)
    function = FUNCTIONS[name](fit, student).function(session)
    pixels = session.examples(dataset, "test", 0).inputs
    assert pixels.dtype == torch.uint8
    logits = predict(function, pixels)
    assert logits.isfinite().all() and logits.unique(dim=0).shape[0] > 1
    assert torch.equal(logits, predict(function, in_unit_range(pixels)))
