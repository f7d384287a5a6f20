from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.func import functional_call, jacrev

from rebuttal.functions.hash import HashFunction
from rebuttal.measures.curvature import Hessian, Sharpness, top_eigenvalue, trace
from rebuttal.measures.measure import Probes
from rebuttal.models import MLP
from rebuttal.training import CrossEntropy, Margin, SquaredError
from tests.measures.conftest import linear, subject

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(30, 6, dtype=torch.float64, generator=GENERATOR)
Y = torch.randint(4, (30,), generator=GENERATOR)
MEASURE = Sharpness(loss=CrossEntropy(), iterations=60, tolerance=1e-6, products=300)


def probes(memory=2**28, seed=0, inputs=X, labels=Y):
    return Probes({"train": inputs, "test": inputs}, labels, memory, np.random.default_rng(seed))


def small_network(seed=0):
    torch.manual_seed(seed)
    body = MLP(hidden=(5, 4)).network((6,), 4)
    for layer in body:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.8)
    return body.double().eval()


def full_hessian(network, loss, inputs=X, labels=Y):
    """Return the Hessian (P, P) as torch.func builds it."""
    weights = dict(network.named_parameters())
    sizes = [p.numel() for p in weights.values()]

    def of(flat):
        parts = (part.view_as(p) for part, p in zip(flat.split(sizes), weights.values()))
        return loss(functional_call(network, dict(zip(weights, parts)), (inputs,)), labels)

    return jacrev(jacrev(of))(torch.cat([p.detach().flatten() for p in weights.values()]))


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.2), SquaredError()])
def test_of_a_small_network_it_equals_the_full_hessian(loss):
    network = small_network()
    full = full_hessian(network, loss)
    found = Sharpness(loss=loss, iterations=100, tolerance=1e-6, products=3 * len(full))(
        subject(network, 4), probes()
    ).numbers
    assert found["hessian_top"] == pytest.approx(torch.linalg.eigvalsh(full)[-1].item(), rel=1e-5)
    assert found["hessian_trace"] == pytest.approx(full.trace().item(), rel=1e-5)
    assert found["hessian_top_error"] < 1e-5 * found["hessian_top"]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by a library that it imports
def test_its_products_eigenvalue_and_trace_are_those_of_curvlinops():
    from curvlinops import HessianLinearOperator

    network, data = small_network(), [(X[:10], Y[:10]), (X[10:], Y[10:])]
    theirs = HessianLinearOperator(network, nn.CrossEntropyLoss(), list(network.parameters()), data)
    ours = Hessian(subject(network, 4), network, CrossEntropy(), probes())
    vectors = torch.randn(theirs.shape[1], 7, dtype=torch.float64, generator=GENERATOR)
    assert torch.allclose(torch.stack([ours(v) for v in vectors.T], dim=1), theirs @ vectors, rtol=1e-5, atol=1e-12)
    matrix = theirs @ torch.eye(theirs.shape[1], dtype=torch.float64)
    found = Sharpness(loss=CrossEntropy(), iterations=100, tolerance=1e-6, products=3 * len(matrix))(
        subject(network, 4), probes()
    )
    assert found.numbers["hessian_top"] == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item(), rel=1e-5)
    assert found.numbers["hessian_trace"] == pytest.approx(matrix.trace().item(), rel=1e-5)


@pytest.mark.parametrize("memory", [2**28, 1])
def test_a_product_is_that_of_the_full_hessian_whatever_the_memory(memory):
    network = small_network()
    vector = torch.randn(sum(p.numel() for p in network.parameters()), dtype=torch.float64, generator=GENERATOR)
    product = Hessian(subject(network, 4), network, CrossEntropy(), probes(memory))(vector)
    assert torch.allclose(product, full_hessian(network, CrossEntropy()) @ vector, rtol=1e-9, atol=1e-12)


def test_the_squared_error_of_a_linear_network_has_a_known_spectrum():
    """The mean over n inputs and K classes: H = 2/(nK) · X̃ᵀX̃ ⊗ I_K, X̃ = (x, 1)."""
    weight = torch.randn(4, 6, dtype=torch.float64, generator=GENERATOR)
    found = Sharpness(loss=SquaredError(), iterations=60, tolerance=1e-6, products=90)(
        subject(linear(weight), 4), probes()
    ).numbers
    extended = torch.cat([X, torch.ones(30, 1, dtype=torch.float64)], dim=1)
    assert found["hessian_top"] == pytest.approx(2 / 120 * torch.linalg.matrix_norm(extended, 2).item() ** 2, rel=1e-6)
    assert found["hessian_trace"] == pytest.approx(2 / 30 * extended.square().sum().item(), rel=1e-9)


def test_one_softmax_at_weight_zero_has_a_known_hessian():
    """H = x̃x̃ᵀ ⊗ (diag(p) − ppᵀ) with p = 1/K: top eigenvalue ‖x̃‖²/K, trace ‖x̃‖²(K − 1)/K."""
    found = MEASURE(subject(linear(torch.zeros(4, 6, dtype=torch.float64)), 4), probes(inputs=X[:1], labels=Y[:1]))
    square = X[0].square().sum().item() + 1
    assert found.numbers["hessian_top"] == pytest.approx(square / 4, rel=1e-6)
    assert found.numbers["hessian_trace"] == pytest.approx(square * 3 / 4, rel=1e-9)


