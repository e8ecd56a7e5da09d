"""Transformers as exporters write them: attention in single operators, and fused ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from networks import Net, network

SEQUENCE, WIDTH, HEADS = 6, 24, 3
SIZE = WIDTH // HEADS
MS = "com.microsoft"


class Block(Net):
    """Parts of transformers; data is (batch, length, width) throughout."""

    def ints(self, *values: int) -> str:
        """A stored list of integers."""
        return self.const(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A stored number."""
        return self.const(np.asarray(value, self.kind))

    def positive(self, *shape: int) -> str:
        """A stored scale around 1."""
        return self.const(self.rng.uniform(0.5, 1.5, shape).astype(self.kind))

    def linear(self, x: str, n_in: int, n_out: int, bias: bool = True) -> str:
        """MatMul and Add."""
        y = self.op("MatMul", x, self.weight(n_in, n_out))
        return self.op("Add", self.weight(n_out), y) if bias else y

    def norm(self, x: str, width: int = WIDTH) -> str:
        """LayerNormalization over the width."""
        return self.op("LayerNormalization", x, self.positive(width), self.weight(width), axis=-1)

    def rms(self, x: str, width: int = WIDTH) -> str:
        """Root mean square normalisation in single operators."""
        mean = self.op("ReduceMean", self.op("Pow", x, self.scalar(2)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.scalar(1e-6)))
        y = self.op("Mul", x, self.op("Div", self.scalar(1), root))
        return self.op("Mul", self.positive(width), y)

    def gelu(self, x: str) -> str:
        """Gelu in single operators."""
        wave = self.op("Erf", self.op("Div", x, self.scalar(2**0.5)))
        y = self.op("Mul", x, self.op("Add", wave, self.scalar(1)))
        return self.op("Mul", y, self.scalar(0.5))

    def mlp(self, x: str, hidden: int = 40) -> str:
        """Two layers with Gelu between them."""
        return self.linear(self.gelu(self.linear(x, WIDTH, hidden)), hidden, WIDTH)

    def gated(self, x: str, hidden: int = 40) -> str:
        """SwiGLU: one layer gates the other."""
        gate, up = (self.linear(x, WIDTH, hidden, bias=False) for _ in range(2))
        y = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return self.linear(y, hidden, WIDTH, bias=False)

    def split_heads(self, x: str, heads: int = HEADS, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
        """(batch, length, heads · size) to (batch, heads, length, size)."""
        y = self.op("Reshape", x, self.ints(0, 0, heads, -1))
        return self.op("Transpose", y, perm=list(perm))

    def join_heads(self, x: str) -> str:
        """The reverse, with sizes that the graph computes."""
        y = self.op("Transpose", x, perm=[0, 2, 1, 3])
        shape = self.op("Shape", y)
        sizes = [self.op("Gather", shape, self.ints(k)) for k in (0, 1)]
        return self.op("Reshape", y, self.op("Concat", *sizes, self.ints(-1), axis=0))

    def attend(self, q: str, keys: str, v: str, bias: str = "", scale: bool = True) -> str:
        """Softmax(q·keys·scale + bias)·v, keys already (batch, heads, size, length)."""
        s = self.op("MatMul", q, keys)
        s = self.op("Mul", s, self.scalar(SIZE**-0.5)) if scale else s
        s = self.op("Add", s, bias) if bias else s
        return self.op("MatMul", self.op("Softmax", s, axis=-1), v)

    def causal(self, length: int = SEQUENCE) -> str:
        """A stored mask that is added to scores."""
        return self.const(np.triu(np.full((length, length), -1e4, self.kind), 1))

    def embedded(self, ids: str, vocabulary: int) -> tuple[str, str]:
        """Rows of a table plus a stored place, and the table."""
        table = self.weight(vocabulary, WIDTH)
        return self.op("Add", self.op("Gather", table, ids), self.weight(SEQUENCE, WIDTH)), table

    def tokens(self, *outputs: str) -> onnx.ModelProto:
        """The finished model, its inputs numbers of words."""
        model = self.model(*outputs)
        for value in model.graph.input:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT64
        return onnx.shape_inference.infer_shapes(model)

    def rows(self, x: str, stored: str, *sizes: int) -> str:
        """A stored tensor (1, …) repeated for every sample of `x`."""
        shape = self.op("Shape", x, start=0, end=1)
        if sizes:
            shape = self.op("Concat", shape, self.ints(*sizes), axis=0)
        return self.op("Expand", stored, shape)


def declared(model: onnx.ModelProto, *shape: Any) -> onnx.ModelProto:
    """The model with the shape of its result, which onnx cannot infer."""
    for value in model.graph.output:
        kind = value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
    return model


DATA: dict[str, Any] = {"x": ("N", SEQUENCE, WIDTH)}
WORDS: dict[str, Any] = {"ids": ("N", SEQUENCE)}


@network
def vision_transformer() -> onnx.ModelProto:
    """One projection for q, k and v, taken apart by Gather; a class token; patches."""
    n = Block(x=(1, 3, 16, 16))
    y = n.op("Conv", "x", n.weight(WIDTH, 3, 8, 8), n.weight(WIDTH), strides=[8, 8])
    y = n.op("Transpose", n.op("Reshape", y, n.ints(1, WIDTH, 4)), perm=[0, 2, 1])
    y = n.op("Concat", n.weight(1, 1, WIDTH), y, axis=1)
    y = n.op("Add", y, n.weight(1, 5, WIDTH))
    for _ in range(2):
        z = n.op("Reshape", n.linear(n.norm(y), WIDTH, 3 * WIDTH), n.ints(1, 5, 3, HEADS, SIZE))
        z = n.op("Transpose", z, perm=[2, 0, 3, 1, 4])
        q, k, v = (n.op("Gather", z, n.const(np.array(i)), axis=0) for i in range(3))
        keys = n.op("Transpose", k, perm=[0, 1, 3, 2])
        z = n.op("Transpose", n.attend(q, keys, v), perm=[0, 2, 1, 3])
        z = n.op("Reshape", z, n.ints(1, 5, WIDTH))
        y = n.op("Add", y, n.linear(z, WIDTH, WIDTH))
        y = n.op("Add", y, n.mlp(n.norm(y)))
    y = n.op("Gather", n.norm(y), n.const(np.array(0)), axis=1)
    return n.model(n.gemm(y, WIDTH, 10))


@network
def gpt_with_tied_head() -> onnx.ModelProto:
    """Split of one projection, a causal Where, the embedding as the last layer."""
    n = Block(**WORDS)
    y, table = n.embedded("ids", 50)
    seen = n.const(np.tril(np.ones((1, 1, SEQUENCE, SEQUENCE), bool)))
    for _ in range(2):
        parts = n.op("Split", n.linear(n.norm(y), WIDTH, 3 * WIDTH), outputs=3, axis=2)
        q, k, v = (n.split_heads(part) for part in parts)
        s = n.op("Div", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])),
                 n.scalar(SIZE**0.5))  # fmt: skip
        s = n.op("Softmax", n.op("Where", seen, s, n.scalar(-1e4)), axis=-1)
        y = n.op("Add", y, n.linear(n.join_heads(n.op("MatMul", s, v)), WIDTH, WIDTH))
        y = n.op("Add", y, n.mlp(n.norm(y)))
    return n.tokens(n.op("MatMul", n.norm(y), n.op("Transpose", table, perm=[1, 0])))


