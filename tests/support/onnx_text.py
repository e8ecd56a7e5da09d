"""Small models written as ONNX text, and what onnxruntime computes with them."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray

from onnxprune.ir import graph, runtime


def parsed(text: str, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """The model of a graph in ONNX text; com.microsoft's operators are known too."""
    imports = f'"": {opset}, "com.microsoft": 1'
    header = f"<ir_version: {ir_version}, opset_import: [{imports}]>"
    return onnx.parser.parse_model(f"{header} {text}")


def run(model: onnx.ModelProto, **feeds: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All outputs by name; the operators run as they are written."""
    session = runtime.open_session(graph.model_bytes(model), optimize=False)
    return runtime.run(session, feeds)


def stored(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The initializers by name."""
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
