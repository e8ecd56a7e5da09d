"""How far the outputs move when stored tensors change, on the few samples that tell most.

What lies before the change is not run again: activations are carried forward to where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.importance_sampling import draw_samples
from onnxprune.calibration.incremental_run import IncrementalRun, open_suffix
from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis

__all__ = ["SETTINGS", "OutputDivergence", "Weights"]

Weights = Mapping[str, NDArray[Any]]
#: Samples: at most, and at least where the model is costly to run.
SAMPLES, LEAST = 1024, 32
#: Multiplications that all measurements together should not exceed.
WORK = 5e11
SETTINGS = (SAMPLES, LEAST, WORK)


class OutputDivergence:
    """A model on the samples that divergence is measured on.

    Attributes:
        samples: how many.
        order: the number of the operator that makes each tensor.
    """

    def __init__(self, analysis: Analysis, data: Calibration, runs: int) -> None:
        """`runs`: how many measurements will be taken, which decides on the samples."""
        self.analysis, self.data = analysis, data
        each = float(analysis.cost.full[0]) / (max(data.sizes) if data.whole else 1)
        wanted = min(max(WORK / max(each * runs, 1), LEAST), SAMPLES)
        self.probes = draw_samples(analysis.model, data, round(wanted))
        self.samples = sum(len(probe.weights) for probe in self.probes)
        self.ahead = self._carrier()
        self.order = self.ahead.order
        self.outputs = ActivationStore([{} for _ in self.probes], data.folder)
        whole = open_suffix(self.ahead, 0, analysis.read, ())
        for values, outputs in zip(self.ahead.values, self.outputs.batches, strict=True):
            self.outputs.add(outputs, whole.run(values))

    def _carrier(self) -> IncrementalRun:
        feeds = [probe.feeds for probe in self.probes]
        return IncrementalRun(self.analysis.model, feeds, {}, self.data.folder)

    def opened(self, at: int, names: Iterable[str]) -> Callable[[Weights], float]:
        """Measures the divergence that new content of `names` makes, from operator `at` on.

        Operators must rise from call to call, but for 0: the whole model.
        """
        start = self.ahead if at else self._carrier()
        start.advance(at, self.analysis.read)
        rest = open_suffix(start, at, self.analysis.read, sorted(names))
        counts = [probe.weights for probe in self.probes]

        def measure(fed: Weights) -> float:
            each = [
                divergence(base, rest.run(v, fed), count)
                for base, v, count in zip(self.outputs.batches, start.values, counts, strict=True)
            ]
            return float(np.average(each, weights=[count.sum() for count in counts]))

        return measure
