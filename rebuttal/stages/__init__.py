"""Stages: the parts of a run. A stage is a value, built from the config, that contains the stages it builds on; its
results are kept in the store under its identity."""

from rebuttal.stages.accuracy import Accuracy
from rebuttal.stages.architectures import Architectures
from rebuttal.stages.best_student import BestStudent
from rebuttal.stages.fit import Fit
from rebuttal.stages.judge import Judge
from rebuttal.stages.learning_curve import LearningCurve
from rebuttal.stages.map import Map
from rebuttal.stages.measure import Measure
from rebuttal.stages.memorisation import Memorisation
from rebuttal.stages.mimic import Mimic
from rebuttal.stages.pictures import AgreementChart, DecisionRegions, WalkStrip
from rebuttal.stages.reproducibility import Reproducibility
from rebuttal.stages.sample_efficiency import SampleEfficiency
from rebuttal.stages.seeds import Seeds, StudentSeeds
from rebuttal.stages.thinning import Thinning
from rebuttal.stages.transfer import Transfer

__all__ = [
    "Accuracy",
    "AgreementChart",
    "Architectures",
    "BestStudent",
    "DecisionRegions",
    "Fit",
    "Judge",
    "LearningCurve",
    "Map",
    "Measure",
    "Memorisation",
    "Mimic",
    "Reproducibility",
    "SampleEfficiency",
    "Seeds",
    "StudentSeeds",
    "Thinning",
    "Transfer",
    "WalkStrip",
]
