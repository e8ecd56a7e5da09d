"""Time several models in turns: latency, throughput, memory, and what operators take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.ir import external_data, shape_inference, timing
from onnxprune.ir import graph as graphs
from onnxprune.ir import inputs as feeding
from onnxprune.ir import load as graph
from onnxprune.ir.stopwatch import TimedModel
from onnxprune.ir.timing import Latency, Spent
from onnxprune.pipeline.sample_run import sized_by_trying
from onnxprune.progress import between
from onnxprune.report.plot import drawn
from onnxprune.settings import DeviceSettings, Settings, SettingsChanges, settings_of
from onnxprune.temporary_files import TemporaryFolder

if TYPE_CHECKING:
    from typing_extensions import Unpack
from onnxprune.report.parts import Fact, Heading, Part, Table, plain, time_ratio

__all__ = ["Benchmark", "Timed", "bench"]

#: Operators that the table of a model names.
SHOWN = 15
#: Seconds of runs for each model.
SECONDS = 2.0


@dataclass(frozen=True)
class Timed:
    """One model: single runs, samples a second, bytes beyond an empty process, its operators."""

    name: str
    latency: Latency
    throughput: float
    memory: int | None
    operators: Sequence[Spent] = ()

    @property
    def spread(self) -> float:
        """Distance between the 10th and the 90th percentile in shares of the median."""
        return (self.latency.p90_ms - self.latency.p10_ms) / self.latency.median_ms


@dataclass(frozen=True)
class Benchmark:
    """Models in the order given; ratios are to the first one's median."""

    models: tuple[Timed, ...]
    environment: Mapping[str, Any]

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"environment": dict(self.environment), "models": [*map(self._row, self.models)]}

    def _row(self, timed: Timed) -> dict[str, Any]:
        latency = timed.latency
        return {
            "model": timed.name,
            "median_ms": latency.median_ms,
            "p10_ms": latency.p10_ms,
            "p90_ms": latency.p90_ms,
            "runs": latency.runs,
            "quantiles_ms": list(latency.quantiles_ms),
            "spread": timed.spread,
            "ratio": latency.median_ms / self.models[0].latency.median_ms,
            "samples_per_second": timed.throughput,
            "peak_memory_bytes": timed.memory,
            "operators": [spent._asdict() for spent in timed.operators],
        }

    def text(self) -> str:
        """The table for people."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        rows = [["model", "median ms", "p90 ms", "spread", "ratio", "samples/s", "memory MB"]]
        for timed, row in zip(self.models, self.values()["models"], strict=True):
            memory = "?" if timed.memory is None else f"{timed.memory / 1e6:.1f}"
            numbers = f"{row['median_ms']:.4g}", f"{row['p90_ms']:.4g}", f"{timed.spread:.0%}"
            share = time_ratio(row["ratio"], 1)
            rows.append([timed.name, *numbers, share, f"{timed.throughput:.4g}"])
            rows[-1].append(memory)
        about = ", ".join(f"{name} {value}" for name, value in self.environment.items())
        yield Table(rows)
        for timed in self.models:
            yield from _operators(timed) if timed.operators else ()
        yield Fact("measured", about)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw medians with the 10th and 90th percentiles into an image file.

        Raises:
            InputError: matplotlib is missing, or the file cannot be written.
        """
        names = [timed.name for timed in self.models]
        middle = np.array([timed.latency.median_ms for timed in self.models])
        low = middle - [timed.latency.p10_ms for timed in self.models]
        spread = np.array([low, [timed.latency.p90_ms for timed in self.models] - middle])
        with drawn(path, (8, 1.5 + 0.5 * len(names))) as axes:
            axes.barh(range(len(names)), middle, xerr=spread, color="#3b6ea5", capsize=3)
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
            axes.set_xlabel("milliseconds of one run: median, 10th and 90th percentile")
            where = self.environment.get("timer") or self.environment["provider"]
            axes.set_title(f"{where}, batch {self.environment['batch']}")


def _operators(timed: Timed) -> Iterator[Part]:
    """The operators that take most."""
    whole = sum(spent.ms for spent in timed.operators)
    rows = [["", "operator", "kind", "ms", "share"]]
    for spent in sorted(timed.operators, key=lambda spent: -spent.ms)[:SHOWN]:
        rows.append(["", spent.name, spent.op, f"{spent.ms:.4f}", f"{spent.ms / whole:.1%}"])
    more = len(timed.operators) - SHOWN
    yield Heading(f"{timed.name}, the profiler's own time included")
    yield Table(rows)
    if more > 0:
        yield f"  and {more} more"


def bench(
    models: Sequence[str | os.PathLike[str]],
    settings: Settings | None = None,
    profile: bool = False,
    seconds: float = SECONDS,
    **changes: Unpack[SettingsChanges],
) -> Benchmark:
    """Time models in turns on seeded inputs.

    Args:
        models: paths.
        settings: device, batch, input_shapes, seed and progress count.
        profile: also what each operator takes.
        seconds: of runs for each model.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: a model or an option cannot be used.
    """
    options = settings_of(settings, changes)
    if not models:
        raise InputError("nothing to time: give a model")
    if profile and not options.stopwatch.here:
        raise InputError("the profiler is that of this machine: leave profile or the timer out")
    options.device.resolve()
    given = [_inputs(Path(model), options) for model in models]
    contents = [_content(Path(model), options) for model in models]
    rounds = options.stopwatch.rounds(
        [TimedModel(*pair) for pair in zip(contents, given, strict=True)],
        seconds * len(models),
        between(options.progress, "timing", 0.0, 0.9),
    )
    found = []
    for model, feeds, column in zip(models, given, rounds.T, strict=True):
        latency = timing.latency_of(column)
        operators = timing.profiled(str(model), feeds, options.device) if profile else ()
        rate = 1e3 * options.batch / latency.median_ms
        memory = _memory(str(model), feeds, options) if options.stopwatch.here else None
        found.append(Timed(os.fspath(model), latency, rate, memory, operators))
    return Benchmark(tuple(found), options.environment())


def _inputs(path: Path, options: DeviceSettings) -> feeding.Feeds:
    """Seeded inputs of a model; models with the same inputs get the same."""
    model = external_data.inlined(load(path))
    nodes = shape_inference.describe(model, ops.traits(), options.input_shapes)
    sized = sized_by_trying(options, model, nodes)
    sample = shape_inference.sample_shapes(model, sized.input_shapes)
    inputs = feeding.seeded(model, ops.index_bounds(nodes), sample, options.seed)
    del model
    return feeding.batched(graph.load(path), inputs, options.batch)


def _content(path: Path, options: DeviceSettings) -> bytes | str:
    """A model's file, or for a timer elsewhere what is in it, if that can be serialised."""
    if options.stopwatch.here:
        return str(path)
    model = graph.load(path)
    large = graphs.stored_bytes(model) > graphs.LARGE
    return str(path) if large else graphs.model_bytes(external_data.inlined(model))


def _memory(model: str, feeds: feeding.Feeds, options: DeviceSettings) -> int | None:
    """Peak bytes that a fresh process takes for the model's session and a run; None if unknown."""
    device = options.device
    with TemporaryFolder() as folder:
        inputs = Path(folder, "inputs.npz")
        try:
            np.savez(inputs, **feeds)  # type: ignore[arg-type]
            command = [sys.executable, "-m", "onnxprune.pipeline.peak_memory", model, str(inputs)]
            command += [device.provider, str(device.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return int(done.stdout)
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None
