"""Measure the sensitivities of all groups of channels, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.criteria import Scores
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.spooled_units import Workers, measure_in_processes
from onnxprune.importance.units_channels import channel_arrays, units_of
from onnxprune.ops.registry import COUPLINGS
from onnxprune.settings import CalibrationSettings, analysis_settings
from onnxprune.user_code import registered

__all__ = ["measure_channels"]


def measure_channels(
    analysis: Analysis,
    scores: Sequence[Scores],
    data: Calibration,
    options: CalibrationSettings,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Sensitivity]:
    """Measure how much the outputs suffer when each group alone gets narrower.

    Rules that were registered from Python are not known to other processes: with such rules all is
    measured in this one.

    Args:
        analysis: the original.
        scores: (n_channels,) of every group, for those that are not refitted.
        data: calibration data.
        options: among them the number of processes.
        progress: is told the share done.
    """
    arrays = channel_arrays(analysis, scores, data)
    if options.jobs == 1 or any(registered(COUPLINGS)):
        return measure_sensitivities(analysis, units_of(analysis, arrays), data, progress)
    workers = Workers(options.jobs, analysis_settings(options), units_of, arrays)
    return measure_in_processes(analysis, data, workers, progress)
