"""Hand over no model that is slower than its original in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from onnxprune.allocation.latency.kernel_blocks import kernel_blocks
from onnxprune.errors import TargetError
from onnxprune.pipeline.result import Result
from onnxprune.settings import AUTO, Settings

__all__ = ["not_slower"]

#: What the report says where the second of two plans was taken.
TRIED = "the first plan was slower than the original: this one keeps whole blocks of channels only"


def not_slower(
    make: Callable[[Settings], Result], target: Mapping[str, str | float], options: Settings
) -> Result:
    """Prune, and where the result is slower than its original once more in whole blocks.

    Where both are slower the faster of the two is returned, and its report says so.

    Args:
        make: prunes with the given settings.
        target: what the user asked for.
        options: the user's settings.

    Raises:
        TargetError: a latency was asked for, and the result is slower.
    """
    again = options.round_to == AUTO and "latency" not in target and not options.blocks
    if options.calib is not None and options.cache is None and again and options.latency:
        options = replace(options, cache={})  # sensitivities hold for both plans
    result = make(options)
    if not result.report.slower:
        return result
    if "latency" in target:
        raise TargetError(
            "the pruned model takes more time than the original, as measured in turns when it was "
            "finished: the machine was too busy for its timings to agree, or nothing is faster on "
            "it. Nothing was written. Try again, or ask for macs."
        )
    return _in_whole_blocks(make, result, options) if again else result


def _in_whole_blocks(
    make: Callable[[Settings], Result], first: Result, options: Settings
) -> Result:
    """The faster one of a result and another whose widths are multiples of the kernels' blocks."""
    blocks = kernel_blocks(options.stopwatch)
    step = max(blocks.convolution, blocks.product)
    try:
        second = make(replace(options, round_to=step))
    except TargetError:
        return first
    times = [result.report.achieved["latency"] for result in (first, second)]
    if times[0] <= times[1]:
        return first
    report = second.report
    return replace(second, report=replace(report, notes=(*report.notes, TRIED)))
