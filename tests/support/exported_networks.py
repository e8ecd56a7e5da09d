"""Checkpoints of small networks, and the graphs that PyTorch's exporters write of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_text import parsed

EPSILON = 1e-5
State = dict[str, NDArray[Any]]


def drawn(seed: int = 0, **shapes: tuple[int, ...]) -> State:
    """Seeded numbers by name; `__` stands for a dot, variances are positive."""
    rng = np.random.default_rng(seed)
    found = {n.replace("__", "."): rng.standard_normal(s) for n, s in shapes.items()}
    found = {n: np.abs(v) + 0.5 if n.endswith("var") else v for n, v in found.items()}
    return {name: values.astype(np.float32) for name, values in found.items()}


def convolutional(seed: int = 0) -> State:
    """Two convolutions with normalisations, the first without a bias, and a head."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, tuple[int, ...]] = {
        "conv1__weight": (8, 3, 3, 3),
        **{f"bn1__{key}": (8,) for key in norm},
        "conv2__weight": (6, 8, 3, 3),
        "conv2__bias": (6,),
        **{f"bn2__{key}": (6,) for key in norm},
        "fc__weight": (5, 6),
        "fc__bias": (5,),
    }
    return drawn(seed, **shapes)


def exported_convolutional(state: State) -> onnx.ModelProto:
    """As the exporter of TorchScript writes it: normalisations folded, weights transposed."""
    stored = {"fc.bias": state["fc.bias"], "onnx::MatMul_5": state["fc.weight"].T}
    for k in (1, 2):
        scale = state[f"bn{k}.weight"] / np.sqrt(state[f"bn{k}.running_var"] + EPSILON)
        bias = state.get(f"conv{k}.bias", np.float32(0)) - state[f"bn{k}.running_mean"]
        weight = state[f"conv{k}.weight"] * scale[:, None, None, None]
        stored[f"onnx::Conv_{2 * k}"] = weight.astype(np.float32)
        stored[f"onnx::Conv_{2 * k + 1}"] = (bias * scale + state[f"bn{k}.bias"]).astype(np.float32)
    return with_stored(
        """net (float[1, 3, 6, 6] x) => (float[1, 5] y) {
            a = Conv ("x", "onnx::Conv_2", "onnx::Conv_3")
            b = Relu (a)
            c = Conv (b, "onnx::Conv_4", "onnx::Conv_5")
            d = Relu (c)
            e = GlobalAveragePool (d)
            f = Flatten (e)
            g = MatMul (f, "onnx::MatMul_5")
            y = Add (g, "fc.bias")
        }""",
        stored,
    )


def normalised(seed: int = 1) -> State:
    """A layer into a LayerNorm, and a head."""
    return drawn(seed, up__weight=(8, 4), norm__weight=(8,), norm__bias=(8,), head__weight=(3, 8))


def exported_normalised(state: State) -> onnx.ModelProto:
    """As torch.export has it: transposed weights with names of the exporter's."""
    stored = {"val_0": state["up.weight"].T, "val_3": state["head.weight"].T}
    stored |= {name: state[name] for name in ("norm.weight", "norm.bias")}
    return with_stored(
        """net (float[2, 4] x) => (float[2, 3] y) {
            a = MatMul (x, "val_0")
            b = LayerNormalization <axis = -1> (a, "norm.weight", "norm.bias")
            y = MatMul (b, "val_3")
        }""",
        stored,
    )


def recurrent(seed: int = 2, hidden: int = 6) -> State:
    """A bidirectional LSTM and a head."""
    shapes: dict[str, tuple[int, ...]] = {"head__weight": (3, 2 * hidden)}
    for end in ("", "_reverse"):
        shapes[f"rnn__weight_ih_l0{end}"] = (4 * hidden, 5)
        shapes[f"rnn__weight_hh_l0{end}"] = (4 * hidden, hidden)
        shapes[f"rnn__bias_ih_l0{end}"] = shapes[f"rnn__bias_hh_l0{end}"] = (4 * hidden,)
    return drawn(seed, **shapes)


def exported_recurrent(state: State) -> onnx.ModelProto:
    """Gates in ONNX's order, both directions in one tensor, both biases in one."""

    def gates(name: str) -> NDArray[Any]:
        i, f, g, o = np.split(state[f"rnn.{name}"], 4)
        return np.concatenate([i, o, f, g])

    ends = ("", "_reverse")
    stored = {
        "onnx::LSTM_1": np.stack([gates(f"weight_ih_l0{end}") for end in ends]),
        "onnx::LSTM_2": np.stack([gates(f"weight_hh_l0{end}") for end in ends]),
        "onnx::LSTM_3": np.stack(
            [np.concatenate([gates(f"bias_ih_l0{e}"), gates(f"bias_hh_l0{e}")]) for e in ends]
        ),
        "onnx::MatMul_4": state["head.weight"].T,
    }
    hidden = state["rnn.weight_hh_l0"].shape[1]
    return with_stored(
        f"""net (float[7, 1, 5] x) => (float[7, 1, 3] y) <int64[3] s = {{0, 0, -1}}> {{
            a = LSTM <hidden_size = {hidden}, direction = "bidirectional">
                (x, "onnx::LSTM_1", "onnx::LSTM_2", "onnx::LSTM_3")
            b = Transpose <perm = [0, 2, 1, 3]> (a)
            c = Reshape (b, s)
            y = MatMul (c, "onnx::MatMul_4")
        }}""",
        stored,
    )


def with_stored(text: str, stored: State) -> onnx.ModelProto:
    """A graph in ONNX text with stored tensors whose names the text has in quotes."""
    words = {f'"{name}"': f"t{k}" for k, name in enumerate(["x", *stored])}
    words['"x"'] = "x"
    for name, word in words.items():
        text = text.replace(name, word)
    model = parsed(text)
    back = {word: name.strip('"') for name, word in words.items()}
    for node in model.graph.node:
        node.input[:] = [back.get(name, name) for name in node.input]
    for name, values in stored.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return model
