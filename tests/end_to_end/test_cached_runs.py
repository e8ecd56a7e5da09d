"""What a first run kept is taken by a second one only if no setting that counts has changed.

Each field of `Settings` is changed between two runs, for all three places that keep results:
sensitivities, finished steps and finished stages of a recipe. Results of which time is a target
are timed by a clock that is made up.
"""

import math
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import pytest
from networks import Net
from running import samples
from setting_values import setting_values

import onnxprune
from onnxprune import Settings
from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.timer import TimedModel
from onnxprune.errors import InputError
from onnxprune.settings import ImportanceSettings, names_of


def network() -> onnx.ModelProto:
    """Two residual blocks, as small as they may be."""
    n = Net(x=("N", 3, 16, 4))
    y = n.relu(n.conv("x", 3, 8))
    for _ in range(2):
        y = n.relu(n.op("Add", n.conv(n.relu(n.conv(y, 8, 6)), 6, 8), y))
    return n.model(n.gemm(n.op("Flatten", n.op("GlobalAveragePool", y)), 8, 4))


MODEL = network()
VALUES = setting_values(MODEL, samples(MODEL))
FIELDS = {field.name: field.metadata for field in fields(Settings)}
FIRST = {name: values.first for name, values in VALUES.items()}
#: Settings that never reach what is kept: a search tries targets, each kept under its own key.
OF_A_SEARCH = {"evaluate", "max_drop"}
COUNTED = {n for n, about in FIELDS.items() if not about.get("measure_only")} - OF_A_SEARCH
OF_TIME = {n for n, about in FIELDS.items() if about.get("time_only")}


def changed(name: str) -> dict[str, Any]:
    return {**FIRST, "evaluate": None, name: VALUES[name].second}


def size(model: Any) -> float:
    tensors = onnx.ModelProto.FromString(model).graph.initializer
    return 100.0 + sum(math.prod(tensor.dims) for tensor in tensors)


@pytest.fixture(scope="module")
def clock():
    """Models take as long as they are large."""

    def timed(base: TimedModel, jobs: list[TimedModel], _device: object) -> list[float]:
        return [size(job.model) / size(base.model) for job in jobs]

    def ratio(base: bytes, other: bytes, *_rest: object) -> float:
        return size(other) / size(base)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timer, "timed", timed)
        patch.setattr(timer, "ratio", ratio)
        yield


def pruned(folder: Path, target: str, settings: dict[str, Any]) -> bool:
    """Prune with the cache of a folder; whether a finished step was taken from it."""
    given = {**settings, "cache": folder / "cache.json"}
    result = onnxprune.prune(MODEL, {target: 0.7}, **given)
    return any("finished steps were taken" in note for note in result.report.notes)


def listed(folder: Path, settings: dict[str, Any]) -> bool:
    """Measure sensitivities with the cache of a folder; whether they were taken from it."""
    given = {**settings, "cache": folder / "cache.json"}
    notes = onnxprune.sensitivity_table(MODEL, **given).notes
    return any("were taken from" in note for note in notes)


def stage_taken(folder: Path, target: str, settings: dict[str, Any]) -> bool:
    """Carry out a recipe with a folder of finished stages; whether the stage was taken from it."""
    stage = {"kind": "prune", "target": {target: 0.7}}
    recipe = onnxprune.recipe({"stage": [stage]})
    result = onnxprune.run(recipe, MODEL, finished=folder / "done", **settings)
    return result.stages[0].resumed


RUNS = {"steps": pruned, "stages": stage_taken}
#: Where time is no target all settings are changed, else those that then count as well.
CHANGES = [
    *((kind, "macs", name) for kind in RUNS for name in FIELDS),
    *((kind, "latency", name) for kind in RUNS for name in sorted(OF_TIME)),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory, clock):
    """A folder for each kind of run and target, after a first one."""
    made = {}
    for kind, run in RUNS.items():
        for target in ("macs", "latency"):
            folder = tmp_path_factory.mktemp("kept")
            first = {**FIRST, "evaluate": None}
            assert not run(folder, target, first) and run(folder, target, first)
            made[kind, target] = folder
    return made


@pytest.mark.parametrize(("kind", "target", "name"), CHANGES)
def test_finished_work_is_taken_if_nothing_that_counts_has_changed(
    kind: str, target: str, name: str, kept, tmp_path: Path
):
    copy = shutil.copytree(kept[kind, target], tmp_path / "copy")
    if name == "max_drop":
        with pytest.raises(InputError, match="max_drop"):
            RUNS[kind](copy, target, changed(name))
        return
    counts = name in COUNTED and (target == "latency" or name not in OF_TIME)
    assert RUNS[kind](copy, target, changed(name)) == (not counts)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    first = {**FIRST, "evaluate": None}
    assert not listed(folder, first) and listed(folder, first)
    return folder


@pytest.mark.parametrize("name", FIELDS)
def test_sensitivities_are_taken_if_nothing_they_depend_on_has_changed(name, table, tmp_path):
    copy = shutil.copytree(table, tmp_path / "copy")
    counts = name in {*names_of(ImportanceSettings), "calib", "calib_samples"}
    settings = changed(name) | (
        {"evaluate": VALUES["evaluate"].first} if name == "max_drop" else {}
    )
    assert listed(copy, settings) == (not counts)


def made(settings: dict[str, Any]) -> bytes:
    return onnxprune.prune(MODEL, {"macs": 0.7}, **settings).model.SerializeToString()


@pytest.fixture(scope="module")
def result() -> bytes:
    return made({**FIRST, "evaluate": None})


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - COUNTED - OF_A_SEARCH | OF_TIME))
def test_settings_that_count_for_nothing_change_nothing(name: str, result: bytes):
    assert made(changed(name)) == result
