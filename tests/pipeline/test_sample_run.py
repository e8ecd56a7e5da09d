"""One run that tells enough: sizes of samples or sizes that run, and samples for the proof."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import Net
from present import present

import onnxprune
from onnxprune import InputError, ProofError
from onnxprune.groups.analysis import analyze
from onnxprune.ir.inputs import load_data
from onnxprune.pipeline.bench import _inputs
from onnxprune.pipeline.recipe import parsed
from onnxprune.pipeline.run_recipe import run
from onnxprune.pipeline.sample_run import analyze_sized, sized_by_samples
from onnxprune.settings import Settings


def listener(kernel: int = 100, root: bool = False) -> onnx.ModelProto:
    """Two layers on sound that lasts at least a kernel; with `root` it must be positive."""
    n = Net(x=("N", 2, "L"))
    y = n.op("Sqrt", "x") if root else "x"
    y = n.relu(n.op("Conv", y, n.weight(24, 2, kernel), strides=[4]))
    y = n.relu(n.op("Conv", y, n.weight(16, 24, 3), n.weight(16)))
    return n.model(n.op("Conv", y, n.weight(6, 16, 1)))


def sounds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).random((12, 2, 150), np.float32)}


def macs(length: int, kernel: int = 100) -> int:
    """What the listener computes on so many samples of sound."""
    first = (length - kernel) // 4 + 1
    return first * 24 * 2 * kernel + (first - 2) * 16 * (24 * 3 + 6)


def shown(model: onnx.ModelProto, **settings: Any) -> onnxprune.Result:
    return onnxprune.prune(model, {"macs": 0.6}, latency=False, **settings)


def test_a_size_that_runs_is_found_by_every_command(tmp_path: Path) -> None:
    model = listener()
    result = shown(model)
    assert result.report.before.macs == macs(224)
    assert onnxprune.check(model, result.model, latency=False).before.macs == macs(224)
    assert onnxprune.sparsify(model, 0.5, latency=False).report
    (tmp_path / "plan.json").write_text(result.plan_json)
    again = onnxprune.apply(model, tmp_path / "plan.json", latency=False)
    assert again.report.before.macs == macs(224) and again.report.proof.passed
    recipe = parsed({"stage": [{"kind": "prune", "target": {"macs": 0.6}}]})
    assert run(recipe, model, Settings(latency=False)).stages
    onnx.save(model, tmp_path / "model.onnx")
    assert _inputs(tmp_path / "model.onnx", Settings())["x"].shape == (1, 2, 224)


@pytest.mark.parametrize("calib", ["random", sounds()], ids=["random", "samples"])
def test_single_weights_and_recipes_calibrate_on_sizes_that_run(calib: Any) -> None:
    """Random samples are drawn of a size that runs; given samples have theirs."""
    own: dict[str, Any] = {"calib": calib, "calib_samples": 4, "distill": False, "latency": False}
    sparse = onnxprune.sparsify(listener(), 0.5, **own)
    assert any("calibrated on 4 samples" in note for note in sparse.report.notes)
    stages = [{"kind": "prune", "target": {"macs": 0.8}}, {"kind": "sparsify", "pattern": "2:4"}]
    assert len(run(parsed({"stage": stages}), listener(), Settings(**own)).stages) == 2


@pytest.mark.parametrize("source", ["calib", "data"])
def test_sizes_of_samples_come_first(source: str) -> None:
    """The usual guess, 32, would run as well."""
    model, samples = listener(10), sounds()
    options = sized_by_samples(Settings(), model, None, load_data(samples, model))
    assert options.input_shapes == {"x": (1, 2, 150)}
    assert shown(model, **{source: samples}).report.before.macs == macs(150, 10)
    stated = shown(model, input_shapes={"x": (1, 2, 60)}, **{source: samples})
    assert stated.report.before.macs == macs(60, 10)


def test_what_runs_at_once_keeps_its_options() -> None:
    options = Settings()
    analysis, sized = analyze_sized(listener(10), options)
    assert sized is options and analysis.sample == {"x": (1, 2, 32)}


@pytest.mark.parametrize("source", ["calib", "data"])
def test_where_seeded_inputs_give_nan_the_proof_runs_on_samples(source: str) -> None:
    model = listener(root=True)
    with pytest.raises(ProofError, match=r"on seeded inputs.*Give samples with --calib or --data"):
        shown(model)
    result = shown(model, **{source: sounds()})
    proof = result.report.proof
    assert proof.passed and proof.inputs == "the first samples, as seeded inputs give NaN"
    assert proof.inputs in result.report.text()
    assert present(result.report.fidelity).cosine > 0


def test_samples_that_give_nan_prove_nothing() -> None:
    samples = {"x": -sounds()["x"]}
    with pytest.raises(ProofError, match="Leave out samples on which it gives NaN"):
        shown(listener(root=True), data=samples)


def test_messages_speak_of_the_users_inputs_only() -> None:
    """What is fed beside them, to mask sums, is no concern of the user's."""
    n = Net(x=("N", "L"))
    far = n.const(np.arange(33) + 20_000)  # no size that is tried has so many
    y = n.relu(n.op("MatMul", n.op("Gather", "x", far, axis=1), n.weight(33, 16)))
    y, scale, zero = n.op("DynamicQuantizeLinear", y, outputs=3)
    weight = n.const(np.ones((16, 4), np.int8))
    y = n.op("Cast", n.op("MatMulInteger", y, weight, zero), to=onnx.TensorProto.FLOAT)
    model = n.model(n.op("Mul", y, scale))
    with pytest.raises(InputError, match=r"runs on none") as e:
        shown(model)
    assert "alive" not in str(e.value)
    with pytest.raises(InputError, match=r"on x \[1, 40\]: ") as e:
        shown(model, input_shapes={"x": (1, 40)})
    assert "alive" not in str(e.value)


def test_a_declared_size_of_minus_one_varies() -> None:
    """A network as Paddle writes it is calibrated, proved and checked as any other."""
    n = Net(x=("N", 3, 12, 12))
    y = n.relu(n.conv("x", 3, 16))
    y = n.op("GlobalAveragePool", n.relu(n.conv(y, 16, 16)))
    model = n.model(n.gemm(n.op("Flatten", y), 16, 4))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    samples = {"x": np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)}
    result = shown(model, calib=samples, data=samples)
    assert result.report.proof.passed and present(result.report.fidelity).samples == 16
    assert "calibrated on 16 samples" in result.report.notes[0]
    assert analyze(model).sample == {"x": (1, 3, 12, 12)}