def _turned(n: Block, x: str, cos: str, sin: str) -> str:
    """Rotary embedding in halves, in single operators."""
    half = SIZE // 2
    first = n.op("Slice", x, n.ints(0), n.ints(half), n.ints(3))
    second = n.op("Slice", x, n.ints(half), n.ints(2**62), n.ints(3))
    turned = n.op("Concat", n.op("Neg", second), first, axis=-1)
    return n.op("Add", n.op("Mul", x, cos), n.op("Mul", turned, sin))


def _repeated(n: Block, x: str, few: int, times: int) -> str:
    """(batch, few, length, size) to (batch, few · times, length, size)."""
    y = n.op("Expand", n.op("Unsqueeze", x, n.ints(2)), n.ints(1, few, times, SEQUENCE, SIZE))
    return n.op("Reshape", y, n.ints(0, few * times, SEQUENCE, SIZE))


def _angles() -> tuple[np.ndarray, np.ndarray]:
    angle = np.outer(np.arange(SEQUENCE), 10.0 ** -np.arange(SIZE // 2)).astype(np.float32)
    return np.cos(angle), np.sin(angle)


@network
def llama() -> onnx.ModelProto:
    """RMS normalisation, rotary halves, two query heads a key, SwiGLU."""
    n = Block(**DATA)
    cos, sin = (n.const(np.tile(part, 2)) for part in _angles())
    y = "x"
    for _ in range(2):
        z = n.rms(y)
        q, k, v = (n.split_heads(n.linear(z, WIDTH, h * SIZE, False), h) for h in (4, 2, 2))
        q, k = _turned(n, q, cos, sin), _turned(n, k, cos, sin)
        k, v = _repeated(n, k, 2, 2), _repeated(n, v, 2, 2)
        keys = n.op("Transpose", k, perm=[0, 1, 3, 2])
        z = n.join_heads(n.attend(q, keys, v, n.causal()))
        y = n.op("Add", y, n.linear(z, 4 * SIZE, WIDTH, False))
        y = n.op("Add", y, n.gated(n.rms(y)))
    return n.model(n.linear(n.rms(y), WIDTH, 10, False))


@network
def llama_of_opset_23() -> onnx.ModelProto:
    """The standard's RMSNormalization, RotaryEmbedding and Attention, three and four axes."""
    n = Block(23, **DATA)
    y = "x"
    for flat in (True, False):
        z = n.op("RMSNormalization", y, n.positive(WIDTH), axis=-1)
        parts = [n.linear(z, WIDTH, h * SIZE, False) for h in (4, 2, 2)]
        caches = [n.const(part) for part in _angles()]
        places = n.rows("x", n.const(np.arange(SEQUENCE)[None]), SEQUENCE)
        heads: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 2} if flat else {}
        if not flat:
            parts = [n.split_heads(p, h) for p, h in zip(parts, (4, 2, 2), strict=True)]
        for i, h in enumerate((4, 2)):
            attrs: dict[str, Any] = {"num_heads": h} if flat else {}
            parts[i] = str(n.op("RotaryEmbedding", parts[i], *caches, places, **attrs))
        z = str(n.op("Attention", *parts, is_causal=1, **heads))
        z = z if flat else n.join_heads(z)
        y = n.op("Add", y, n.linear(z, 4 * SIZE, WIDTH, False))
        y = n.op("Add", y, n.gated(n.op("RMSNormalization", y, n.positive(WIDTH), axis=-1)))
    return n.model(n.linear(y, WIDTH, 10, False))


@network
def t5_with_relative_bias() -> onnx.ModelProto:
    """No scale; a stored table gives every head a bias by distance; cross attention."""
    n = Block(**DATA, memory=("N", SEQUENCE, WIDTH))
    distance = np.abs(np.subtract.outer(np.arange(SEQUENCE), np.arange(SEQUENCE)))
    bias = n.op("Gather", n.weight(SEQUENCE, HEADS), n.const(distance))
    bias = n.op("Unsqueeze", n.op("Transpose", bias, perm=[2, 0, 1]), n.ints(0))
    y = "x"
    for source in ("", "memory"):
        z = n.rms(y)
        q, v = (n.split_heads(n.linear(s, WIDTH, WIDTH, False)) for s in (z, source or z))
        k = n.linear(source or z, WIDTH, WIDTH, False)
        keys = n.split_heads(k, perm=(0, 2, 3, 1))
        z = n.attend(q, keys, v, bias if not source else "", scale=False)
        y = n.op("Add", y, n.linear(n.join_heads(z), WIDTH, WIDTH, False))
    return n.model(n.linear(n.op("Add", y, n.gated(n.rms(y))), WIDTH, 10, False))


@network
def window_attention() -> onnx.ModelProto:
    """Windows beside the batch, a stored bias (1, heads, n, n), q scaled before the product."""
    n = Block(x=(1, 4, 4, WIDTH))
    y = n.op("Reshape", n.norm("x"), n.ints(1, 2, 2, 2, 2, WIDTH))
    y = n.op("Reshape", n.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), n.ints(4, 4, WIDTH))
    z = n.op("Reshape", n.linear(y, WIDTH, 3 * WIDTH), n.ints(4, 4, 3, HEADS, SIZE))
    parts = n.op("Split", n.op("Transpose", z, perm=[2, 0, 3, 1, 4]), outputs=3, axis=0)
    q, k, v = (n.op("Squeeze", part, n.ints(0)) for part in parts)
    keys = n.op("Transpose", k, perm=[0, 1, 3, 2])
    q = n.op("Mul", q, n.scalar(SIZE**-0.5))
    z = n.attend(q, keys, v, n.weight(1, HEADS, 4, 4), scale=False)
    z = n.linear(n.op("Reshape", n.op("Transpose", z, perm=[0, 2, 1, 3]), n.ints(4, 4, WIDTH)),
                 WIDTH, WIDTH)  # fmt: skip
    z = n.op("Reshape", z, n.ints(1, 2, 2, 2, 2, WIDTH))
    z = n.op("Reshape", n.op("Transpose", z, perm=[0, 1, 3, 2, 4, 5]), n.ints(1, 4, 4, WIDTH))
    y = n.op("Add", "x", z)
    return n.model(n.op("Add", y, n.mlp(n.norm(y))))


