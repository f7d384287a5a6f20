"""What a GPU computes, compared with the CPU: run by `pytest -m gpu` on a machine that has one, and by nothing else.

The bounds leave room for another order of summation in float32: on the CPU, float32 and float64 differ by 1e-6 or less
where 1e-4 is allowed. TF32 would change these logits by 3e-4 to 1e-3.
"""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.nn import functional as F

from rebuttal import train as command
from rebuttal.config import CONFIG_DIR
from rebuttal.data import UniformNoise
from rebuttal.data.examples import in_unit_range
from rebuttal.data.labels import random_labels
from rebuttal.device import configured, float32_arithmetic, machine
from rebuttal.functions.hash import HashFunction
from rebuttal.measures.gradients import GradientNorms
from rebuttal.measures.measure import Probes
from rebuttal.measures.operator_norms import OperatorNorms
from rebuttal.measures.path_norm import PathNorm
from rebuttal.models import MLP, VGG11, ResNet18
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.seeds import torch_stream
from rebuttal.stages import Fit
from rebuttal.stages.networks import new_network
from rebuttal.stages.session import Session
from rebuttal.training import SGD, AdamW, Cosine
from rebuttal.training.evaluation import Evaluation, predict
from rebuttal.training.loop import Support, train
from tests import golden
from tests.measures.conftest import subject
from tests.store.test_checkpoints import Killed, at_every_step, killed_at
from tests.training.test_step import Watched

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # of CUDA's libraries, whichever they are

DEVICE = "cuda"
VECTORS = UniformNoise(shape=(20,), train_size=120, test_size=80)
IMAGES = UniformNoise(shape=(3, 16, 16), train_size=120, test_size=80)
MODELS = {"mlp": MLP(hidden=(64, 32)), "resnet18": ResNet18(), "vgg11": VGG11()}


