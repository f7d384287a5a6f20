import numpy as np
import pytest
import torch
from torch import nn

from rebuttal.measures.gradients import GradientNorms, jacobian, norms
from rebuttal.measures.measure import chunks, spread
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
