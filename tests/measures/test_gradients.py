import copy

import numpy as np
import pytest
import torch
from torch import nn

from rebuttal.measures import gradients, measure
from rebuttal.measures.critical import CriticalSamples
from rebuttal.measures.gradients import GradientNorms, jacobian, margin_gradients, norms
from rebuttal.measures.layers import fused
from rebuttal.measures.lipschitz import LipschitzBracket
from rebuttal.measures.margins import Margins
from rebuttal.measures.measure import batch_size, chunks, spread
from rebuttal.measures.path_norm import PathNorm
from rebuttal.measures.segments import SegmentCrossings
from rebuttal.measures.variation import LocalVariation
from rebuttal.models import MLP, VGG11, ResNet18
from tests.measures.conftest import linear, subject

torch.manual_seed(0)
W = torch.randn(4, 12, dtype=torch.float64)
X = torch.rand(30, 3, 2, 2, dtype=torch.float64)


def test_a_linear_function_has_its_matrix_norms_everywhere():
    found = norms(*jacobian(subject(linear(W), 4), X))
    assert np.allclose(found["jacobian_frobenius"], torch.linalg.matrix_norm(W), rtol=1e-10)
    assert np.allclose(found["jacobian_spectral"], torch.linalg.matrix_norm(W, 2), rtol=1e-10)
    top, second = (X.flatten(1) @ W.T).topk(2, dim=1).indices.T
    assert torch.allclose(found["margin_gradient"], (W[top] - W[second]).norm(dim=1), rtol=1e-10)


def test_a_deep_linear_network_has_its_product_s_norms():
    layers = [nn.Linear(12, 9), nn.Linear(9, 5), nn.Linear(5, 4)]
    network = nn.Sequential(nn.Flatten(), *layers).double().eval()
    product = layers[2].weight @ layers[1].weight @ layers[0].weight
    found = norms(*jacobian(subject(network, 4), X))
    assert np.allclose(found["jacobian_spectral"], torch.linalg.matrix_norm(product, 2).detach(), rtol=1e-8)


@pytest.mark.parametrize("model", [MLP(hidden=(16, 8)), ResNet18(), VGG11()])
def test_jacobians_are_those_of_torch_func(model):
    network = model.network((3, 8, 8), 5).eval()
    x = torch.rand(3, 3, 8, 8)
    _, ours = jacobian(subject(network, 5), x)
    theirs = torch.func.vmap(torch.func.jacrev(lambda one: network(one[None])[0]))(x)
    assert torch.allclose(ours, theirs.flatten(2), rtol=1e-3, atol=1e-5 * ours.abs().max())


def test_the_softmax_jacobian_is_that_of_the_probabilities():
    network = MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval()
    expected = (
        torch.func.vmap(torch.func.jacrev(lambda one: network(one[None])[0].softmax(0)))(X).flatten(1).norm(dim=1)
    )
    assert torch.allclose(norms(*jacobian(subject(network, 4), X))["softmax_jacobian"], expected, rtol=1e-8)


def test_a_gradient_that_all_logits_share_cancels_in_margin_and_softmax():
    """It is a direction that the softmax ignores, and may be many times steeper than their differences."""
    shared, x = 1e4 * torch.randn(12, dtype=torch.float64), X.float()
    logits, jacobians = jacobian(subject(linear(W.float()), 4), x)
    found = norms(logits, jacobians + shared.float())
    expected = norms(logits.double(), W.expand(len(X), 4, 12))
    for name in ("margin_gradient", "softmax_jacobian"):
        assert torch.allclose(found[name], expected[name], rtol=1e-2), name


@pytest.mark.parametrize("steepest", [1.0, 1e3, 1e6])
def test_a_steeper_class_takes_no_digits_of_the_margin_s_gradient(steepest):
    logits = torch.tensor([[2.0, 1.0, 0.0]]).repeat(20, 1)
    rows = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0))
    rows[:, 1] = rows[:, 0] + 1e-4 * rows[:, 1]
    rows[:, 2] *= steepest
    exact = (rows[:, 0].double() - rows[:, 1].double()).norm(dim=1)
    assert torch.allclose(norms(logits, rows)["margin_gradient"], exact, rtol=1e-3)


