import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rebuttal.errors import ConfigError
from rebuttal.measures import operator_norms
from rebuttal.measures.gradients import GradientNorms
from rebuttal.measures.layers import Affine, affine_parts, check_layers, fused, parts_of, run, unsupported
from rebuttal.measures.lipschitz import LipschitzBracket
from rebuttal.measures.measure import Probes
from rebuttal.measures.operator_norms import OperatorNorms, frobenius_norm, lipschitz_upper, spectral_norm
from rebuttal.measures.path_norm import PathNorm, path_norm
from rebuttal.models import MLP, VGG11, AlexNet, Inception, ResNet18, WideResNet
from rebuttal.models.blocks import Concatenation, Residual
from rebuttal.models.preprocess import Preprocess
from tests.measures.conftest import linear, subject
from tests.parameters import some_slow

MODELS = {
    "mlp": MLP(hidden=(24, 12)),
    "linear": MLP(hidden=()),
    "resnet18": ResNet18(),
    "vgg11": VGG11(),
    "vgg11_plain": VGG11(batch_norm=False),
    "inception_small": Inception(),
    "inception_small_plain": Inception(batch_norm=False),
    "alexnet_small": AlexNet(),
    "wrn16_1": WideResNet(depth=16),
}
WITHOUT_PATHS = {"alexnet_small"}  # because of its local response normalisation


def network(name, shape=(3, 8, 8), classes=4, normalisation="per_channel"):
    """Return a network whose batch-norms have neither the statistics nor the weights of their initialisation."""
    torch.manual_seed(0)
    preprocess = Preprocess(shape, None, normalisation)
    preprocess.fit(torch.rand(50, *shape) * 0.7)
    net = nn.Sequential(preprocess, MODELS[name].network(shape, classes))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.eval()


def dense(part):
    """Return the part's matrix, column by column."""
    size = int(np.prod(part.shape))
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *part.shape)
    with torch.no_grad():
        return (part(basis) - part(torch.zeros_like(basis[:1]))).flatten(1).T


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_in_order_are_the_network(name):
    net = network(name)
    x = torch.rand(5, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(run(parts_of(net, (3, 8, 8)), x.double()).float(), net(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", some_slow(MODELS, "resnet18", "inception_small", "inception_small_plain", "wrn16_1"))
def test_operator_norms_are_those_of_the_dense_matrices(name):
    for part in affine_parts(parts_of(network(name, shape=(3, 6, 6)), (3, 6, 6))):
        if np.prod(part.shape) > 2400:
            continue  # the same kinds of layer, with more channels
        matrix = dense(part)
        sigma, residual = spectral_norm(part)
        assert sigma == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=1e-8), part.name
        assert residual < 1e-7
        assert frobenius_norm(part) == pytest.approx(matrix.norm().item(), rel=1e-8), part.name


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "inception_small", "wrn16_1"])
def test_every_convolution_and_linear_layer_is_among_the_parts(name):
    net = network(name)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    parts = affine_parts(parts_of(net, (3, 8, 8)))
    modules = [m for part in parts for m in (part.module, part.batch_norm)]
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in modules) == len(layers)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in modules) == len(norms)


def test_a_circular_convolution_has_the_norm_of_its_fourier_symbol():
    size = 8
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", bias=False).double()
    kernel = torch.zeros(3, 2, size, size, dtype=torch.float64)
    kernel[:, :, :3, :3] = conv.weight.detach()
    symbol = torch.fft.fft2(kernel).permute(2, 3, 0, 1)
    expected = torch.linalg.matrix_norm(symbol, 2).max().item()
    assert spectral_norm(Affine("conv", conv, (2, size, size)))[0] == pytest.approx(expected, rel=1e-8)


def test_a_linear_layer_counts_once_for_each_row_of_its_inputs():
    part = Affine("rows", nn.Linear(8, 6).double(), (4, 8))
    assert spectral_norm(part)[0] == pytest.approx(torch.linalg.matrix_norm(dense(part), 2).item(), rel=1e-8)
    assert frobenius_norm(part) == pytest.approx(dense(part).norm().item(), rel=1e-10)


