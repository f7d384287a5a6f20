"""The whitened network against its published description."""

import pytest
import torch
from torch import nn

from rebuttal.data import UniformNoise
from rebuttal.errors import ConfigError
from rebuttal.models import AirBench, CropAndNormalise
from rebuttal.models.airbench import EPSILON, Whitening, patch_covariance
from rebuttal.stages.networks import INITIAL_INPUTS, Network, empty_network, parameter_count

SMALL = AirBench(widths=(8, 12))


def natural(n=200, channels=3, side=12):
    """Images whose neighbouring pixels and channels are alike."""
    random = torch.Generator().manual_seed(0)
    smooth = nn.functional.avg_pool2d(torch.randn(n, channels, side + 2, side + 2, generator=random), 3, 1)
    return smooth + smooth.mean(dim=1, keepdim=True) + 0.3


@pytest.mark.parametrize(("shape", "classes", "count"), [((3, 32, 32), 10, 1_972_792), ((1, 28, 28), 7, 1_962_536)])
def test_it_has_as_many_parameters_as_published_and_costs_nothing_on_the_meta_device(shape, classes, count, tmp_path):
    source = UniformNoise(shape=shape, classes=classes, train_size=9, test_size=9).open(tmp_path)
    network = empty_network(AirBench(), CropAndNormalise(), source)
    assert parameter_count(network) == count
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shape", "classes"), [((3, 16, 16), 10), ((1, 17, 33), 3), ((4, 2, 2), 2), ((3, 64, 64), 100)]
)
def test_any_image_shape_and_class_count(shape, classes):
    network = SMALL.network(shape, classes)
    network.initialise_from(torch.rand(5, *shape))
    logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, classes) and logits.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "line"), [((3, 1, 9), "needs images of at least 2x2"), ((5,), "needs images, but the dataset's")]
)
def test_it_says_which_inputs_it_cannot_take(shape, line):
    with pytest.raises(ConfigError, match=line):
        AirBench().network(shape, 10)


def test_whitened_patches_have_the_identity_as_covariance():
    images = natural()
    whitening = Whitening(3, bias_epochs=3)
    whitening.initialise_from(images)
    variances = torch.linalg.eigvalsh(patch_covariance(images)).flip(0)
    outputs = whitening(images).detach().double().transpose(0, 1).flatten(1)
    found = torch.cov(outputs[:12], correction=0)
    assert torch.allclose(found, torch.diag(variances / (variances + EPSILON)), atol=1e-4)
    assert torch.allclose(found, torch.eye(12, dtype=torch.float64), atol=0.05)
    assert torch.allclose(outputs[12:], -outputs[:12], atol=1e-5)


def test_the_covariance_of_patches_is_that_of_all_of_them():
    images = natural(n=7)
    patches = nn.functional.unfold(images.double(), 2).transpose(0, 1).flatten(1)
    assert torch.allclose(patch_covariance(images), torch.cov(patches, correction=0), atol=1e-12)


def test_it_is_whitened_in_the_space_of_the_preprocessed_inputs_of_every_class():
    pixels = (natural(n=2 * INITIAL_INPUTS + 1, side=3) * 60 + 128).clamp(0, 255).to(torch.uint8)
    network = Network(CropAndNormalise().layer((3, 3, 3), False), SMALL.network((3, 3, 3), 2))
    network.fit(pixels)
    outputs = network.body[0](network.preprocess(pixels)).detach().transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(outputs[:12]), torch.eye(12), atol=0.1)


def test_convolutions_start_as_the_identity():
    x = torch.rand(2, 24, 9, 9)
    convolutions = [m for m in AirBench().network((3, 32, 32), 10) if isinstance(m, nn.Conv2d)][1:]
    for convolution in convolutions:
        x = torch.rand(2, convolution.in_channels, 6, 6)
        assert torch.equal(convolution(x)[:, : convolution.in_channels], x)
        assert convolution(x).shape[1] == convolution.out_channels


def test_what_is_trained():
    """Neither whitening nor the scales of batch-norms; the whitened layer's bias in the first epochs."""
    network = AirBench(bias_epochs=2).network((3, 32, 32), 10)
    held = {id(network[0].weight)} | {id(m.weight) for m in network if isinstance(m, nn.BatchNorm2d)}
    for epoch in (1, 2, 3):
        network.start_epoch(epoch)
        fixed = held | ({id(network[0].bias)} if epoch == 3 else set())
        assert {id(p) for p in network.parameters() if not p.requires_grad} == fixed


def test_logits_are_scaled():
    x = torch.rand(2, 3, 16, 16)
    networks = []
    for scale in (1 / 9, 1.0):
        torch.manual_seed(0)
        networks.append(AirBench(widths=(8,), scale=scale).network((3, 16, 16), 5).eval())
    assert torch.allclose(9 * networks[0](x), networks[1](x), atol=1e-6)
