"""Sensitivities in a file: taken as they were measured, or measured again."""

import json
from pathlib import Path

import numpy as np
import pytest
from networks import NETWORKS

import onnxprune
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.ranking import rank
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.sensitivity_cache import (
    ENTRIES,
    cached_sensitivities,
    load_sensitivities,
    save_sensitivities,
)
from onnxprune.importance.units_channels import channel_arrays, units_of
from onnxprune.types import Group

HEAD = '{"onnxprune": "curves"'


@pytest.fixture(scope="module")
def sensitivities() -> tuple[tuple[Group, ...], list[Sensitivity]]:
    """The groups of a network, and their curves."""
    model = NETWORKS["chain"]()
    analysis = analyze(model)
    data = calibration("random", model, onnxprune.Settings(calib_samples=4), analysis.nodes)
    analysis, scores = rank(analysis, "l2", 0)
    return analysis.groups, measure_sensitivities(
        analysis, units_of(analysis, channel_arrays(analysis, scores, data)), data
    )


@pytest.mark.parametrize("name", ["vision_transformer", "grouped_convolutions"])
def test_curves_survive_the_file(name: str, tmp_path: Path):
    """Also those of heads that choose for themselves, whose group is arranged anew."""
    model = NETWORKS[name]()
    analysis = analyze(model)
    data = calibration("random", model, onnxprune.Settings(calib_samples=4), analysis.nodes)
    analysis, scores = rank(analysis, "l2", 0)
    sensitivities = measure_sensitivities(
        analysis, units_of(analysis, channel_arrays(analysis, scores, data)), data
    )
    assert save_sensitivities(tmp_path / "c.json", "key", analysis.groups, sensitivities) == ""
    loaded, note = load_sensitivities(tmp_path / "c.json", "key", analysis.groups)
    assert loaded is not None and note == ""
    for a, b in zip(sensitivities, loaded, strict=True):
        assert a.measured == b.measured and a.group.name == b.group.name
        np.testing.assert_array_equal(a.ranking, b.ranking)
        np.testing.assert_array_equal(a.errors, b.errors)
        for old, new in zip(a.group.sites, b.group.sites, strict=True):
            assert old.axes == new.axes
            np.testing.assert_array_equal(old.positions, new.positions)
    assert load_sensitivities(tmp_path / "c.json", "other", analysis.groups) == (None, "")


@pytest.mark.parametrize(
    ("content", "note", "stays"),
    [
        ("an essay", "is no cache of onnxprune; it was ignored and stays", True),
        ('{"other": 1}', "is no cache of onnxprune", True),
        (HEAD + ', "entries": {"a', "is damaged; it was ignored", False),
        (HEAD + ', "entries": 7}', "is damaged; it was ignored", False),
        (HEAD + ', "entries": ' + "[" * 100_000, "is damaged; it was ignored", False),
        ("", "", False),
    ],
)
def test_a_cache_that_cannot_be_read(
    content: str, note: str, stays: bool, tmp_path: Path, sensitivities
):
    cache = tmp_path / "c.json"
    cache.write_text(content)
    groups, measured = sensitivities
    found, notes = cached_sensitivities(cache, lambda: "key", groups, lambda: measured)
    assert found is measured and note in " ".join(notes)
    assert (cache.read_text() == content) == stays
    _, notes = cached_sensitivities(cache, lambda: "key", groups, lambda: measured)
    assert any("taken from" in n for n in notes) != stays


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: rows.pop(),
        lambda rows: rows[0].pop("errors"),
        lambda rows: rows[0]["errors"].pop(),
        lambda rows: rows[0].update(name="other"),
        lambda rows: rows[0]["ranking"].__setitem__(0, rows[0]["ranking"][1]),
        lambda rows: rows[0].update(measured=3),
        lambda rows: rows[0]["ranking"].__setitem__(0, 2**70),
        lambda rows: rows.__setitem__(0, None),
    ],
)
def test_a_damaged_entry_is_measured_again(damage, tmp_path: Path, sensitivities):
    cache = tmp_path / "c.json"
    groups, measured = sensitivities
    save_sensitivities(cache, "key", groups, measured)
    content = json.loads(cache.read_text())
    damage(content["entries"]["key"])
    cache.write_text(json.dumps(content))
    found, notes = cached_sensitivities(cache, lambda: "key", groups, lambda: measured)
    assert found is measured
    assert notes == [f"cache {cache}: an entry is damaged and was measured again"]
    loaded, _ = load_sensitivities(cache, "key", groups)
    assert loaded is not None and loaded[0].measured == measured[0].measured


def test_the_oldest_entries_go(tmp_path: Path, sensitivities):
    groups, measured = sensitivities
    for k in range(ENTRIES + 2):
        save_sensitivities(tmp_path / "c.json", f"key{k}", groups, measured)
    entries = json.loads((tmp_path / "c.json").read_text())["entries"]
    assert list(entries) == [f"key{k}" for k in range(2, ENTRIES + 2)]
