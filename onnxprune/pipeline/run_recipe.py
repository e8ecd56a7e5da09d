"""A recipe carried out: stage after stage, each measured against the original."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.ir import external_data as external
from onnxprune.ir import graph, inputs, runtime, shape_inference
from onnxprune.ir import save as saving
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.pipeline import compare, score_search
from onnxprune.pipeline.prune import prune
from onnxprune.pipeline.quantize import Quantization, quantize
from onnxprune.pipeline.recipe import Recipe, StageOf
from onnxprune.pipeline.sparsify import sparsify
from onnxprune.report.text import amount, table
from onnxprune.settings import Settings, settings_of
from onnxprune.version import __version__

__all__ = ["RecipeResult", "StageReport", "run"]


@dataclass(frozen=True)
class StageReport:
    """What one stage gave: bytes, drift, top-1, score and latency beside the original's.

    `details` is the stage's own report; `resumed`: it was finished in a run before.
    """

    kind: str
    bytes: int
    seconds: float
    fidelity: Mapping[str, Any]
    latency_ms: tuple[float, float] | None
    score: float | None
    details: Mapping[str, Any]
    resumed: bool = False


@dataclass(frozen=True)
class RecipeResult:
    """The result of a recipe and the report of every stage; `hash` tells runs apart."""

    stored: ModelProto
    hash: str
    bytes: int
    stages: Sequence[StageReport]
    environment: Mapping[str, Any]
    score: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return external.inlined(self.stored)

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.save.save`."""
        return saving.save(self.stored, Path(path), external_data)

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "recipe": self.hash,
            "bytes": self.bytes,
            "score": self.score,
            "stages": [asdict(stage) for stage in self.stages],
            "environment": dict(self.environment),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """One line for each stage."""
        head = ("stage", "file", "ratio", "latency", "top-1", "agreement", "score")
        first = ("original", amount(self.bytes, "bytes"), "1.000", "", "", "", _number(self.score))
        rows: list[Sequence[str]] = [head, first]
        for stage in self.stages:
            drift, times = stage.fidelity, stage.latency_ms
            right = drift.get("accuracy")
            agree = drift.get("agreement")
            rows.append(
                (
                    stage.kind + (" (resumed)" if stage.resumed else ""),
                    amount(stage.bytes, "bytes"),
                    f"{stage.bytes / max(self.bytes, 1):.3f}",
                    "" if times is None else f"{times[1]:.3g} ms ({times[1] / times[0]:.2f})",
                    "" if right is None else f"{right[0]:.2%} → {right[1]:.2%}",
                    "" if agree is None else f"{agree:.1%}",
                    _number(stage.score),
                )
            )
        notes = [f"note      {note}" for note in self.notes]
        return "\n".join([table(rows), f"recipe    {self.hash}", *notes])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def run(
    recipe: Recipe,
    model: Source,
    settings: Settings | None = None,
    finished: str | os.PathLike[str] | None = None,
    **changes: Any,
) -> RecipeResult:
    """Carry out all stages.

    Args:
        recipe: see `onnxprune.pipeline.recipe`.
        model: path or ModelProto; it is not changed.
        settings: what is measured and on what; settings of the recipe count more.
        finished: folder that keeps finished stages.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: an option of a stage cannot be used.
        TargetError: a stage's target is out of reach.
        ProofError: a stage did not do what it should.
    """
    options = settings_of(settings, {**changes, **recipe.common})
    recipe_run = _Kitchen(
        recipe, load(model), options, None if finished is None else Path(finished)
    )
    return recipe_run.cooked(model)


class _Kitchen:
    """One run."""

    def __init__(
        self, recipe: Recipe, model: ModelProto, options: Settings, folder: Path | None
    ) -> None:
        self.recipe, self.original, self.folder = recipe, model, folder
        self.data: Calibration | None = None
        if options.calib is not None:
            self.data = calibration(options.calib, model, options)
            options = replace(options, calib=self.data)
        self.options = options
        labelled = options.data
        self.measured = None if labelled is None else inputs.load_data(labelled, model)
        self.score = None if options.evaluate is None else score_search.scorer(options.evaluate)
        sample = shape_inference.sample_shapes(model, options.input_shapes)
        nodes = shape_inference.describe(model, options.input_shapes)
        self.inputs = inputs.seeded(model, nodes, sample, options.seed)

    def cooked(self, source: Source) -> RecipeResult:
        """Stage after stage."""
        digest = saving.digest(source, self.original)
        samples = "" if self.data is None else self.data.digest
        model, done = self.original, list[StageReport]()
        for k, stage in enumerate(self.recipe.stages, 1):
            part = replace(self.recipe, stages=self.recipe.stages[:k])
            key = part.digest(__version__, digest, samples)
            model, report = self._stage(stage, model, key)
            done.append(report)
        return RecipeResult(
            model,
            self.recipe.digest(__version__, digest, samples),
            saving.file_bytes(self.original),
            done,
            compare.environment(self.options),
            self._scored(self.original),
        )

    def _stage(self, stage: StageOf, model: ModelProto, key: str) -> tuple[ModelProto, StageReport]:
        start = perf_counter_ns()
        known = self._kept(key)
        made, details = known if known is not None else self._made(stage, model)
        if known is None:
            self._keep(key, made, details)
        seconds = (perf_counter_ns() - start) / 1e9
        seen = compare.compare_models(
            compare.ModelPair(self.original, made),
            compare.SeededInputs(self.inputs),
            self.measured,
            self.options,
        )
        times = seen.latency
        report = StageReport(
            stage.kind,
            saving.file_bytes(made),
            seconds,
            asdict(seen.drift),
            None if times is None else (times[0].median_ms, times[1].median_ms),
            self._scored(made),
            details,
            known is not None,
        )
        return made, report

    def _made(self, stage: StageOf, model: ModelProto) -> tuple[ModelProto, dict[str, Any]]:
        """The stage's model, and its own report."""
        plain = replace(self.options, latency=False, data=None, evaluate=None)
        options = dict(stage.options)
        if stage.kind == "quantise":
            return quantize(model, Quantization(**options), self.data), {"asked": options}
        if stage.kind == "sparsify":
            sparse = sparsify(model, None, plain, **options)
            return external.inlined(sparse.stored), sparse.report.values()
        pruned = prune(model, options.pop("target", None), plain, **options)
        return pruned.model, pruned.report.values()

    def _scored(self, model: ModelProto) -> float | None:
        if self.score is None:
            return None
        content = graph.model_bytes(external.inlined(model))
        return float(self.score(runtime.open_session(content, self.options.device)))

    def _kept(self, key: str) -> tuple[ModelProto, dict[str, Any]] | None:
        """A finished stage, None if there is none that can be used."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            file = path.with_suffix(".onnx")
            model = load(file)
            if saving.digest(file, model) != content["model"]:
                return None
            return external.inlined(model), content["details"]
        except (OSError, InputError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, key: str, model: ModelProto, details: Mapping[str, Any]) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(exist_ok=True)
            file = self.folder / f"{key}.onnx"
            saving.save(model, file)
            content = {"model": saving.digest(file, load(file)), "details": details}
            (self.folder / f"{key}.json").write_text(
                json.dumps(content, default=str), encoding="utf-8"
            )
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written: {error.strerror}") from error