@network
def heads_in_the_batch() -> onnx.ModelProto:
    """Heads beside the batch, (batch · heads, length, size), as older exports have them."""
    n = Block(x=(2, SEQUENCE, WIDTH))
    q, k, v = (
        n.op("Reshape", n.split_heads(n.linear("x", WIDTH, WIDTH)), n.ints(2 * HEADS, -1, SIZE))
        for _ in range(3)
    )
    z = n.attend(q, n.op("Transpose", k, perm=[0, 2, 1]), v)
    z = n.op("Transpose", n.op("Reshape", z, n.ints(2, HEADS, SEQUENCE, SIZE)), perm=[0, 2, 1, 3])
    return n.model(n.linear(n.op("Reshape", z, n.ints(2, SEQUENCE, WIDTH)), WIDTH, 10))


@network
def attention_by_einsum() -> onnx.ModelProto:
    """Products of four axes, projections with heads as an axis of the weight."""
    n = Block(**DATA)
    q, k, v = (
        n.op("Einsum", "x", n.weight(WIDTH, HEADS, SIZE), equation="btc,chd->bthd")
        for _ in range(3)
    )
    s = n.op("Mul", n.op("Einsum", q, k, equation="bqhd,bkhd->bhqk"), n.scalar(SIZE**-0.5))
    z = n.op("Einsum", n.op("Softmax", s, axis=-1), v, equation="bhqk,bkhd->bqhd")
    return n.model(n.op("Einsum", z, n.weight(HEADS, SIZE, 10), equation="bqhd,hde->bqe"))


