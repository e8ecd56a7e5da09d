"""The seam to onnxruntime: devices, sessions, runs, values; what it says when it refuses."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from networks import NETWORKS, samples_of
from onnx.reference import ReferenceEvaluator
from onnx_text import parsed

from onnxprune.errors import InputError, OperatorError
from onnxprune.ir import graph, runtime
from onnxprune.ir.runtime import Device

SQUARE = "g (float[N,3] x, float[3] w) => (float[N,3] y) { y = Mul(x, w) }"


def test_a_provider_is_found_by_its_short_name() -> None:
    assert Device("cpu").resolve() == Device("CPUExecutionProvider").resolve() == runtime.CPU
    message = r"provider 'quantum' is not in this onnxruntime\. It has: .*CPUExecutionProvider"
    with pytest.raises(InputError, match=message):
        Device("quantum").resolve()


@pytest.mark.parametrize("optimize", [True, False])
def test_a_session_computes_what_onnx_s_reference_does(optimize: bool) -> None:
    model = NETWORKS["pooled_classifier"]()
    feeds = samples_of(model, np.random.default_rng(0))
    session = runtime.open_session(graph.model_bytes(model), Device(), optimize)
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    (found,) = runtime.run(session, feeds).values()
    # float32 in another order
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_an_operator_that_is_missing_is_told_from_a_broken_model() -> None:
    unknown = parsed("g (float[2] x) => (float[2] y) { y = com.microsoft.Mystery(x) }")
    message = r"^onnxruntime cannot run the model: .*Mystery.*no proof.* with --custom-ops\.$"
    with pytest.raises(OperatorError, match=message):
        runtime.open_session(graph.model_bytes(unknown))
    broken = parsed("g (float[2] x) => (float[2] y) { y = Neg(x, x) }")
    for content in (b"nonsense", graph.model_bytes(broken)):
        with pytest.raises(InputError, match=r"^onnxruntime cannot load the model: ") as error:
            runtime.open_session(content)
        assert not isinstance(error.value, OperatorError) and "\n" not in str(error.value)


def test_inputs_that_do_not_fit_are_refused_with_their_shapes() -> None:
    session = runtime.open_session(graph.model_bytes(parsed(SQUARE)))
    feeds = {"x": np.ones((2, 3), np.float32), "w": np.ones(4, np.float32)}
    message = r"cannot run the model on x \[2, 3\], w \[4\]: .*\. State sizes .* --input-shape"
    with pytest.raises(InputError, match=message):
        runtime.run(session, feeds)
    values = {name: runtime.value_of(array) for name, array in feeds.items()}
    with pytest.raises(InputError, match=message):
        runtime.run_values(session, values)


def test_a_session_does_not_keep_the_serialised_model() -> None:
    content = graph.model_bytes(parsed(SQUARE))
    before = sys.getrefcount(content)
    session = runtime.open_session(content)
    assert sys.getrefcount(content) == before and session is not None


def test_values_share_memory_with_their_arrays() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = runtime.value_of(array)
    array[0, 0] = 7
    assert runtime.array_of(value)[0, 0] == 7
    assert runtime.value_of(np.array(2.0)).shape() == []  # a number stays one
    session = runtime.open_session(graph.model_bytes(parsed(SQUARE)))
    found = runtime.run_values(session, {"x": value, "w": runtime.value_of(array[1].copy())})
    assert np.array_equal(runtime.array_of(found["y"]), array * array[1])


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT4", "UINT2"])
def test_types_that_numpy_lacks_arrive_whole(kind: str) -> None:
    """Cast to integers by onnxruntime, they are the numbers that went in; five share bytes."""
    number = onnx.TensorProto.DataType.Value(kind)
    values = np.array([1, 0, 3, 2, 1])
    array = values.astype(onnx.helper.tensor_dtype_to_np_dtype(number))
    model = parsed(
        "g (float[5] x) => (float[5] y) { y = Cast<to = 1>(x) }", opset=25, ir_version=11
    )
    model.graph.input[0].type.tensor_type.elem_type = number
    session = runtime.open_session(graph.model_bytes(model), optimize=False)
    assert runtime.run(session, {"x": array})["y"].tolist() == values.tolist()


def test_what_cannot_be_computed_costs_only_knowledge() -> None:
    constant = "g () => (float[2] y) <float[2] a = {1, 2}> { y = Add(a, a) }"
    model = graph.model_bytes(parsed(constant))
    assert runtime.compute(model, ["y"])["y"].tolist() == [2, 4]
    assert runtime.compute(b"nonsense", ["y"]) == runtime.output_shapes(b"nonsense") == {}
    assert runtime.output_shapes(graph.model_bytes(parsed(SQUARE))) == {"y": (None, 3)}


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"nonsense")
    message = r"ops\.so: not a library of custom operators: "
    with pytest.raises(InputError, match=message):
        runtime.custom_ops(library)
    runtime.open_session(graph.model_bytes(parsed(SQUARE)))  # sessions do not ask for it


@pytest.mark.parametrize(
    "text", ["std::bad_alloc", "[ONNXRuntimeError] : 6 : RUNTIME : Failed to allocate memory for"]
)
def test_a_lack_of_memory_is_not_taken_for_a_fault_of_the_model(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ort, "InferenceSession", failing)
    for opening in (runtime.open_session, runtime.output_shapes, lambda m: runtime.compute(m, [])):
        with pytest.raises(MemoryError):
            opening(b"")


@pytest.mark.parametrize("optimize", [True, False])
def test_what_onnxruntime_says_is_told_without_its_source_files(optimize: bool) -> None:
    text = "g (float[N,3,K,K] x, float[4,3,3,3] w, float[M] b) => (float[N,4,L,L] y)"
    model = parsed(f"{text} {{ y = Conv(x, w, b) }}")
    session = runtime.open_session(graph.model_bytes(model), optimize=optimize)
    shapes = {"x": (1, 3, 5, 5), "w": (4, 3, 3, 3), "b": (7,)}
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(InputError, match="bias must be a 1D tensor") as error:
        runtime.run(session, feeds)
    assert not re.search(r"\.(cc|h):|::|\[ONNXRuntime", str(error.value))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:/src/graph.cc:12 "
            "onnxruntime::Graph::Graph(const Model&, bool) [with T = int] it was false. Missing: w",
            "it was false. Missing: w",
        ),
        ("/src/x.h:3 void a::B::C(long int) axis == 1 was false.", "axis == 1 was false"),
        ("conv.cc:12 Compute Conv : bias", "Compute Conv : bias"),
        ("Node (n) has (two) parts", "Node (n) has (two) parts"),
        ("running Conv node. Name:'a_token_12' Status", "running Conv node. Name:'a' Status"),
        ("Name:'_token_12' and word_token_3", "Name:'_token_12' and word_token_3"),
    ],
)
def test_signatures_and_codes_are_left_out(raw: str, shown: str) -> None:
    assert runtime.message_of(ValueError(raw)) == shown
