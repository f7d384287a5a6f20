import pytest
import torch
from torch import nn

from rebuttal.errors import ConfigError
from rebuttal.models import MLP, VGG11, AlexNet, Inception, ResNet18, WideResNet
from rebuttal.models.blocks import Concatenation, Residual


def count(network):
    return sum(p.numel() for p in network.parameters())


OF_ZHANG = [Inception(), Inception(batch_norm=False), AlexNet(), WideResNet(depth=16)]


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
        (Inception(), (3, 28, 28), 1_649_402),  # Zhang et al. 2017, Table 1
        (Inception(batch_norm=False), (3, 28, 28), 1_649_402),  # likewise
        (AlexNet(), (3, 28, 28), 1_387_786),  # likewise
        (WideResNet(), (3, 28, 28), 369_498),
        (WideResNet(depth=16, width=4), (3, 32, 32), 2_748_890),  # Zagoruyko & Komodakis 2016: 2.7 million
    ],
)
def test_parameter_counts(model, shape, parameters):
    assert count(model.network(shape, 10)) == parameters


@pytest.mark.parametrize("model", [ResNet18(), VGG11(), VGG11(batch_norm=False), MLP(hidden=(16,)), *OF_ZHANG])
@pytest.mark.parametrize(("shape", "classes"), [((3, 28, 28), 10), ((1, 17, 33), 3), ((4, 8, 8), 2)])
def test_any_image_shape_and_class_count(model, shape, classes):
    logits = model.network(shape, classes)(torch.rand(2, *shape))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("model", [ResNet18(), VGG11(), Inception(), AlexNet(), WideResNet()])
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


def shapes_after(network, shape, kinds):
    """The output shapes of the modules of these kinds, in order of use."""
    found = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape[1:])))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    network.eval()(torch.rand(1, *shape))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_small_inception_has_the_layers_of_the_paper(batch_norm):
    network = Inception(batch_norm=batch_norm).network((3, 28, 28), 10)
    pairs = [(64, 28), (80, 28), (160, 14), *[(160, 14)] * 3, (144, 14), (240, 7), (336, 7), (336, 7)]
    assert shapes_after(network, (3, 28, 28), Concatenation) == [(channels, side, side) for channels, side in pairs]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == 1 + 8 * 2 + 2 and all(conv.bias is not None for conv in convolutions)
    assert len(norms) == len(convolutions) * batch_norm and all(norm.weight is None for norm in norms)


def test_the_small_inception_keeps_the_variance_without_batch_norm():
    """With initial weights by outputs, narrow layers after wide ones would multiply it."""
    torch.manual_seed(0)
    network = Inception(batch_norm=False).network((3, 28, 28), 10)
    x = torch.randn(20, 3, 28, 28)
    before, after = x.square().mean(), network[:-2](x).square().mean()
    assert 0.1 < after / before < 10


def test_the_small_alexnet_has_the_layers_of_the_paper():
    network = AlexNet().network((3, 28, 28), 10)
    assert [type(layer) for layer in network] == [
        *(nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.LocalResponseNorm) * 2,
        *(nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear),
    ]
    assert shapes_after(network, (3, 28, 28), nn.LocalResponseNorm) == [(64, 14, 14), (64, 7, 7)]
    x = torch.randn(2, 6, 3, 3)
    squares = nn.functional.pad(x.square(), (0, 0, 0, 0, 2, 1))  # channels i − 2 … i + 1
    sums = sum(squares[:, i : i + 6] for i in range(4))
    assert torch.allclose(network[3](x), x / (1 + 0.001 / 9 * sums) ** 0.75, atol=1e-6)


def test_a_wide_resnet_has_the_layers_of_the_paper():
    network = WideResNet().network((3, 32, 32), 10)
    sides = [(16, 32, 32)] * 4 + [(32, 16, 16)] * 4 + [(64, 8, 8)] * 4
    assert shapes_after(network, (3, 32, 32), Residual) == sides
    blocks = [module for module in network if isinstance(module, Residual)]
    assert [i for i, block in enumerate(blocks) if isinstance(block.skip, nn.Conv2d)] == [4, 8]
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 28 - 1  # and the linear layer


@pytest.mark.parametrize("depth", [1, 4, 27])
def test_a_wide_resnet_of_another_depth_is_refused(depth):
    with pytest.raises(ConfigError, match=rf"^model.depth={depth}: allowed: 10, 16, 22, 28, …: six times the blocks"):
        WideResNet(depth=depth).network((3, 32, 32), 10)