@network
def clip_towers() -> onnx.ModelProto:
    """Pictures and words, each to a vector of length 1; their products."""
    n = Block(x=(2, 3, 8, 8), words=(3, SEQUENCE, WIDTH))
    towers = []
    y = n.conv("x", 3, WIDTH, 4, pads=[0, 0, 0, 0], strides=[4, 4])
    y = n.op("Transpose", n.op("Reshape", y, n.ints(2, WIDTH, 4)), perm=[0, 2, 1])
    for z in (y, "words"):
        q, k, v = (n.split_heads(n.linear(n.norm(z), WIDTH, WIDTH)) for _ in range(3))
        z = n.op("Add", z, n.linear(n.join_heads(
            n.attend(q, n.op("Transpose", k, perm=[0, 1, 3, 2]), v)), WIDTH, WIDTH))  # fmt: skip
        z = n.op("ReduceMean", n.op("Add", z, n.mlp(n.norm(z))), axes=[1], keepdims=0)
        z = n.op("MatMul", z, n.weight(WIDTH, 12))
        towers.append(n.op("Div", z, n.op("ReduceL2", z, axes=[1], keepdims=1)))
    return n.model(n.op("MatMul", towers[0], n.op("Transpose", towers[1], perm=[1, 0])))


@network
def bert_as_onnxruntime_fuses_it() -> onnx.ModelProto:
    """Embedding, attention with its projection, sums and normalisations in one operator each."""
    n = Block(**WORDS)
    ids = n.op("Cast", "ids", to=onnx.TensorProto.INT32)
    tables = [n.weight(rows, WIDTH) for rows in (30, SEQUENCE)]
    y, _ = n.op("EmbedLayerNormalization", ids, "", *tables, "", n.positive(WIDTH),
                n.weight(WIDTH), outputs=2, domain=MS)  # fmt: skip
    for _ in range(2):
        z = n.op("Attention", y, n.weight(WIDTH, 3 * WIDTH), n.weight(3 * WIDTH),
                 num_heads=HEADS, domain=MS)  # fmt: skip
        z = n.op("MatMul", z, n.weight(WIDTH, WIDTH))
        y = n.op("SkipLayerNormalization", z, y, n.positive(WIDTH), n.weight(WIDTH),
                 n.weight(WIDTH), domain=MS)  # fmt: skip
        z = n.op("BiasGelu", n.op("MatMul", y, n.weight(WIDTH, 40)), n.weight(40), domain=MS)
        z = n.op("MatMul", z, n.weight(40, WIDTH))
        y = n.op("SkipLayerNormalization", z, y, n.positive(WIDTH), n.weight(WIDTH),
                 n.weight(WIDTH), domain=MS)  # fmt: skip
    return declared(n.tokens(n.linear(y, WIDTH, 10)), "N", SEQUENCE, 10)


