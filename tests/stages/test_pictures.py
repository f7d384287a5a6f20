import numpy as np

from rebuttal.figures.students import agreement_bars
from rebuttal.stages import DecisionRegions
from rebuttal.training.evaluation import predict


def test_regions_are_the_two_networks_classes(mimic, fit, session):
    stage = DecisionRegions(teacher=fit, student=mimic, resolution=21)
    teacher, student, plane = stage._regions(session)
    points = plane.grid(21)
    assert np.array_equal(teacher.flatten(), predict(fit.network(session), points).argmax(dim=1).numpy())
    assert stage.run(session).metrics["agreement"] == (teacher == student).mean()


def test_the_legend_of_agreement_names_marks_that_the_first_student_does_not_have():
    shares = dict.fromkeys(("agreement", "agreement_low", "agreement_high", "majority_agreement"), 0.5)
    judged = shares | {"chance_agreement": 0.1, "kappa": None}
    (legend,) = agreement_bars({"judge": judged, "student": judged | {"train_agreement": 1.0}}).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == ["agreement", "chance", "majority class", "on its own inputs"]
