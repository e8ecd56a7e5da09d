"""What a model is fed where one run tells enough: sizes of samples, sizes that run, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from onnxprune import ops
from onnxprune.calibration.samples import Calibration, calibration, is_random
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.input_sizes import running_shapes, shapes_of_samples
from onnxprune.ir.inputs import Data, batches
from onnxprune.settings import AnalysisSettings, CalibrationSettings, InputSettings
from onnxprune.types import Node

__all__ = ["analyze_sized", "check_more", "sized_by_samples", "sized_by_trying", "with_samples"]

Inputs = TypeVar("Inputs", bound=InputSettings)
Options = TypeVar("Options", bound=AnalysisSettings)
Calibrated = TypeVar("Calibrated", bound=CalibrationSettings)


def with_samples(options: Calibrated, model: ModelProto) -> Calibrated:
    """The options with calibration data read, so that what is wrong with it shows early.

    Random samples are drawn later, once sizes are known on which the model runs.

    Raises:
        InputError: a source cannot be read or does not fit, or there is only `more`.
    """
    check_more(options)
    read = (_read(source, model, options) for source in (options.calib, options.more))
    return replace(options, calib=next(read), more=next(read))


def check_more(options: CalibrationSettings) -> None:
    """Refuse further samples where there are none that calibrate."""
    if options.more is not None and options.calib is None:
        raise InputError(
            "more is learnt from beside samples of what the model will see: give calib too"
        )


def _read(source: Any, model: ModelProto, options: CalibrationSettings) -> Any:
    """The samples of a source; nothing and random ones stay as they are."""
    known = source is None or is_random(source)
    return source if known else calibration(source, model, options)


def sized_by_samples(options: Inputs, model: ModelProto, *given: object) -> Inputs:
    """The options with the sizes of samples, where the user states none.

    Args:
        options: what the user states.
        model: whose inputs they are.
        given: calibration data, other data, or what is neither; the first counts that is.
    """
    if options.input_shapes:
        return options
    for source in given:
        if isinstance(source, Calibration):
            found = shapes_of_samples(source.batches[0], source.whole)
            return replace(options, input_shapes=found)
        if isinstance(source, Data):
            feeds, _ = next(batches(source, model))
            sizes = (graph.declared_sizes(value) for value in graph.graph_inputs(model))
            fixed = any(size and size[0] is not None for size in sizes)
            return replace(options, input_shapes=shapes_of_samples(feeds, fixed))
    return options


def sized_by_trying(options: Inputs, model: ModelProto, nodes: Sequence[Node]) -> Inputs:
    """The options with sizes on which the model runs; the same where the first guess is right.

    Raises:
        InputError: it runs on none that were tried.
    """
    if options.input_shapes:
        return options
    found = running_shapes(model, ops.index_bounds(nodes), options.seed)
    return options if found is None else replace(options, input_shapes=found)


def analyze_sized(
    model: ModelProto, options: Options, *, biases: bool = False, must_run: bool = True
) -> tuple[Analysis, Options]:
    """Analyze a model on sizes on which it runs; with the options that have them.

    Without `must_run` one that runs on none is looked at on the first guess.

    Raises:
        InputError: as in `analyze`, or it runs on no size.
    """
    analysis = analyze(model, options, biases=biases)
    try:
        sized = sized_by_trying(options, analysis.model, analysis.nodes)
    except InputError:
        if must_run:
            raise
        sized = options
    return (
        (analysis, options) if sized is options else (analyze(model, sized, biases=biases), sized)
    )
