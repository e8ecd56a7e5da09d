"""Equal subgraphs are timed once: what a signature depends on, and what not."""

import numpy as np
import onnx
from networks import Net

from onnxprune.allocation.latency.signature import signature

GIVEN = {"x": np.zeros((1, 3, 8, 8), np.float32)}


def small(channels: int = 8, shape: tuple[int, ...] = (1, -1)) -> onnx.ModelProto:
    n = Net(x=(1, 3, 8, 8))
    y = n.relu(n.conv("x", 3, channels))
    return n.model(n.op("Reshape", y, n.const(np.array(shape))))


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    names = {name: f"other/{name}" for node in copy.graph.node for name in node.output}
    names |= {tensor.name: f"other/{tensor.name}" for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for holder in (*copy.graph.initializer, *copy.graph.output):
        holder.name = names[holder.name]
    return copy


def test_names_and_the_order_of_weights_do_not_count():
    model = small()
    turned = onnx.ModelProto.FromString(model.SerializeToString())
    weights = list(turned.graph.initializer)[::-1]
    del turned.graph.initializer[:]
    turned.graph.initializer.extend(weights)
    assert len(weights) > 1
    assert len({signature(m, GIVEN) for m in (model, renamed(model), turned)}) == 1


def test_the_content_of_weights_does_not_count_but_that_of_shapes_does():
    other = small()
    weight = next(t for t in other.graph.initializer if len(t.dims) == 4)
    weight.CopyFrom(
        onnx.numpy_helper.from_array(np.zeros(tuple(weight.dims), np.float32), weight.name)
    )
    assert signature(other, GIVEN) == signature(small(), GIVEN)
    assert signature(small(shape=(8, -1)), GIVEN) != signature(small(), GIVEN)


def test_sizes_count():
    larger = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    assert len({signature(small(c), GIVEN) for c in (8, 16)}) == 2
    assert signature(small(), larger) != signature(small(), GIVEN)