def test_strided_and_padded_convolutions():
    for stride, padding, kernel in ((2, 1, 3), (1, 0, 3), (2, 0, 1), (3, 2, 5)):
        conv = nn.Conv2d(2, 4, kernel, stride, padding).double()
        part = Affine("conv", conv, (2, 9, 7))
        assert spectral_norm(part)[0] == pytest.approx(torch.linalg.matrix_norm(dense(part), 2).item(), rel=1e-8)
        assert frobenius_norm(part) == pytest.approx(dense(part).norm().item(), rel=1e-10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", some_slow([(3, 8, 8), (1, 5, 7)], (1, 5, 7)))
def test_lower_never_exceeds_upper(name, shape, make_probes):
    inputs = torch.rand(12, *shape)
    found = LipschitzBracket(starts=3, steps=3, step=0.02)(
        subject(network(name, shape), 4), make_probes(test=inputs)
    ).numbers
    assert 0 < found["lipschitz_lower"] <= found["lipschitz_upper"] * (1 + 1e-6)


def test_the_climb_never_goes_down(make_probes):
    net, inputs = subject(network("mlp"), 4), torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    lower = [
        LipschitzBracket(starts=10, steps=steps, step=0.1)(net, make_probes(test=inputs)).numbers["lipschitz_lower"]
        for steps in (0, 5, 20)
    ]
    at_probes = GradientNorms()(net, make_probes(test=inputs)).arrays["jacobian_spectral_test"].max().item()
    assert lower[0] == pytest.approx(at_probes, rel=1e-5)
    assert lower[0] <= lower[1] <= lower[2]
    assert lower[0] < lower[2]


@pytest.mark.parametrize("seed", range(20))
def test_for_one_linear_layer_in_single_precision_lower_is_no_more_than_upper(seed, make_probes):
    torch.manual_seed(seed)
    found = LipschitzBracket(starts=2, steps=2, step=0.05)(
        subject(linear(torch.randn(10, 20)), 10), make_probes(test=torch.rand(5, 20))
    ).numbers
    assert found["lipschitz_lower"] <= found["lipschitz_upper"] * (1 + 1e-14)


def test_for_one_linear_layer_lower_is_upper(make_probes):
    weight = torch.randn(4, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    found = LipschitzBracket(starts=2, steps=1, step=0.1)(subject(linear(weight), 4), make_probes(test=inputs)).numbers
    sigma = torch.linalg.matrix_norm(weight, 2).item()
    assert found["lipschitz_lower"] == pytest.approx(sigma, rel=1e-8)
    assert found["lipschitz_upper"] == pytest.approx(sigma, rel=1e-8)


def normalised(shape, stds, crop, *layers):
    """Return a network that crops, normalises with unequal standard deviations, and applies the layers."""
    preprocess = Preprocess(shape, crop, "per_channel")
    preprocess.mean.uniform_(0.2, 0.6)
    preprocess.std.view(-1).copy_(torch.tensor(stds))
    return nn.Sequential(preprocess, *layers).double().eval()


@pytest.mark.parametrize(
    ("shape", "stds", "crop", "layers"),
    [
        ((20,), [0.03], None, [nn.Linear(20, 4)]),
        ((3, 8, 8), [0.05, 0.3, 1.0], None, [nn.Flatten(), nn.Linear(192, 4)]),
        ((3, 8, 8), [0.05, 0.3, 1.0], 5, [nn.Flatten(), nn.Linear(75, 4)]),
        ((2, 6, 6), [0.05, 1.0], 5, [nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(75, 4)]),
    ],
)
def test_for_a_linear_network_the_bracket_is_tight_whatever_its_normalisation(shape, stds, crop, layers, make_probes):
    torch.manual_seed(0)
    net = normalised(shape, stds, crop, *layers)
    probes = make_probes(test=torch.rand(5, *shape, dtype=torch.float64))
    found = LipschitzBracket(starts=1, steps=1, step=0.1)(subject(net, 4), probes).numbers
    whole = Affine("whole", net, shape)
    sigma = torch.linalg.matrix_norm(dense(whole), 2).item()
    assert found["lipschitz_lower"] == pytest.approx(sigma, rel=1e-6)
    assert found["lipschitz_upper"] == pytest.approx(sigma, rel=1e-6)
    # The spectral norms of the layers remain those of the layers, of which the normalisation is one.
    layer = OperatorNorms()(subject(net, 4), probes).numbers
    assert layer["sigma_0"] == pytest.approx(1 / min(stds), rel=1e-6)
    last = net[-1].weight
    assert layer[f"sigma_{len(net) - 1}"] == pytest.approx(torch.linalg.matrix_norm(last, 2).item(), rel=1e-6)
    if len(stds) > 1:
        assert 10 ** layer["spectral_product_log10"] > 1.01 * sigma


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**20),
    st.lists(st.floats(0.02, 3), min_size=2, max_size=2),
    st.sampled_from([None, 3, 4]),
    st.sampled_from([(), (7,), (9, 5)]),
)
def test_no_slope_of_a_network_exceeds_the_upper_bound(seed, stds, crop, hidden):
    torch.manual_seed(seed)
    shape = (2, 5, 4)
    net = normalised(shape, stds, crop, MLP(hidden=hidden).network((2, crop or 5, crop or 4), 3))
    probes = Probes({"test": torch.rand(6, *shape).double()}, torch.zeros(6), 2**28, np.random.default_rng(seed))
    found = LipschitzBracket(starts=2, steps=2, step=0.1)(subject(net, 3), probes).numbers
    assert found["lipschitz_lower"] <= found["lipschitz_upper"] * (1 + 1e-9)