@pytest.fixture(autouse=True)
def _as_a_run_computes(request):
    """Skip where there is no GPU and where nobody asked for these tests; else set the flags of a run."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible here")
    if "gpu" not in request.config.option.markexpr:
        pytest.skip("run by pytest -m gpu")
    with configured(DEVICE, None):
        yield


@pytest.fixture
def sessions(session):
    """A session on the CPU and one on the GPU, each with a store of its own."""
    settings = session.settings
    return [Session(replace(settings, device=name, store=f"{settings.store}/{name}")) for name in ("cpu", DEVICE)]


def both(name, recipe, data=IMAGES):
    """The same new network in evaluation mode on the CPU and on the GPU."""
    here = new_network(MODELS[name], CropAndNormalise(), data, 0, "test")
    here.preprocess.fit(data.examples("train", 0).inputs)
    return here.eval(), copy.deepcopy(here).to(DEVICE)


def error(found, expected):
    """The largest difference, in units of the largest expected value."""
    return ((found.cpu() - expected).abs().max() / expected.abs().max()).item()


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


VIEWS = {
    "whole": lambda x: x,
    "part": lambda x: x[:, 1:, 2:7],
    "transposed": lambda x: x.transpose(0, 1),
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_pixels_are_the_same_inputs_bit_for_bit(view):
    for images in (torch.arange(256, dtype=torch.uint8).reshape(4, 4, 4, 4).repeat(1, 1, 2, 2), pixels(500, 3, 32, 32)):
        found = in_unit_range(view(images.to(DEVICE)))
        assert found.device.type == DEVICE and torch.equal(found.cpu(), in_unit_range(view(images)))


def test_the_hash_of_pixels_and_of_floats_is_the_same_bit_for_bit():
    images, function = pixels(300, 3, 8, 8), HashFunction.draw(classes=10, seed=0)
    for inputs in (images, in_unit_range(images)):
        logits = function(inputs.to(DEVICE))
        assert logits.device.type == DEVICE and torch.equal(logits.cpu(), function(images))


@pytest.mark.parametrize(("optimizer", "mode"), [
    (SGD(), None), (SGD(nesterov=True), None), (SGD(), "default"), (SGD(), "reduce-overhead"),
])  # fmt: skip
def test_a_few_steps_in_float32_give_the_same_network(optimizer, mode, recipe, sessions):
    """Within 1e-4 of the largest weight of each layer after 12 steps, the losses within 1e-4; compiled or not."""
    training = recipe(optimizer=optimizer, lr=0.05, epochs=2, batch_size=20, compile=mode)
    fit = Fit(model=MODELS["mlp"], dataset=VECTORS, corruption=random_labels(), training=training, seed=0)
    here, there = (fit.artifact(session) for session in sessions)
    assert all(error(there.tensors[name], tensor) < 1e-4 for name, tensor in here.tensors.items())
    losses, again = ([row["loss"] for row in found.record["history"]] for found in (here, there))
    assert again == pytest.approx(losses, rel=1e-4)


def test_a_trained_network_leaves_the_gpu_when_it_is_stored(recipe, sessions):
    session = sessions[1]
    fit = Fit(model=MODELS["mlp"], dataset=VECTORS, corruption=random_labels(), training=recipe(epochs=1), seed=0)
    artifacts = [fit.artifact(session), *session.store._memory.values()]
    assert len(artifacts) == 2
    assert {tensor.device.type for found in artifacts for tensor in found.tensors.values()} == {"cpu"}
    assert next(fit.network(session).parameters()).device.type == DEVICE


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_same_within_1e_4_of_the_largest(name, recipe):
    here, there = both(name, recipe)
    inputs = IMAGES.examples("test", 0).inputs
    assert error(predict(there, inputs.to(DEVICE)), predict(here, inputs)) < 1e-4
    images = pixels(80, 3, 16, 16)
    assert error(predict(there, images.to(DEVICE)), predict(here, images)) < 1e-4


def findings(measure, network, inputs):
    probes = Probes({"test": inputs}, torch.zeros(len(inputs), dtype=torch.long), 2**28, np.random.default_rng(0))
    return measure(subject(network, 10), probes).numbers


@pytest.mark.parametrize("name", MODELS)
def test_gradient_norms_are_the_same_within_1e_3(name, recipe):
    """A pre-activation near 0 may fall on the other side, which changes that probe's gradient."""
    here, there = both(name, recipe)
    inputs = IMAGES.examples("test", 0).inputs[:40]
    expected = findings(GradientNorms(), here, inputs)
    assert findings(GradientNorms(), there, inputs.to(DEVICE)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("measure", [PathNorm(), OperatorNorms()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", MODELS)
def test_path_and_operator_norms_are_computed_in_float64_and_the_same(name, measure, recipe):
    """Within 1e-9; within 1e-4 where they are divided by the spread of the logits."""
    here, there = both(name, recipe)
    inputs = IMAGES.examples("test", 0).inputs
    expected, found = findings(measure, here, inputs), findings(measure, there, inputs.to(DEVICE))
    assert found.keys() == expected.keys() and len(found) > 2
    for key, value in expected.items():
        if key != "operator_residual":  # of rounding
            assert found[key] == pytest.approx(value, rel=1e-4 if key.endswith("_scaled") else 1e-9), key


@pytest.mark.parametrize("optimizer", [SGD(nesterov=True), AdamW()])
@pytest.mark.parametrize("kills", [(2,), (7, 11)])
def test_a_training_resumes_with_the_same_dropout_and_order(optimizer, kills, recipe, tmp_path):
    """The weights are the same within 1e-6 of the largest: a mask or an order of its own would change them by 1e-2."""
    data = VECTORS.examples("train", 0).to(torch.device(DEVICE))
    settings = recipe(optimizer=optimizer, lr=0.01, epochs=3, batch_size=24, schedule=Cosine(), warmup_epochs=1.0)

    def fit(support=None, seed=3):
        torch.manual_seed(0)
        layers = nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)
        network = nn.Sequential(*layers).to(DEVICE)
        torch.manual_seed(seed)
        order = np.random.default_rng(seed)
        train(network, *(data.inputs, data.labels), F.cross_entropy, settings, order, None, "fit", support)
        return network.state_dict()

    expected, other = fit(), fit(seed=4)
    path = tmp_path / "checkpoint"
    for kill in kills:
        with pytest.raises(Killed):
            fit(Support(at_every_step(path), killed_at(kill)), seed=3 if not path.exists() else 4)
    found = fit(Support(at_every_step(path)), seed=5)
    assert all(error(found[name], tensor.cpu()) < 1e-6 for name, tensor in expected.items())
    assert error(other["0.weight"], expected["0.weight"].cpu()) > 1e-3


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_tf32_is_on_in_the_steps_of_that_precision_and_never_in_evaluation(precision, recipe):
    network, on = Watched().to(DEVICE), precision == "tf32"
    inputs, labels = torch.rand(60, 5, device=DEVICE), torch.zeros(60, dtype=torch.long, device=DEVICE)

    settings, order = recipe(epochs=2, precision=precision), np.random.default_rng(0)
    train(network, inputs, labels, F.cross_entropy, settings, order, Evaluation(inputs, labels), "fit")
    assert set(network.seen) == {("train", on, on), ("backward", on, on), ("evaluate", False, False)}


def rms_error(compute, *operands):
    """The error of a product on the GPU, in units of its root mean square."""
    exact = compute(*(operand.double().cpu() for operand in operands))
    found = compute(*operands).double().cpu()
    return ((found - exact).norm() / exact.norm()).item()


def test_products_and_convolutions_are_as_exact_as_the_precision_says():
    a, b = torch.randn(512, 512, device=DEVICE), torch.randn(512, 512, device=DEVICE)
    images, kernels = torch.randn(32, 64, 16, 16, device=DEVICE), torch.randn(64, 64, 3, 3, device=DEVICE)
    assert rms_error(torch.matmul, a, b) < 1e-5
    assert rms_error(lambda x, w: F.conv2d(x, w, padding=1), images, kernels) < 1e-5
    if DEVICE == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        with float32_arithmetic(tf32=True):
            assert 1e-5 < rms_error(torch.matmul, a, b) < 1e-2
        assert rms_error(torch.matmul, a, b) < 1e-5


def test_a_torch_stream_leaves_the_generators_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3), torch.rand(3, device=DEVICE)
    torch.manual_seed(5)
    with torch_stream(0, "fit", "dropout"):
        inside = torch.rand(3, device=DEVICE)
    assert torch.equal(torch.rand(3), expected[0]) and torch.equal(torch.rand(3, device=DEVICE), expected[1])
    with torch_stream(0, "fit", "dropout"):
        assert torch.equal(torch.rand(3, device=DEVICE), inside)


@pytest.mark.parametrize("experiment", golden.EXPERIMENTS)
def test_every_experiment_runs_and_finds_the_numbers_that_it_finds_on_the_cpu(experiment, tmp_path):
    """By name; their values depend on the order of 60 logits, some of which are nearly equal."""
    images = golden.save_golden_images(tmp_path / "images")
    overrides = [*golden.overrides(experiment, images), f"device={DEVICE}", f"store={tmp_path / 'store'}"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", overrides)
    metrics = command.run(cfg, tmp_path / "run")
    known = json.loads((golden.FOLDER / f"{experiment}.json").read_text())["metrics"]
    assert metrics.keys() == known.keys()
    assert all(value is None or math.isfinite(value) for value in metrics.values())
    assert (machine()["gpu"] is None) == (DEVICE != "cuda")