def test_a_function_whose_values_do_not_depend_on_its_inputs_has_gradients_of_zero(make_probes):
    constant = subject(lambda x: torch.zeros(len(x), 4, dtype=x.dtype), 4)
    probes = make_probes(train=X, test=X)
    found = GradientNorms()(constant, probes).numbers
    assert {found[f"{name}_test"] for name in ("margin_gradient", "jacobian_spectral", "softmax_jacobian")} == {0.0}
    assert LipschitzBracket(starts=2, steps=2, step=0.1)(constant, probes).numbers["lipschitz_lower"] == 0.0
    assert Margins(reach=1.0, points=4)(constant, probes).numbers["boundary_unreached_test"] == 1.0
    search = CriticalSamples(radii=(0.1,), probes=5, steps=2, langevin=2, step=0.5, noise=0.1)
    assert search(constant, probes).numbers["critical_test_0.1"] == 0.0


def test_scaled_norms_are_invariant_to_ten_times_the_logits(make_probes):
    network = MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval()
    here = GradientNorms()(subject(network, 4), make_probes(test=X)).numbers
    there = GradientNorms()(subject(lambda x: 10 * network(x), 4), make_probes(test=X)).numbers
    for name in ("margin_gradient", "jacobian_frobenius", "jacobian_spectral"):
        assert there[f"{name}_test"] == pytest.approx(10 * here[f"{name}_test"], rel=1e-8)
        assert there[f"{name}_test_scaled"] == pytest.approx(here[f"{name}_test_scaled"], rel=1e-8)


def test_kinds_of_probes_are_kept_apart_and_chunks_do_not_matter(make_probes):
    network = subject(MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval(), 4)
    both = GradientNorms()(network, make_probes(train=X, noise=3 * X)).numbers
    assert both["jacobian_frobenius_train"] != both["jacobian_frobenius_noise"]
    tiny = GradientNorms()(network, make_probes(memory=1, train=X)).numbers
    assert len(list(chunks(network, X, memory=1))) == len(X)
    assert tiny["jacobian_frobenius_train"] == pytest.approx(both["jacobian_frobenius_train"], rel=1e-12)


def test_the_interval_is_student_s(make_probes):
    network = subject(MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval(), 4)
    found = GradientNorms()(network, make_probes(test=X))
    values = found.arrays["margin_gradient_test"]
    half = 2.045230 * values.std().item() / np.sqrt(30)  # t at 29 degrees of freedom, 97.5 %
    assert found.numbers["margin_gradient_test_high"] == pytest.approx(values.mean().item() + half, rel=1e-6)


def test_a_step_function_has_no_gradient_to_report(make_probes):
    assert GradientNorms()(subject(torch.sign, 4, differentiable=False), make_probes(test=X)).numbers == {}


def test_spread_is_invariant_to_an_offset_and_proportional_to_scale():
    logits = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    assert spread(logits + 7) == pytest.approx(spread(logits), rel=1e-5)
    assert spread(3 * logits) == pytest.approx(3 * spread(logits), rel=1e-5)
    assert spread(logits) == pytest.approx(np.sqrt(5), rel=0.05)


def by_hand(network, x):
    """Return Jacobians (n, K, d) by one backward pass for each input and class."""
    rows = []
    for one in x:
        one = one[None].requires_grad_()
        logits = network(one)[0]
        rows.append(torch.stack([torch.autograd.grad(k, one, retain_graph=True)[0].flatten() for k in logits]))
    return torch.stack(rows)