def test_the_norms_of_a_subject_s_layers_are_computed_once(make_probes, monkeypatch):
    computed = []
    monkeypatch.setattr(operator_norms, "spectral_norm", lambda part: computed.append(part.name) or (2.0, 0.0))
    probes, net = make_probes(test=torch.rand(2, 3, 8, 8)), network("resnet18")
    one = subject(net, 4)
    OperatorNorms()(one, probes)
    LipschitzBracket(starts=0, steps=0, step=0.1)(one, probes)
    assert len(computed) == len(set(computed))
    layers = [part.name for part in affine_parts(parts_of(net, (3, 8, 8)))]
    assert set(computed) == {*layers, "0+1.conv1", "1.avgpool+1.fc"}
    OperatorNorms()(subject(net, 4), probes)  # of another subject, nothing is known
    assert len(computed) == 2 * len(layers) + 2


def test_a_function_without_layers_has_no_upper_bound(make_probes):
    found = LipschitzBracket(starts=2, steps=1, step=0.1)(
        subject(lambda x: x.flatten(1)[:, :4] ** 2, 4), make_probes(test=torch.rand(5, 3, 2, 2))
    ).numbers
    assert set(found) == {"lipschitz_lower", "lipschitz_lower_scaled"}


def test_path_norms_by_counting_every_path():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    parts = parts_of(nn.Sequential(first, nn.ReLU(), second), (3,))
    for power in (1, 2):
        total = 0.0
        for k in range(2):
            total += abs(second.bias[k].item()) ** power
            for j in range(4):
                out = abs(second.weight[k, j].item()) ** power
                total += out * abs(first.bias[j].item()) ** power
                total += sum(out * abs(first.weight[j, i].item()) ** power for i in range(3))
        assert path_norm(parts, (3,), power) == pytest.approx(total ** (1 / power), rel=1e-12)


