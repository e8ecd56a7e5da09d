"""What stays of a model, written into it as metadata."""

import onnx
from networks import NETWORKS
from text_models import perceptron

from onnxprune.ir import graph, runtime
from onnxprune.ir.annotate import KEY, annotated


def told(message: onnx.NodeProto | onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in message.metadata_props}


def narrow() -> onnx.ModelProto:
    """The perceptron with two of its four hidden units."""
    model = perceptron()
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        cut = {"a": lambda w: w[:2], "b": lambda w: w[:2], "c": lambda w: w[:, :2]}
        if tensor.name in cut:
            tensor.CopyFrom(onnx.numpy_helper.from_array(cut[tensor.name](array), tensor.name))
    return model


def test_nodes_say_what_their_weights_were() -> None:
    model = narrow()
    before = model.SerializeToString()
    made = annotated(model, perceptron())
    assert model.SerializeToString() == before
    texts = [told(node).get(KEY) for node in made.graph.node]
    assert "a 2×3 of 4×3, b 2 of 4" in texts and any("c 2×2 of 2×4" in str(t) for t in texts)
    assert texts.count(None) == len(texts) - 2
    counts = [sum(t.ByteSize() > 0 for t in m.graph.initializer) for m in (made, perceptron())]
    assert counts[0] == counts[1] and " numbers in weights" in told(made)[KEY]


def test_nothing_is_said_of_nodes_that_are_whole_and_older_words_go() -> None:
    model = NETWORKS["pooled_classifier"]()
    model.metadata_props.add(key=KEY, value="old")
    model.metadata_props.add(key="author", value="somebody")
    made = annotated(annotated(model, model), model)
    assert not any(told(node) for node in made.graph.node)
    entries = [entry.key for entry in made.metadata_props]
    assert sorted(entries) == ["author", KEY] and told(made)["author"] == "somebody"


def test_runtimes_and_the_checker_take_it_in_old_files_too() -> None:
    made = annotated(perceptron(), narrow())
    for version in (7, 8, 10):
        made.ir_version = version
        onnx.checker.check_model(made)
        runtime.open_session(graph.model_bytes(made))
