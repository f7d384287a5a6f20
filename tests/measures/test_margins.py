import pytest
import torch

from rebuttal.measures.margins import Margins, margin
from rebuttal.models import MLP
from rebuttal.training.evaluation import predict
from tests.measures.conftest import linear, subject

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(5, 8, dtype=torch.float64, generator=GENERATOR)
X = torch.randn(40, 8, dtype=torch.float64, generator=GENERATOR)


def test_a_linear_classifier_s_boundary_is_at_its_exact_distance(make_probes):
    found = Margins(reach=20.0, points=400)(subject(linear(W), 5), make_probes(test=X))
    logits = X @ W.T
    top = logits.argmax(dim=1)
    gaps = (logits.max(dim=1, keepdim=True).values - logits) / (W[top][:, None] - W[None]).norm(dim=2)
    exact = gaps.scatter(1, top[:, None], torch.inf).min(dim=1).values
    assert found.numbers["boundary_unreached_test"] == 0
    assert torch.allclose(found.arrays["boundary_test"], exact, rtol=1e-4, atol=1e-5)


def test_the_prediction_changes_at_a_positive_distance(make_probes):
    torch.manual_seed(0)
    network = MLP(hidden=(32, 32)).network((8,), 5).double().eval()
    found = Margins(reach=20.0, points=50)(subject(network, 5), make_probes(test=X))
    assert found.numbers["boundary_unreached_test"] < 0.5
    assert (found.arrays["boundary_test"] > 0).all()
    assert found.arrays["margin_test"].numpy() == pytest.approx(
        (predict(network, X).topk(2, dim=1).values @ torch.tensor([1.0, -1.0], dtype=torch.float64)).numpy(), rel=1e-12
    )


def test_a_class_that_rises_and_falls_with_the_top_one_hides_no_other(make_probes):
    weights = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]], dtype=torch.float64)
    inputs = torch.rand(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    twins = subject(linear(weights, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)), 3)
    found = Margins(reach=5.0, points=50)(twins, make_probes(test=inputs))
    assert found.numbers["boundary_unreached_test"] == 0
    exact = (1 + inputs[:, 0] - inputs[:, 1]) / 2**0.5
    assert torch.allclose(found.arrays["boundary_test"], exact, rtol=1e-4)


def test_a_boundary_out_of_reach_is_reported_and_left_out(make_probes):
    found = Margins(reach=1e-6, points=2)(subject(linear(W), 5), make_probes(test=X)).numbers
    assert found["boundary_unreached_test"] == 1.0
    assert found["boundary_test"] is None


def test_a_margin_is_the_label_s_lead():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert margin(logits, torch.tensor([0, 2])).tolist() == [1.0, -1.0]
