import pytest
import torch
from torch import nn

from rebuttal.errors import ConfigError
from rebuttal.models import MLP, VGG11, ResNet18


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        (MLP(hidden=(512, 512, 512)), (3, 28, 28), 1_735_178),  # Zhang et al. 2017, Table 1
        (MLP(hidden=(512,)), (3, 28, 28), 1_209_866),  # likewise
        (MLP(hidden=()), (3, 32, 32), 3072 * 10 + 10),
        (MLP(hidden=(256, 128, 64)), (100,), 100 * 256 + 256 * 128 + 128 * 64 + 64 * 10 + 256 + 128 + 64 + 10),
        (ResNet18(), (3, 32, 32), 11_173_962),
        (VGG11(), (3, 32, 32), 9_231_114),
        (VGG11(batch_norm=False), (3, 32, 32), 9_225_610),
    ],
)
def test_parameter_counts(model, shape, parameters):
    assert count(model.network(shape, 10)) == parameters


@pytest.mark.parametrize("model", [ResNet18(), VGG11(), VGG11(batch_norm=False), MLP(hidden=(16,))])
@pytest.mark.parametrize(("shape", "classes"), [((3, 28, 28), 10), ((1, 17, 33), 3), ((4, 8, 8), 2)])
def test_any_image_shape_and_class_count(model, shape, classes):
    logits = model.network(shape, classes)(torch.rand(2, *shape))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("model", [ResNet18(), VGG11()])
def test_a_convolutional_model_rejects_vectors(model):
    with pytest.raises(ConfigError, match=r"needs images, but the dataset's inputs have shape \[100\]"):
        model.network((100,), 10)


def test_an_mlp_is_the_formula():
    network = MLP(hidden=(5, 4)).network((2, 3), 2)
    first, second, last = (layer for layer in network if isinstance(layer, nn.Linear))
    x = torch.rand(7, 2, 3)
    hidden = (x.reshape(7, 6) @ first.weight.T + first.bias).relu()
    hidden = (hidden @ second.weight.T + second.bias).relu()
    assert torch.allclose(network(x), hidden @ last.weight.T + last.bias, atol=1e-6)


def test_a_linear_model_has_no_hidden_layer():
    network = MLP(hidden=()).network((4,), 3)
    x, y = torch.rand(5, 4), torch.rand(5, 4)
    assert torch.allclose(network(x) + network(y), network(x + y) + network(torch.zeros(1, 4)), atol=1e-6)
