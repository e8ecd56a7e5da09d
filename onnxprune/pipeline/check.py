"""Compare two finished models, as a gate for CI: drift, accuracy, paired latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onnxprune import ops
from onnxprune.errors import GateError, InputError
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.ir import graph, shape_inference
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.timing import Latency
from onnxprune.pipeline import compare
from onnxprune.pipeline.sample_run import analyze_sized, sized_by_samples
from onnxprune.report.parts import Fact, Part, plain
from onnxprune.report.report import comparison
from onnxprune.report.values import Fidelity, Measured
from onnxprune.settings import AnalysisSettings, Settings, SettingsChanges, settings_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Check", "check", "gate"]

#: Seeded samples that are compared where no data is given.
SAMPLES = 32


@dataclass(frozen=True)
class Check:
    """What `check` measured; `drop` is what a gate on accuracy looks at.

    With labels it is the fall in top-1, else one minus the smaller of the outputs' cosine and the
    top-1 agreement.
    """

    before: Measured
    after: Measured
    comparison: compare.Comparison
    drop: float
    latency_ratio: float | None
    environment: Mapping[str, Any]
    warnings: Sequence[str] = ()

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "fidelity": asdict(self.comparison.drift),
            "drop": self.drop,
            "latency_ratio": self.latency_ratio,
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
            "notes": list(self.comparison.notes),
        }

    def text(self) -> str:
        """The table a user sees."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        yield from comparison(self.before, self.after, self.comparison.drift, self.environment)
        yield from (Fact("note", note) for note in self.comparison.notes)


def check(
    original: Source,
    pruned: Source,
    settings: Settings | None = None,
    **changes: Unpack[SettingsChanges],
) -> Check:
    """Measure both models on the same inputs.

    Args:
        original: path or ModelProto.
        pruned: another model with the same inputs and outputs.
        settings: data, device, batch, latency, input_shapes, seed and progress count.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: a model or the data cannot be used, or their inputs and outputs differ.
    """
    options = settings_of(settings, changes)
    a, b = load(original), load(pruned)
    _same_interface(graph.interface(a), graph.interface(b))
    data = None if options.data is None else feeding.load_data(options.data, a)
    shapes = AnalysisSettings(input_shapes=options.input_shapes)
    first, shapes = analyze_sized(a, sized_by_samples(shapes, a, data))
    sample = shape_inference.sample_shapes(a, shapes.input_shapes)
    analyses = {"first": first, "second": analyze(b, shapes)}
    shape = sample if data is not None else _many(a, sample)
    inputs = feeding.seeded(a, ops.index_bounds(analyses["first"].nodes), shape, options.seed)
    pair = compare.ModelPair(a, b, compare.files_of(original, pruned))
    result = compare.compare_models(pair, compare.SeededInputs(inputs), data, options)
    warnings = [f"{name}: {text}" for name, one in analyses.items() for text in one.warnings]
    return _checked(tuple(analyses.values()), result, options.environment(), warnings)


def _checked(
    analyses: Sequence[Analysis],
    result: compare.Comparison,
    environment: Mapping[str, Any],
    warnings: Sequence[str],
) -> Check:
    """Put the columns of both models together."""
    times = result.latency or (None, None)
    right = result.drift.accuracy or (None, None)
    before, after = (
        compare.measured(one.cost.full, one.original, time, accuracy)
        for one, time, accuracy in zip(analyses, times, right, strict=True)
    )
    drop = _drop(result.drift)
    return Check(before, after, result, drop, _ratio(*times), environment, warnings)


def _ratio(before: Latency | None, after: Latency | None) -> float | None:
    """The second latency in shares of the first, if both were measured."""
    return None if before is None or after is None else after.median_ms / before.median_ms


def _drop(drift: Fidelity) -> float:
    """The fall in top-1, or where no labels are known what outputs and classes differ."""
    if drift.accuracy is not None:
        return drift.accuracy[0] - drift.accuracy[1]
    return 1 - min(drift.cosine, 1.0 if drift.agreement is None else drift.agreement)


def _many(model: ModelProto, sample: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Sample shapes with many samples, where every first axis may vary."""
    sizes = [graph.declared_sizes(value) for value in graph.graph_inputs(model)]
    if not all(size and size[0] is None for size in sizes):
        return dict(sample)
    return {name: (SAMPLES, *shape[1:]) for name, shape in sample.items()}


def _same_interface(a: Mapping[str, str], b: Mapping[str, str]) -> None:
    for name in (*a, *b):
        if a.get(name) != b.get(name):
            raise InputError(
                f"the models differ at '{name}': {a.get(name, 'missing')} in the first, "
                f"{b.get(name, 'missing')} in the second. Compare a model with its pruned self."
            )


def gate(result: Check, max_drop: float | None, max_latency_ratio: float | None) -> None:
    """Raise GateError where a limit is passed."""
    failed = []
    if max_drop is not None and not result.drop <= max_drop:
        failed.append(f"drop {result.drop:.4f} is above {max_drop}")
    ratio = result.latency_ratio
    if max_latency_ratio is not None and ratio is not None and not ratio <= max_latency_ratio:
        failed.append(f"latency ratio {ratio:.3f} is above {max_latency_ratio}")
    if failed:
        raise GateError("gate failed: " + "; ".join(failed))
