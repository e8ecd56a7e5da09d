"""Times that are measured once and kept."""

import json
from pathlib import Path

from clock import Clock, divided, staircase
from paths import MODELS

from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.timer import SignedModel
from onnxprune.ir import runtime
from onnxprune.ir.runtime import Device

DIGITS = str(MODELS / "digits.onnx")


def test_times_are_measured_once_and_kept(clock: Clock, tmp_path: Path):
    staircase(DIGITS)
    count = len(clock.jobs)
    assert count
    (stored,) = tmp_path.glob("onnxprune/latency-*.json")
    content = json.loads(stored.read_text())
    assert content["machine"]["onnxruntime"] == runtime.version()
    staircase(DIGITS)
    assert len(clock.jobs) == count
    stored.write_text("{")
    staircase(DIGITS)
    assert len(clock.jobs) == 2 * count


def test_equal_layers_are_timed_once(clock: Clock):
    _, subgraphs = divided(DIGITS)
    names = [subgraphs.job(subgraph, {})[0] for subgraph in subgraphs.single]
    table = TimeCache(Device())
    jobs = [subgraphs.job(subgraph, {}) for subgraph in subgraphs.single]
    table.measure(dict(jobs), SignedModel("reference", timer.REFERENCE))
    assert len(set(clock.jobs)) == len(set(names))


def test_another_device_has_a_table_of_its_own(clock: Clock):
    assert TimeCache(Device(threads=1)).path != TimeCache(Device(threads=2)).path