def test_path_norm_of_a_convolution_is_that_of_its_matrix():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    net[1].running_var.uniform_(0.5, 2)
    net[1].running_mean.normal_()
    net.double().eval()
    parts = parts_of(net, (2, 4, 4))
    conv, last = affine_parts(parts)
    with torch.no_grad():
        bias = conv(torch.zeros(1, 2, 4, 4, dtype=torch.float64)).flatten()
        hidden = dense(conv).abs().sum(dim=1) + bias.abs()
        expected = (last.module.weight.abs() @ hidden + last.module.bias.abs()).sum().item()
    assert path_norm(parts, (2, 4, 4), 1) == pytest.approx(expected, rel=1e-10)


def test_path_norms_are_invariant_to_a_rescaled_hidden_unit():
    for name, before, after in (("mlp", "1.1", "1.3"), ("vgg11_plain", "1.0", "1.3")):
        net = network(name)
        modules = dict(net.named_modules())
        start = [path_norm(parts_of(net, (3, 8, 8)), (3, 8, 8), power) for power in (1, 2)]
        with torch.no_grad():
            modules[before].weight[2] *= 7
            modules[before].bias[2] *= 7
            modules[after].weight[:, 2] /= 7
        end = [path_norm(parts_of(net, (3, 8, 8)), (3, 8, 8), power) for power in (1, 2)]
        assert end == pytest.approx(start, rel=1e-6)