@network
def decoder_as_onnxruntime_fuses_it() -> onnx.ModelProto:
    """MultiHeadAttention behind rotary embedding, GroupQueryAttention, fused products."""
    n = Block(**DATA)
    q, k, v = (n.linear("x", WIDTH, WIDTH, False) for _ in range(3))
    caches = [n.const(part) for part in _angles()]
    q, k = (n.op("RotaryEmbedding", t, n.ints(0), *caches, domain=MS) for t in (q, k))
    z = n.op("MultiHeadAttention", q, k, v, num_heads=HEADS, unidirectional=1, domain=MS)
    z = n.op("FusedMatMul", z, n.weight(WIDTH, WIDTH), transB=1, alpha=0.7, domain=MS)
    y, _, _, s = n.op("SkipLayerNormalization", z, "x", n.positive(WIDTH), n.weight(WIDTH),
                      outputs=4, domain=MS)  # fmt: skip
    q, k, v = (n.linear(y, WIDTH, h * 16, False) for h in (4, 2, 2))
    last = n.rows("x", n.const(np.array([SEQUENCE - 1], np.int32)))
    total = n.const(np.array(SEQUENCE, np.int32))
    z, _, _ = n.op("GroupQueryAttention", q, k, v, "", "", last, total, num_heads=4,
                   kv_num_heads=2, outputs=3, domain=MS)  # fmt: skip
    z = n.op("Add", s, n.linear(z, 4 * 16, WIDTH, False))
    z = n.op("QuickGelu", n.linear(z, WIDTH, 40), alpha=1.7, domain=MS)
    return declared(n.model(n.linear(z, 40, 10)), "N", SEQUENCE, 10)