def test_lanczos_finds_the_largest_eigenvalue_not_the_largest_in_size():
    values = torch.linspace(-5, 2, 40, dtype=torch.float64)
    top, error = top_eigenvalue(lambda v: values * v, torch.ones(40, dtype=torch.float64), 200, 1e-6)
    assert top == pytest.approx(2.0, rel=1e-6) and error <= 2e-6
    early, bound = top_eigenvalue(lambda v: values * v, torch.ones(40, dtype=torch.float64), 6, 1e-6)
    assert early < 2.0 and (values - early).abs().min() <= bound  # what is said of it is true before it converges


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_the_eigenvalue_is_right_to_the_square_of_the_tolerance_at_which_lanczos_ends(tolerance):
    values = 100 / torch.arange(1, 2001, dtype=torch.float64)
    products = []

    def product(vector):
        products.append(vector)
        return values * vector

    top, bound = top_eigenvalue(product, torch.ones(2000, dtype=torch.float64), 100, tolerance)
    assert bound <= tolerance * top < top and len(products) <= 12
    assert abs(top - 100) <= 2 * bound**2 / (100 - 50)  # Kato and Temple, by the distance to the next eigenvalue


def test_lanczos_ends_where_the_space_does():
    assert top_eigenvalue(torch.zeros_like, torch.ones(5), 10, 1e-6) == (0.0, 0.0)
    assert top_eigenvalue(lambda v: 3 * v, torch.ones(1), 10, 1e-6) == (3.0, 0.0)


def test_the_trace_from_few_products_is_unbiased_and_its_interval_covers():
    network = small_network()
    exact = full_hessian(network, CrossEntropy()).trace().item()
    found = [
        trace(Hessian(subject(network, 4), network, CrossEntropy(), probes(seed=seed)), 3).numbers for seed in range(24)
    ]
    values = np.array([each["hessian_trace"] for each in found])
    assert values.mean() == pytest.approx(exact, abs=3.5 * values.std() / len(values) ** 0.5)
    covered = np.mean([each["hessian_trace_low"] <= exact <= each["hessian_trace_high"] for each in found])
    assert covered >= 0.75


@dataclass(frozen=True)
class Hinge:
    """A loss of straight pieces."""

    def __call__(self, logits, labels):
        return (1 - logits.gather(1, labels[:, None])).relu().mean()


def test_a_loss_of_straight_pieces_has_no_curvature():
    network = linear(torch.ones(4, 6, dtype=torch.float64))
    found = Sharpness(loss=Hinge(), iterations=5, tolerance=1e-6, products=6)(subject(network, 4), probes()).numbers
    assert found["hessian_top"] == found["hessian_trace"] == 0


def test_what_overflows_is_undefined():
    network = linear(torch.full((4, 6), 1e30))
    found = Sharpness(loss=SquaredError(), iterations=5, tolerance=1e-6, products=6)(
        subject(network, 4), probes(inputs=1e30 * X.float())
    )
    assert set(found.numbers.values()) == {None}


def test_it_leaves_the_network_as_it_was_and_repeats():
    network = small_network().requires_grad_(False)
    before = [p.clone() for p in network.parameters()]
    few = Sharpness(loss=CrossEntropy(), iterations=5, tolerance=1e-6, products=9)
    first, again = (few(subject(network, 4), probes()).numbers for _ in range(2))
    assert first == again
    for p, was in zip(network.parameters(), before):
        assert torch.equal(p, was) and p.grad is None and not p.requires_grad


def test_only_networks_have_it():
    assert MEASURE(subject(HashFunction.draw(4, 0), 4, False), probes()).numbers == {}
    assert MEASURE(subject(nn.Flatten(), 6), probes()).numbers == {}


class Attention(nn.Module):
    """The fast kernels of `scaled_dot_product_attention` have no second derivative."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(2, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        tokens = self.map(x.reshape(-1, 1, 3, 2))
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(mixed.mean(dim=(1, 2)))


def test_attention_is_differentiated_twice():
    torch.manual_seed(0)
    found = Sharpness(loss=CrossEntropy(), iterations=20, tolerance=1e-6, products=6)(
        subject(Attention().eval(), 4), probes(inputs=X.float())
    ).numbers
    assert found["hessian_top"] > 0 and found["hessian_trace_low"] <= found["hessian_trace_high"]


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope.clone()


class OnlyOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(6, 4)

    def forward(self, x):
        return Once.apply(self.map(x))


@pytest.mark.parametrize(
    ("network", "loss"), [(OnlyOnce(), CrossEntropy()), (nn.Linear(6, 4), Margin()), (nn.Linear(6, 4), Margin(power=2))]
)
def test_what_cannot_be_differentiated_twice_is_undefined(network, loss, caplog):
    found = Sharpness(loss=loss, iterations=5, tolerance=1e-6, products=6)(
        subject(network.double().eval(), 4), probes()
    ).numbers
    assert found == {"hessian_top": None, "hessian_top_error": None, "hessian_trace": None}
    assert "cannot be differentiated twice" in caplog.text


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"products": 5}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValidationError):
        Sharpness(**{"loss": CrossEntropy(), "iterations": 5, "tolerance": 0.1, "products": 6} | settings)