@pytest.mark.parametrize("model", [MLP(hidden=(16, 8)), ResNet18(), VGG11()])
def test_the_fast_way_is_the_simple_way_and_leaves_the_network_as_it_was(model):
    torch.manual_seed(0)
    network = model.network((3, 8, 8), 5)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    next(network.parameters()).requires_grad_(False)
    network.eval()
    next(network.children()).train()
    modes = [m.training for m in network.modules()]
    frozen = [p.requires_grad for p in network.parameters()]
    values = {name: value.clone() for name, value in network.state_dict().items()}
    faster = fused(network)
    assert [m.training for m in network.modules()] == modes
    network.eval()
    x = torch.rand(3, 3, 8, 8)
    _, ours = jacobian(subject(faster, 5), x)
    expected = by_hand(network, x)
    assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-5 * expected.abs().max())
    assert torch.allclose(faster(x), network(x), rtol=1e-3, atol=1e-5)
    assert [p.requires_grad for p in network.parameters()] == frozen
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in faster.modules())


def test_a_convolution_that_is_used_twice_is_not_folded():
    conv, norms = nn.Conv2d(3, 3, 3, padding=1), [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    for norm in norms:
        norm.running_var.uniform_(0.5, 2)
    network = nn.Sequential(conv, norms[0], nn.ReLU(), conv, norms[1], nn.Flatten(), nn.Linear(75, 2)).eval()
    x = torch.rand(4, 3, 5, 5)
    assert torch.allclose(fused(network)(x), network(x), rtol=1e-5, atol=1e-6)


def test_weights_that_two_convolutions_share_or_one_also_uses_alone_are_not_folded():
    convs, norm = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)], nn.BatchNorm2d(3)
    convs[1].weight = convs[0].weight
    norm.running_var.uniform_(0.5, 2)
    parts = [convs[0], norm, nn.ReLU(), convs[1], copy.deepcopy(norm), nn.ReLU(), convs[2], norm, convs[2]]
    network = nn.Sequential(*parts, nn.Flatten(), nn.Linear(75, 2)).eval()
    x = torch.rand(4, 3, 5, 5)
    assert torch.allclose(fused(network)(x), network(x), rtol=1e-5, atol=1e-6)


def test_a_network_of_other_layers_is_measured_as_it_is():
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    assert fused(network) is network


def test_measures_that_need_the_same_at_the_same_probes_compute_it_once(make_probes, monkeypatch):
    network = MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval()
    evaluated, differentiated = [], []
    monkeypatch.setattr(gradients, "jacobian", lambda f, x: differentiated.append(len(x)) or jacobian(f, x))
    one, probes = subject(network, 4), make_probes(test=X, train=X + 0)
    GradientNorms()(one, probes)
    Margins(reach=1.0, points=2)(one, probes)
    LipschitzBracket(starts=0, steps=0, step=0.1)(one, probes)
    assert sum(differentiated) == 2 * len(X)
    network.register_forward_hook(lambda module, inputs, output: evaluated.append(len(output)))
    PathNorm()(one, probes)
    LocalVariation(radii=(1.0,), directions=3)(one, probes)
    assert sum(evaluated) == 2 * 3 * len(X)  # and none at the probes themselves
    GradientNorms()(one, make_probes(test=X + 1))
    assert sum(differentiated) == 3 * len(X)


def test_margin_gradients_are_differences_of_the_jacobian_s_rows():
    network = MLP(hidden=(16,)).network((3, 2, 2), 4).double().eval()
    logits, rows = jacobian(subject(network, 4), X)
    top, second = logits.topk(2, dim=1).indices.T
    each = torch.arange(len(X))
    found = margin_gradients(subject(network, 4), X)
    assert torch.allclose(found.flatten(1), rows[each, top] - rows[each, second], rtol=1e-10)


def test_batches_do_not_matter(make_probes, monkeypatch):
    torch.manual_seed(0)
    network = fused(ResNet18().network((3, 8, 8), 4).double().eval())
    inputs, found = torch.rand(50, 3, 8, 8).double(), []
    for size, batch in ((1, 16), (2**40, 2048)):
        monkeypatch.setattr(measure, "BATCH_BYTES", size)
        one = subject(network, 4)
        assert batch_size(one, inputs) == batch
        measures = (SegmentCrossings(pairs=3, points=21), LocalVariation(radii=(1.0,), directions=1))
        found.append([m(one, make_probes(test=inputs)).numbers for m in measures])
    assert found[0][0]["region_changes_test"] > 0
    for small, large in zip(*found):
        assert small == pytest.approx(large, rel=1e-8)
