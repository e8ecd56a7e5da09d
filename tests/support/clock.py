"""A clock that is made up: time is a staircase of each weight's axes."""

import math
from typing import Any

import numpy as np
import onnx

import onnxprune
from onnxprune import ops
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.staircase import Staircase, grid, measure_staircase
from onnxprune.allocation.latency.subgraphs import Subgraphs, divide
from onnxprune.allocation.latency.timer import SignedModel, TimedModel
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import inputs as feeds
from onnxprune.ir.stopwatch import Stopwatch
from onnxprune.settings import Settings


class Clock:
    """Instead of running models: what blocks of channels cost, and how much a whole one differs."""

    def __init__(self, block: int = 8) -> None:
        self.block = block
        self.whole = 1.0  # exponent of what the whole model takes
        self.odd = 1.0  # how much longer it takes if results are no blocks of 16
        self.constant = False
        self.jobs: list[Any] = []

    def cost(self, model: Any) -> float:
        """Time of a model: 1 for each operator, and what its weights' blocks are."""
        graph = onnx.ModelProto.FromString(model).graph
        time = float(len(graph.node))
        for tensor in () if self.constant else graph.initializer:
            if len(tensor.dims) > 1:
                channels = [math.ceil(d / self.block) * self.block for d in tensor.dims[:2]]
                odd = self.odd if tensor.dims[0] % 16 else 1.0
                time += odd * math.prod(channels) * math.prod(tensor.dims[2:]) / 20
        return time

    def timed(self, base: TimedModel, jobs: list[TimedModel], watch: Stopwatch) -> list[float]:
        self.jobs += [job.model for job in jobs]
        return [self.cost(job.model) / self.cost(base.model) for job in jobs]

    def ratio(self, base: bytes, other: bytes, *_rest: object) -> float:
        return float((self.cost(other) / self.cost(base)) ** self.whole)


def inputs_of(analysis: Analysis) -> dict[str, np.ndarray]:
    return feeds.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, 0)


def divided(model: onnx.ModelProto | str) -> tuple[Analysis, Subgraphs]:
    """A model and its subgraphs."""
    proto = onnx.load(model) if isinstance(model, str) else model
    analysis = analyze(proto, Settings())
    return analysis, divide(analysis, inputs_of(analysis))


def staircase(model: onnx.ModelProto | str) -> tuple[Analysis, Staircase]:
    """A model and what the clock says of its groups' widths."""
    analysis, subgraphs = divided(model)
    timed = TimedModel(analysis.original.SerializeToString(), inputs_of(analysis))
    grids = [grid(group) for group in analysis.groups]
    whole = SignedModel("whole", timed)
    stairs = measure_staircase(subgraphs, TimeCache(Stopwatch()), grids, whole, lambda _share: None)
    return analysis, stairs


def widths_of(result: onnxprune.Result) -> list[tuple[int, int]]:
    return [(row["channels"], row["kept"]) for row in result.report.groups]
