"""Whole models made sparse: exact densities, kept weights bit for bit, and refits that help."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, Net, samples_of
from onnx import TensorProto, helper, numpy_helper
from paths import ROOT
from present import present
from running import outputs

import onnxprune
from onnxprune.cli import main
from onnxprune.ir import graph, normalize, tensors

DIGITS = ROOT / "models" / "digits.onnx"
CALIB, TEST = ROOT / "models" / "digits_calib.npz", ROOT / "models" / "digits_test.npz"


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {name: tensors.array(tensor) for name, tensor in graph.constants(model).items()}


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_keeps_what_stays_bit_for_bit(name):
    model = NETWORKS[name]()
    before = model.SerializeToString()
    result = onnxprune.sparsify(model, 0.5, latency=False)
    assert model.SerializeToString() == before
    old, new = stored(normalize.prepare(normalize.distinct(model))[0]), stored(result.model)
    sizes = zeros = 0
    for row in result.report.layers:
        a, b = old[row.name], new[row.name]
        kept = b != 0
        assert (bits(a)[kept] == bits(b)[kept]).all()
        sizes, zeros = sizes + b.size, zeros + int((~kept).sum())
    assert abs(zeros - 0.5 * sizes) <= 1
    taken = {row.name for row in result.report.layers}
    assert all((bits(a) == bits(new[n])).all() for n, a in old.items() if n not in taken)
    onnx.checker.check_model(result.model, full_check=True)


@pytest.mark.parametrize("scope", ["layer", "erk", "global", "auto"])
@pytest.mark.parametrize("criterion", ["magnitude", "random", "wanda"])
def test_densities_are_exact(scope, criterion):
    model = NETWORKS["residual_spine"]()
    result = onnxprune.sparsify(model, 0.7, scope=scope, criterion=criterion, compensate=False,
                                calib=samples_of(model, np.random.default_rng(0)),
                                latency=False)  # fmt: skip
    rows = {row.name: np.prod(row.shape) for row in result.report.layers}
    slack = sum(row.shape[0] for row in result.report.layers) if criterion == "wanda" else 1
    gone = sum(size - row.nonzeros
               for size, row in zip(rows.values(), result.report.layers, strict=True))  # fmt: skip
    assert abs(gone - 0.7 * sum(rows.values())) <= slack + len(rows)
    if scope == "layer":
        for row in result.report.layers:
            rows_of = row.shape[0] if criterion == "wanda" else 1
            assert abs(row.density - 0.3) * np.prod(row.shape) <= rows_of


@pytest.mark.parametrize("calibrated", [False, True])
def test_two_of_four_along_input_channels(calibrated):
    model = NETWORKS["residual_spine"]()
    calib = samples_of(model, np.random.default_rng(0)) if calibrated else None
    result = onnxprune.sparsify(model, pattern="2:4", latency=False, calib=calib)
    for row in result.report.layers:
        assert row.density == 0.5 and "2:4" in row.patterns and not row.tensorrt
        weight = stored(result.model)[row.name]
        channels_last = np.moveaxis(weight, 1, -1).reshape(-1, 4)
        assert ((channels_last != 0).sum(1) == 2).all()
    assert "3 input channels are no multiple of 4" in result.report.skipped.values()


def test_blocks_go_whole():
    result = onnxprune.sparsify(NETWORKS["chain"](), 0.5, pattern="4x1", latency=False)
    for row in result.report.layers:
        weight = stored(result.model)[row.name]
        blocks = (weight != 0).reshape(-1, 4, *weight.shape[1:]).sum(1)
        assert set(np.unique(blocks)) <= {0, 4}


@pytest.mark.parametrize("name", ["chain", "residual_spine", "transposed_convolutions",
                                  "vision_transformer", "inverted_residual", "lstm"])  # fmt: skip
@pytest.mark.parametrize("criterion", ["obs", "magnitude"])
def test_refitting_is_closer_than_zeroing(name, criterion):
    model = NETWORKS[name]()
    feeds = samples_of(model, np.random.default_rng(5))
    options: dict[str, Any] = {"scope": "layer", "calib": feeds, "latency": False}
    made = [
        onnxprune.sparsify(model, 0.6, criterion=criterion, **options),
        onnxprune.sparsify(model, 0.6, criterion="magnitude", compensate=False, **options),
    ]
    base = outputs(model, feeds)
    errors = [float(((outputs(r.model, feeds) - base) ** 2).mean()) for r in made]
    assert errors[0] < errors[1]
    for result in made:
        for row in result.report.layers:
            assert abs(row.density - 0.4) * np.prod(row.shape) <= 1


def test_digits_keep_their_accuracy():
    result = onnxprune.sparsify(DIGITS, 0.7, calib=CALIB, calib_samples=96, data=TEST,
                                latency=False, distill=False)  # fmt: skip
    assert present(present(result.report.fidelity).accuracy)[1] > 0.98
    assert result.report.density == pytest.approx(0.3, abs=1e-3)


def test_cubic_steps_end_at_the_share():
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(5))
    for criterion in ("obs", "magnitude"):
        result = onnxprune.sparsify(model, 0.6, criterion=criterion, scope="layer", steps=3,
                                    calib=feeds, latency=False)  # fmt: skip
        assert result.report.density == pytest.approx(0.4, abs=1e-3)


def test_zero_is_the_zero_point():
    n = Net(x=(4, 8))
    rng = np.random.default_rng(0)
    weight = n.const(rng.integers(0, 255, (8, 6)).astype(np.uint8), "w")
    scale, zero = n.const(np.float32(0.1), "s"), n.const(np.uint8(131), "z")
    y = n.op("MatMul", "x", n.op("DequantizeLinear", weight, scale, zero))
    model = n.model(y)
    result = onnxprune.sparsify(model, 0.5, latency=False)
    old, new = stored(model)["w"].astype(int), stored(result.model)["w"].astype(int)
    gone = new == 131
    assert gone.sum() == 24 and (new[~gone] == old[~gone]).all()
    assert np.abs(old[gone] - 131).max() <= np.abs(old[~gone] - 131).min()
    assert result.report.density == 0.5


def test_a_threshold_and_shares_of_layers():
    model = NETWORKS["chain"]()
    result = onnxprune.sparsify(model, threshold=0.05, latency=False)
    for row in result.report.layers:
        assert row.nonzeros == (np.abs(stored(model)[row.name]) >= 0.05).sum()
    names = [row.name for row in result.report.layers]
    table = {f"^{names[0]}$": 0.25}
    result = onnxprune.sparsify(model, layer_sparsity=table, latency=False)
    densities = [row.density for row in result.report.layers]
    assert densities[0] == pytest.approx(0.75, abs=0.01) and densities[1:] == [1.0] * 2
    result = onnxprune.sparsify(model, 0.6, scope="layer", layer_sparsity=table, latency=False)
    assert [round(row.density, 2) for row in result.report.layers] == [0.75, 0.4, 0.4]


def test_selection_by_operator_and_name():
    model = NETWORKS["pooled_classifier"]()
    result = onnxprune.sparsify(model, 0.5, ops=["Gemm"], latency=False)
    assert [row.op for row in result.report.layers] == ["Gemm"]
    assert "operator Conv was not asked for" in result.report.skipped.values()
    name = result.report.layers[0].name
    result = onnxprune.sparsify(model, 0.5, exclude=[f"^{name}$"], latency=False)
    assert result.report.skipped == {name: "excluded by the user"}


def test_excluded_weights_are_not_refitted():
    model = NETWORKS["chain"]()
    names = [row.name for row in onnxprune.sparsify(model, 0.5, latency=False).report.layers]
    x = np.random.default_rng(0).standard_normal((256, 3, 16, 16)).astype(np.float32)
    excluded = [f"^{names[-1]}$"]
    result = onnxprune.sparsify(model, 0.5, exclude=excluded, latency=False, calib={"x": x})
    assert any("distilled" in note for note in result.report.notes)
    node = next(n for n in model.graph.node if names[-1] in n.input)
    left = next(n for n in result.model.graph.node if names[-1] in n.input)
    assert list(left.input) == list(node.input)
    for name in node.input:
        if name in stored(model):
            assert (stored(result.model)[name] == stored(model)[name]).all()


def test_sparse_storage_is_smaller_and_computes_the_same():
    model = NETWORKS["spatial_flatten"]()
    feeds = samples_of(model, np.random.default_rng(0))
    dense = onnxprune.sparsify(model, 0.9, latency=False)
    sparse = onnxprune.sparsify(model, 0.9, latency=False, storage="sparse")
    assert len(sparse.model.graph.sparse_initializer)
    assert sparse.report.sizes[1].file < dense.report.sizes[1].file
    np.testing.assert_array_equal(outputs(sparse.model, feeds), outputs(dense.model, feeds))
    full = onnxprune.sparsify(model, 0.1, latency=False, storage="sparse")
    assert not len(full.model.graph.sparse_initializer)
    assert any("stored dense" in note for note in full.report.notes)


def external(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path, save_as_external_data=True, size_threshold=64, location="weights.bin")
    return path


def test_external_weights(tmp_path):
    model = NETWORKS["chain"]()
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx")
    outside = onnxprune.sparsify(path, 0.5, latency=False)
    inside = onnxprune.sparsify(model, 0.5, latency=False)
    written = outside.save(tmp_path / "out.onnx")
    assert len(written) == 2
    again = stored(onnx.load(written[0]))
    assert all((again[n] == value).all() for n, value in stored(inside.model).items())


def test_large_models_are_changed_in_place(tmp_path, monkeypatch):
    model = NETWORKS["residual_spine"]()
    path = tmp_path / "in.onnx"
    onnx.save(model, path)
    small = onnxprune.sparsify(path, 0.5, latency=False)
    monkeypatch.setattr(graph, "LARGE", 100)
    large = onnxprune.sparsify(path, 0.5)
    for name, value in stored(small.model).items():
        np.testing.assert_array_equal(stored(large.model)[name], value)
    assert onnx.load(path).SerializeToString() == model.SerializeToString()


WRONG = [
    ((), "nothing to do"),
    (("--sparsity", "1"), "lies in [0, 1)"),
    (("--sparsity", "-0.1"), "lies in [0, 1)"),
    (("--sparsity", "nan"), "lies in [0, 1)"),
    (("--threshold", "nan"), "at least 0"),
    (("--threshold", "0.1", "--sparsity", "0.5"), "no sparsity"),
    (("--pattern", "4:2"), "pattern"),
    (("--pattern", "2:4", "--sparsity", "0.5"), "give no sparsity with it"),
    (("--pattern", "4x1"), "say how much"),
    (("--pattern", "2:4", "--misfit", "error"), "does not fit"),
    (("--pattern", "5:1000"), "no weight to make sparse in pattern"),
    (("--sparsity", "0.5", "--criterion", "wanda"), "give --calib"),
    (("--sparsity", "0.5", "--criterion", "best"), "unknown criterion"),
    (("--sparsity", "0.5", "--scope", "all"), "unknown scope"),
    (("--sparsity", "0.5", "--op", "Conf"), "op 'Conf'"),
    (("--sparsity", "0.5", "--include", "nosuch"), "matches no node"),
    (("--layer-sparsity", "nosuch=0.5"), "matches no node"),
    (("--layer-sparsity", "0.5"), "REGEX=SHARE"),
    (("--sparsity", "0.5", "--storage", "zip"), "unknown storage"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda v: " ".join(v)[:40])
def test_bad_input_writes_nothing(words, message, tmp_path):
    out = tmp_path / "out.onnx"
    result = CliRunner().invoke(main, ["sparsify", str(DIGITS), str(out), *words])
    assert result.exit_code == 2 and message in result.output, result.output
    assert not list(tmp_path.iterdir())


def test_the_command_writes_model_and_report(tmp_path):
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    words = ["sparsify", DIGITS, out, "--sparsity", "0.5", "--report", report, "--data", TEST]
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    for word in ("density", "zip", "top-1", "bit-identical", "not faster"):
        assert word in result.output
    values = json.loads(report.read_text())
    assert values["density"] == pytest.approx(0.5, abs=1e-3)
    onnx.checker.check_model(onnx.load(out), full_check=True)


def test_half_and_brain_floats():
    n = Net(x=(4, 8))
    weight = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, (8, 6), weight.ravel())
    y = n.op("MatMul", "x", n.op("Cast", "w", to=TensorProto.FLOAT))
    n.weights.append(tensor)
    model = n.model(y)
    result = onnxprune.sparsify(model, 0.5, latency=False)
    new = numpy_helper.to_array(result.model.graph.initializer[0]).astype(np.float32)
    assert (new == 0).sum() == 24


@pytest.mark.parametrize("how", [{"pattern": "2:4"}, {"sparsity": 0.5}])
@pytest.mark.parametrize("where", ["weight", "samples"])
def test_layers_without_finite_numbers_stay_as_they_are(how: dict[str, Any], where: str) -> None:
    """They would be swept for ever; the report names them."""
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(0), 4)
    if where == "weight":
        held = next(t for t in model.graph.initializer if len(t.dims) == 4)
        values = tensors.array(held).copy()
        values[0, 0] = np.nan
        held.CopyFrom(numpy_helper.from_array(values, held.name))
    else:
        feeds = {name: np.full_like(array, np.inf) for name, array in feeds.items()}
    with np.errstate(all="ignore"):
        done = onnxprune.sparsify(model, calib=feeds, distill=False, latency=False, **how)
    layers = done.report.values()["calibration"]["layers"]
    assert layers["refitted"] == 0 and layers["count"] == len(layers["left"]) == 6
    assert sum("finite numbers" in why for why in layers["left"].values()) >= 5
