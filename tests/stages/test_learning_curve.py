import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from rebuttal.stages import LearningCurve
from tests.stages.conftest import DATA


def test_each_point_is_the_mimic_stage_at_that_size(mimic, session):
    curve = LearningCurve(students={"hard": mimic}, shares=(0.25, 1.0, 0.5))
    metrics = curve.run(session).metrics
    assert list(metrics) == [
        f"hard_{key}_{n}" for n in (100, 200, 400) for key in ("agreement", "kappa", "train_agreement", "r")
    ]
    for n in (100, 200, 400):
        alone = replace(mimic, dataset=replace(DATA, student_size=n)).run(session).metrics
        assert metrics[f"hard_kappa_{n}"] == alone["kappa"]
        assert alone["student_size"] == n
    assert metrics["hard_kappa_400"] == mimic.run(session).metrics["kappa"]
    made = [name.split("/")[0] for name in session.store.made]
    assert made.count("fit") == 1 and made.count("mimic") == 3


def test_smaller_sets_lie_within_larger(session):
    small, large = (replace(DATA, student_size=n).examples("student", 0).inputs for n in (100, 400))
    assert torch.equal(small, large[:100])


@pytest.mark.parametrize("shares", [(0.0,), (1.5,), ()])
def test_shares_out_of_range(mimic, shares):
    with pytest.raises(ValueError, match="shares"):
        LearningCurve(students={"hard": mimic}, shares=shares)


def test_the_figure_has_an_axis_of_r(mimic, session):
    curve = LearningCurve(students={"hard": mimic}, shares=(0.25, 0.3, 1.0))
    figure = curve.figures(session)["agreement"]
    figure.savefig(io.BytesIO())  # which lays it out
    (above,) = figure.axes[1].child_axes
    ratio = mimic.run(session).metrics["r"] / 400
    assert np.allclose(above.get_xlim(), np.array(figure.axes[1].get_xlim()) * ratio)
