"""Stages: what a run is made of. A stage is a value, built from the config, that refers to earlier stages
by containing them; what it makes is kept in the store under its identity."""

from rebuttal.stages.fit import Fit
from rebuttal.stages.learning_curve import LearningCurve
from rebuttal.stages.measure import Measure
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.pictures import AgreementChart, DecisionRegions

__all__ = ["AgreementChart", "DecisionRegions", "Fit", "LearningCurve", "Measure", "Mimic"]
