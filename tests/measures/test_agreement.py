import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from rebuttal.measures.agreement import agreement, chance, cohen_kappa, confusion, wilson


def one_hot(classes, k=3):
    return torch.nn.functional.one_hot(torch.tensor(classes), k).float()


def test_a_case_by_hand():
    teacher, student = one_hot([0, 0, 0, 1, 1, 2]), one_hot([0, 0, 1, 1, 2, 2])
    found = agreement(teacher, student)
    assert found["agreement"] == pytest.approx(4 / 6)
    assert found["majority_agreement"] == pytest.approx(3 / 6)
    assert found["chance_agreement"] == pytest.approx((3 * 2 + 2 * 2 + 1 * 2) / 36)
    assert found["kappa"] == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))


def test_rows_are_the_teacher_s_classes():
    table = confusion(one_hot([0, 0, 1]), one_hot([2, 2, 1]))
    assert table.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_kappa_of_a_published_table():
    # The worked example of Fleiss, Cohen & Everitt 1969, Psychological Bulletin 72: 200 diagnoses.
    table = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    found = cohen_kappa(table)
    assert found["kappa"] == pytest.approx(0.429, abs=5e-4)
    assert (found["kappa_high"] - found["kappa"]) / 1.959964 == pytest.approx(np.sqrt(0.002885), rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60))
def test_kappa_is_at_most_one_and_zero_for_a_constant(pairs):
    teacher, student = zip(*pairs)
    found = agreement(one_hot(list(teacher)), one_hot(list(student)))
    if found["kappa"] is None:
        assert len(set(teacher)) == 1 and set(teacher) == set(student)
    else:
        assert found["kappa_low"] <= found["kappa"] <= min(found["kappa_high"], 1 + 1e-12)
        if len(set(student)) == 1 or len(set(teacher)) == 1:
            assert (found["kappa"], found["kappa_low"], found["kappa_high"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert 0 <= found["agreement_low"] <= found["agreement"] + 1e-12 <= found["agreement_high"] + 2e-12 <= 1 + 3e-12


@pytest.mark.parametrize("differing", [0.0, 0.0005, 0.002, 0.01])
def test_the_interval_of_kappa_covers_it_also_near_full_agreement(differing):
    rng, n, covered = np.random.default_rng(0), 1000, 0
    for _ in range(400):
        teacher = rng.integers(10, size=n)
        student = np.where(rng.random(n) < differing, (teacher + 1) % 10, teacher)
        table = np.zeros((10, 10), dtype=int)
        np.add.at(table, (teacher, student), 1)
        found = cohen_kappa(table)
        covered += found["kappa_low"] <= 1 - differing / 0.9 <= found["kappa_high"] + 1e-12
    assert covered >= 0.93 * 400
    assert found["kappa_low"] < 1


def test_two_inputs_that_agree_say_little():
    assert cohen_kappa(np.diag([1, 1]))["kappa_low"] < 0


def test_chance_is_what_independent_answers_get():
    rng = np.random.default_rng(0)
    teacher = torch.from_numpy(rng.choice(3, p=[0.7, 0.2, 0.1], size=200_000))
    student = torch.from_numpy(rng.choice(3, p=[0.5, 0.1, 0.4], size=200_000))
    table = confusion(torch.nn.functional.one_hot(teacher), torch.nn.functional.one_hot(student))
    assert np.trace(table) / table.sum() == pytest.approx(chance(table), abs=0.005)
    assert cohen_kappa(table)["kappa_low"] < 0 < cohen_kappa(table)["kappa_high"]


def test_correlation_ignores_what_softmax_ignores():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(500, 4, generator=generator)
    student = teacher + torch.randn(500, 4, generator=generator)
    found = agreement(teacher, student)["output_correlation"]
    shifted = agreement(teacher + 7 * torch.randn(500, 1), 3 * student)["output_correlation"]
    a, b = (z - z.mean(dim=1, keepdim=True) for z in (teacher, student))
    assert found == pytest.approx(pearsonr(a.flatten(), b.flatten()).statistic, abs=1e-6)
    assert shifted == pytest.approx(found, abs=1e-5)
    assert agreement(teacher, torch.ones(500, 4))["output_correlation"] is None


def test_wilson_interval_of_a_published_example():
    # Newcombe 1998, Statistics in Medicine 17, Table I, method 3: 15/148 and 0/20.
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
