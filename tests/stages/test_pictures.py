import numpy as np

from rebuttal.stages import DecisionRegions
from rebuttal.training.evaluation import predict


def test_regions_are_the_two_networks_classes(mimic, fit, session):
    stage = DecisionRegions(teacher=fit, student=mimic, resolution=21)
    teacher, student, plane = stage._regions(session)
    points = plane.grid(21)
    assert np.array_equal(teacher.flatten(), predict(fit.network(session), points).argmax(dim=1).numpy())
    assert stage.run(session).metrics["agreement"] == (teacher == student).mean()
