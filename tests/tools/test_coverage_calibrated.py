"""The runs of `tools/coverage.py --calibrated`, on a few small models, and what they say."""

import sys
from pathlib import Path

import onnx
import pytest
from networks import NETWORKS
from paths import TOOLS

sys.path.insert(0, str(TOOLS))

import coverage_calibrated
import coverage_calibrated_steps as steps

MODELS = (
    "captured_by_branches",
    "constant_nodes_as_weights",
    "squeeze_and_excite",
    "vision_transformer",
)


#: Too few samples of sound for the second convolution are an error.
SOUND = """<ir_version: 8, opset_import: ["" : 17]>
sound (float[1, 1, n] x) => (float[1, 2, m] y)
<float[2, 1, 40] w = {WEIGHTS}> { y = Conv<strides = [4]>(x, w) }
""".replace("WEIGHTS", ", ".join(f"{i % 7 - 3}.5" for i in range(80)))


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory) -> steps.Case:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / f"{request.param}.onnx"
    onnx.save(NETWORKS[request.param](), file)
    (folder / "samples").mkdir()
    return steps.Case(file, folder / "samples")


# a latency target is met or not as the machine's load will have it: tests/allocation/latency
@pytest.mark.parametrize("mode", sorted(set(steps.MODES) - {"latency"}))
def test_every_mode_runs(case: steps.Case, mode: str):
    values = steps.MODES[mode](case)
    assert values["bytes"] > 0
    if "proof" in values:
        assert values["reached"] < 1 and values["proof"] < 1e-4
    assert coverage_calibrated.internal(values) == []
    if mode == "prune":
        assert values["calibration"]["layers"]["refitted"] > 0


def test_every_mode_has_a_limit_of_time():
    assert list(coverage_calibrated.MODES) == list(steps.MODES)
    assert coverage_calibrated.modes_of("all") == list(steps.MODES)
    assert coverage_calibrated.modes_of("steps, prune") == ["steps", "prune"]
    with pytest.raises(ValueError, match="no mode 'prunes'"):
        coverage_calibrated.modes_of("prunes")


def test_files_are_found_in_folders(tmp_path: Path):
    for name in ("a/one.onnx", "b/two.onnx", "three.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = [tmp_path / "b", tmp_path / "three.onnx", tmp_path / "missing"]
    found = coverage_calibrated.model_files(given, tmp_path / "a")
    assert list(found) == ["one", "two", "three"]
    assert coverage_calibrated.model_files([], tmp_path / "nowhere") == {}


def test_the_table_tells_failures_from_results():
    left = {"a": "internal failure, please report it: x", "b": "its weight is computed"}
    good = {
        "reached": 0.7, "bytes": 1.5, "seconds": 2.0,
        "calibration": {
            "layers": {"count": 4, "refitted": 2, "left": left},
            "groups": {"count": 2, "measured": 2, "left": {}},
            "parameters": None,
        },
    }  # fmt: skip
    results: coverage_calibrated.Results = {
        "m": {"prune": good},
        "n": {"prune": {"failed": "KeyError: 1"}},
        "o": {"prune": {"stopped": 20}},
    }
    table = coverage_calibrated.markdown(results)
    assert "| m | prune | 0.70 | 0.50 | 1.00 |  | 1.50 | 2 |" in table
    assert "FAILED: KeyError: 1" in table
    assert "| o | prune | not run: longer than 20 s |" in table
    told = coverage_calibrated.summary(results)
    assert told == (
        "prune: 2 models, 1 failed, 0 with nothing to prune, 1 with an internal failure of a layer "
        "or group, 1 larger than before; 0.50 of layers refitted, 1.00 of groups measured, none of "
        "parameters tuned; 1 not run, too long"
    )
    assert "| layers | its weight is computed | 1 |" in coverage_calibrated.reasons(results)


def test_samples_have_sizes_on_which_the_model_runs(tmp_path: Path):
    file = tmp_path / "sound.onnx"
    onnx.save(onnx.parser.parse_model(SOUND), file)
    case = steps.Case(file, tmp_path)
    assert case.inputs["x"].shape == (1, 1, 224)


def test_what_takes_too_long_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def limited(script, arguments, seconds):
        asked.append(seconds)
        return {"failed": f"no result after {seconds} s"} if seconds < 9 else {"reached": 0.7}

    monkeypatch.setattr(coverage_calibrated, "limited_run", limited)
    (tmp_path / "m.onnx").touch()
    kept = tmp_path / "found.json"
    files = {"m": lambda: tmp_path / "m.onnx"}
    stopped = {"m": {"prune": {"stopped": 5}}}
    assert coverage_calibrated.sweep(files, ["prune"], kept, 5) == stopped
    assert coverage_calibrated.sweep(files, ["prune"], kept, 5) == stopped
    assert coverage_calibrated.sweep(files, ["prune"], kept, 9) == {
        "m": {"prune": {"reached": 0.7}}
    }
    assert coverage_calibrated.sweep(files, ["prune"], kept, 99)["m"]["prune"] == {"reached": 0.7}
    assert asked == [5, 9]
