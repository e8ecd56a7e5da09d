"""The groups of a network, measured on seeded samples."""

from dataclasses import dataclass

import numpy as np
from networks import NETWORKS, samples_of

from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.criteria import Scores
from onnxprune.importance.ranking import rank
from onnxprune.importance.sensitivity import Measurable, measure_sensitivities
from onnxprune.importance.units_channels import channel_arrays, units_of
from onnxprune.settings import Settings


@dataclass(frozen=True)
class MeasuredGroups:
    analysis: Analysis
    scores: list[Scores]
    data: Calibration
    units: list[Measurable[Sensitivity]]
    table: list[Sensitivity]


def measured_groups(name: str) -> MeasuredGroups:
    model = NETWORKS[name]()
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(4))
    data = calibration(feeds, model, Settings(), analysis.nodes)
    analysis, scores = rank(analysis, "l2", 0)
    units = units_of(analysis, channel_arrays(analysis, scores, data))
    table = measure_sensitivities(analysis, units, data)
    return MeasuredGroups(analysis, list(scores), data, units, table)