def test_max_pooling_counts_as_the_sum_over_its_window_and_a_residual_as_two_ways():
    pool = parts_of(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 1, bias=False)), (1, 4, 4))
    weight = affine_parts(pool)[0].module.weight
    assert path_norm(pool, (1, 4, 4), 1) == pytest.approx(4 * weight.abs().sum().item())
    net = network("resnet18")
    block = net[1].layer1[0]
    parts = parts_of(block, (64, 4, 4))
    branch = path_norm(parts[0].branch, (64, 4, 4), 1)
    assert path_norm(parts, (64, 4, 4), 1) == pytest.approx(branch + 64 * 16, rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_all_layer_measures_are_finite_on_every_architecture(name, make_probes):
    probes = make_probes(test=torch.rand(2, 3, 8, 8))
    net = subject(network(name), 4)
    paths, numbers = (measure(net, probes).numbers for measure in (PathNorm(), OperatorNorms()))
    assert (not paths) == (name in WITHOUT_PATHS)
    numbers |= paths
    assert all(np.isfinite(value) for value in numbers.values())
    assert numbers["operator_residual"] < 1e-6
    assert all(value >= 1 - 1e-9 for key, value in numbers.items() if key.startswith("stable_rank"))


def test_path_norms_of_branches_and_overlapping_windows_by_counting_every_path():
    """With weights ≥ 0 and inputs of 1, every path from an input is on, so that all paths add up to the output of the
    network in which a maximum is replaced by a sum."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(*io, 3, 2, padding=1) for io in ((2, 3), (5, 2), (5, 2))]
    for conv in convolutions:
        conv.weight.data.abs_(), conv.bias.data.abs_()
    down, left, right = convolutions
    pool = nn.MaxPool2d(3, 2, padding=1)
    net = nn.Sequential(Concatenation(nn.Sequential(down, nn.ReLU()), pool), Residual(left, right), nn.Flatten())
    x = torch.ones(1, 2, 7, 6)
    windows = 9 * nn.functional.avg_pool2d(x, 3, 2, 1)  # 4 at a corner, 6 at a side, 9 within
    assert sorted(set(windows.flatten().tolist())) == [4, 6, 9]
    joined = torch.cat([down(x), windows], dim=1)
    expected = (left(joined) + right(joined)).sum().item()
    assert path_norm(parts_of(net, (2, 7, 6)), (2, 7, 6), 1) == pytest.approx(expected, rel=1e-5)


def steepest(function, inputs):
    """The largest ‖J‖₂ at the inputs."""
    jacobians = torch.stack([torch.func.jacrev(function)(x[None]).reshape(-1, x.numel()) for x in inputs])
    return torch.linalg.matrix_norm(jacobians, 2).max().item()


def test_the_bound_of_a_concatenation_is_reached_where_its_branches_agree():
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 3, 1, bias=False).double(), nn.Conv2d(2, 4, 3, padding=1, bias=False).double()
    parts = parts_of(Concatenation(first, second), (2, 4, 4))
    norms = [torch.linalg.matrix_norm(dense(part), 2).item() for part in affine_parts(parts)]
    whole = torch.linalg.matrix_norm(dense(Affine("whole", Concatenation(first, second), (2, 4, 4))), 2).item()
    bound = lipschitz_upper(parts)
    assert bound == pytest.approx(float(np.hypot(*norms)), rel=1e-8) and max(norms) < whole <= bound
    twice = parts_of(Concatenation(first, first), (2, 4, 4))
    assert lipschitz_upper(twice) == pytest.approx(2**0.5 * norms[0], rel=1e-8)
    assert [part.name for part in affine_parts(parts)] == ["branches.0", "branches.1"]


@pytest.mark.parametrize(
    ("size", "stride", "padding", "shape", "shared"),
    [
        (2, 2, 0, (6, 6), 1),
        (3, 2, 1, (6, 7), 4),
        (3, 2, 0, (4, 9), 2),
        (3, 1, 1, (6, 6), 9),
        ((3, 2), (1, 2), 0, (6, 6), 3),
    ],
)
def test_the_bound_of_a_max_pool_is_reached_by_a_pixel_that_all_its_windows_share(size, stride, padding, shape, shared):
    pool = nn.MaxPool2d(size, stride, padding)
    one_pixel = torch.eye(shape[0] * shape[1], dtype=torch.float64).reshape(-1, 1, *shape)
    assert lipschitz_upper(parts_of(pool, (1, *shape))) == shared**0.5
    assert steepest(pool, one_pixel) == pytest.approx(shared**0.5, rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta", "k"), [(0.001 / 9 * 4, 0.75, 1.0), (2.0, 0.75, 1.0), (1.0, 2.0, 0.5)])
def test_no_slope_of_a_local_response_normalisation_exceeds_its_bound(alpha, beta, k):
    torch.manual_seed(0)
    norm = nn.LocalResponseNorm(4, alpha, beta, k)
    inputs = torch.randn(400, 6, 1, 1, dtype=torch.float64) * torch.logspace(-2, 3, 400)[:, None, None, None]
    bound = lipschitz_upper(parts_of(norm, (6, 1, 1)))
    assert k**-beta <= bound * (1 + 1e-12)
    assert k**-beta * 0.9 < steepest(norm, inputs) <= bound


def test_path_norms_are_refused_for_local_response_normalisation_and_the_other_measures_are_not():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LocalResponseNorm(4), nn.Flatten())
    assert unsupported(net) is None
    reason = unsupported(net, paths=True)
    assert reason.startswith("stages.*.functions: layer 1 is a LocalResponseNorm, which path norms do not support")
    assert unsupported(nn.Sequential(net[0], net[2]), paths=True) is None


@pytest.mark.parametrize("name", ["inception_small", "wrn16_1"])
def test_a_network_with_folded_batch_norms_is_the_same_function(name):
    net, x = network(name), torch.rand(5, 3, 8, 8)
    fast = fused(net)
    folded = [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(folded) < len([module for module in net.modules() if isinstance(module, nn.BatchNorm2d)])
    with torch.no_grad():
        assert torch.allclose(fast(x), net(x), rtol=1e-3, atol=1e-4)


def test_names_of_a_whitened_network_s_bounds_end_in_whitened(make_probes):
    probes = make_probes(test=torch.rand(2, 3, 8, 8))
    net = subject(network("mlp", normalisation="per_image"), 4)
    assert "path_norm_l1_log10_whitened" in PathNorm()(net, probes).numbers
    found = LipschitzBracket(starts=1, steps=1, step=0.1)(net, probes).numbers
    assert "lipschitz_upper_whitened" in found and "lipschitz_upper" not in found


def test_an_unknown_layer_is_refused_by_name():
    with pytest.raises(
        ConfigError, match="layer 1 is a Tanh, which operator and path norms do not support; allowed: Linear"
    ):
        parts_of(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), (3,))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.MaxPool2d(2, dilation=2), "0 is a MaxPool2d with dilation=2 and ceil_mode=False; allowed: dilation=1 and"),
        (nn.MaxPool2d((2, 3), ceil_mode=True), "0 is a MaxPool2d with dilation=1 and ceil_mode=True; allowed: dilat"),
        (nn.LocalResponseNorm(3, k=0.0), "0 is a LocalResponseNorm with k=0.0.*; allowed: k and beta above 0, alpha 0"),
        (nn.BatchNorm2d(3, track_running_stats=False), "0 is a BatchNorm2d with track_running_stats=False.*: True"),
    ],
)
def test_layers_whose_factor_or_windows_would_be_wrong_are_refused_in_one_line(layer, message):
    with pytest.raises(ConfigError, match=rf"^stages\.\*\.functions: layer {message}.*$") as error:
        check_layers(nn.Sequential(layer))
    assert "\n" not in str(error.value)


def test_equal_windows_may_be_given_as_one_number_or_two():
    check_layers(nn.Sequential(nn.MaxPool2d((2, 2), 2), nn.MaxPool2d((1, 2), (1, 2), padding=(0, 0), dilation=(1, 1))))


@pytest.mark.parametrize("before", [[nn.Conv2d(2, 3, 3)], [nn.Conv2d(2, 3, 3), nn.ReLU()]])
def test_a_batch_norm_without_weights_has_weights_of_one_and_biases_of_zero(before, make_probes):
    """Alone, and folded into the convolution before it."""
    bare, plain = nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3)
    bare.running_mean.uniform_(-1, 1)
    bare.running_var.uniform_(0.5, 2)
    plain.load_state_dict(bare.state_dict(), strict=False)
    inputs, found = torch.rand(4, 2, 5, 5), []
    for norm in (bare, plain):
        net = nn.Sequential(*before, norm, nn.ReLU(), nn.Flatten(), nn.Linear(27, 2).requires_grad_(False))
        net[-1].weight.fill_(0.1)
        net[-1].bias.fill_(0.2)
        net.eval()
        check_layers(net)
        one, bracket = subject(net, 2), LipschitzBracket(starts=1, steps=1, step=0.1)
        numbers = [measure(one, make_probes(test=inputs)).numbers for measure in (PathNorm(), OperatorNorms(), bracket)]
        found.append(numbers[0] | numbers[1] | numbers[2])
        for part in affine_parts(parts_of(net, (2, 5, 5))):
            assert frobenius_norm(part) == pytest.approx(dense(part).norm().item(), rel=1e-10)
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_a_layer_that_is_used_twice_counts_twice():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert [part.name for part in affine_parts(parts_of(net, (3,)))] == ["0", "2"]


def test_bounds_over_the_spread_are_invariant_to_ten_times_the_logits(make_probes):
    torch.manual_seed(0)
    network = MLP(hidden=(16, 16)).network((3, 2, 2), 4).double().eval()
    louder = copy.deepcopy(network)
    louder[-1].weight.data *= 10
    louder[-1].bias.data *= 10
    inputs = torch.rand(20, 3, 2, 2, dtype=torch.float64)
    for measure in (LipschitzBracket(starts=2, steps=2, step=0.1), PathNorm()):
        here, there = (measure(subject(f, 4), make_probes(test=inputs)).numbers for f in (network, louder))
        scaled = [name for name in here if name.endswith("_scaled")]
        assert len(scaled) == 2
        for name in scaled:
            assert there[name] == pytest.approx(here[name], rel=1e-6)
