"""Measures: small functions from a subject and its probes to named numbers.

Each is a config object that holds its settings; calling it with a `Subject` and `Probes` returns `Findings`.
"""

from rebuttal.measures.class_pictures import ClassPictures
from rebuttal.measures.critical import CriticalSamples
from rebuttal.measures.curvature import Sharpness
from rebuttal.measures.demand import LabelDemand
from rebuttal.measures.effort import Effort
from rebuttal.measures.frequency import FourierSensitivity, GradientSpectrum, LineSpectrum, SliceSpectrum
from rebuttal.measures.gradients import GradientNorms
from rebuttal.measures.lipschitz import LipschitzBracket
from rebuttal.measures.margins import Margins
from rebuttal.measures.operator_norms import OperatorNorms
from rebuttal.measures.path_norm import PathNorm
from rebuttal.measures.segments import SegmentCrossings
from rebuttal.measures.variation import LocalVariation
from rebuttal.measures.weight_noise import WeightNoise

__all__ = [
    "ClassPictures",
    "CriticalSamples",
    "Effort",
    "FourierSensitivity",
    "GradientNorms",
    "GradientSpectrum",
    "LabelDemand",
    "LineSpectrum",
    "LipschitzBracket",
    "LocalVariation",
    "Margins",
    "OperatorNorms",
    "PathNorm",
    "SegmentCrossings",
    "Sharpness",
    "SliceSpectrum",
    "WeightNoise",
]
