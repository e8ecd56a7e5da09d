"""Times in the user's cache: measured once, for each machine, none of another process lost."""

import json
import math
from pathlib import Path

import pytest
from clock import Clock, divided, staircase
from paths import MODELS

from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.timer import NOTHING, REFERENCE, SignedModel
from onnxprune.ir import runtime
from onnxprune.ir.runtime import Device
from onnxprune.ir.stopwatch import Stopwatch

DIGITS = str(MODELS / "digits.onnx")
BASE = SignedModel("reference", REFERENCE)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """What models take, in turn, instead of running them."""
    given: list[float] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(timer, "timed", lambda _base, jobs, _device: [given[0]] * len(jobs))
    return given


def test_two_processes_add_to_one_file(times: list[float]):
    first, second = TimeCache(Stopwatch()), TimeCache(Stopwatch())
    times[:] = [0.5]
    first.measure({"a": NOTHING}, BASE)
    times[:] = [math.nan]
    second.measure({"b": NOTHING}, BASE)
    first.store()
    second.store()
    times[:] = [9.0]
    third = TimeCache(Stopwatch())
    found = third.measure({"a": NOTHING, "b": NOTHING, "c": NOTHING}, BASE)
    assert found["a"] == 0.5 and math.isnan(found["b"]) and found["c"] == 9.0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"times": [1]}', '{"times": {"a": []}}'])
def test_a_damaged_file_is_written_anew(times: list[float], content: str):
    cache = TimeCache(Stopwatch())
    cache.path.parent.mkdir(parents=True)
    cache.path.write_text(content)
    times[:] = [0.5]
    again = TimeCache(Stopwatch())
    assert again.measure({"a": NOTHING}, BASE) == {"a": 0.5}
    again.store()
    assert json.loads(cache.path.read_text())["times"] == {"a / reference": 0.5}
    assert [path.name for path in cache.path.parent.iterdir()] == [cache.path.name]


def test_every_machine_has_a_file_of_its_own(times: list[float], monkeypatch: pytest.MonkeyPatch):
    paths = {TimeCache(Stopwatch()).path, TimeCache(Stopwatch(Device(threads=2))).path}
    for name in ("version", "processor"):
        with monkeypatch.context() as patch:
            patch.setattr(runtime, name, lambda: "another")
            paths.add(TimeCache(Stopwatch()).path)
    assert len(paths) == 4
    assert TimeCache(Stopwatch(Device("cpu"))).path == TimeCache(Stopwatch()).path


def test_a_folder_that_cannot_be_written_only_costs_time(times: list[float], tmp_path: Path):
    (tmp_path / "onnxprune").write_text("")
    cache = TimeCache(Stopwatch())
    times[:] = [0.5]
    assert cache.measure({"a": NOTHING}, BASE) == {"a": 0.5}
    cache.store()


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
    jobs = [subgraphs.job(subgraph, {}) for subgraph in subgraphs.single]
    TimeCache(Stopwatch()).measure(dict(jobs), BASE)
    assert len(set(clock.jobs)) == len({job.signature for job in jobs})
