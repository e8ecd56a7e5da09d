"""Steps of a random graph that move, join, cut, view or sum positions, and branches."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from random_maker import Maker, Size, Value, both, image, rank, single, small, static, step, total

# ---------------------------------------------------------------- joining and cutting


@step(lambda m, x: x.rank > 0 and small(m, x))
def concat(m: Maker, x: Value) -> None:
    axis = m.upto(x.rank - 1, 0)

    def fits(y: Value) -> bool:
        pairs = enumerate(zip(x.sizes, y.sizes, strict=False))
        return y.rank == x.rank and all(a == b or k == axis for k, (a, b) in pairs)

    others = [y for y in m.live if fits(y)]
    parts = [x, *(m.pick(others[::-1]) for _ in range(m.upto(2)))]
    if m.half():
        parts.reverse()
    joined = [part.sizes[axis] for part in parts]
    symbol = "+".join(f"{s.n}{s.symbol}" for s in joined) if any(s.symbol for s in joined) else ""
    sizes = list(x.sizes)
    sizes[axis] = Size(sum(s.n for s in joined), symbol)
    m.add("Concat", [part.name for part in parts], sizes, axis=m.at(axis, x))


@step(lambda m, x: any(x.shape[k] > 1 for k in x.axes()))
def split(m: Maker, x: Value) -> None:
    axis = m.pick([k for k in x.axes() if x.shape[k] > 1])
    n = x.shape[axis]
    first = m.upto(n - 1)
    parts = [first, n - first]
    more: list[str] = []
    attrs: dict[str, Any] = {"axis": m.at(axis, x)}
    if parts[0] != parts[1] or m.half():
        if m.opset >= 13:
            more = [m.ints(*parts)]
        else:
            attrs["split"] = parts
    elif m.opset >= 18:
        attrs["num_outputs"] = 2
    for part, name in zip(parts, m.op("Split", x.name, *more, outputs=2, **attrs), strict=True):
        m.live.append(Value(name, (*x.sizes[:axis], Size(part), *x.sizes[axis + 1 :])))


@step(both(static, lambda m, x: m.opset >= 10))
def slice_(m: Maker, x: Value) -> None:
    axes = x.axes()[: m.upto(2)] if m.half() else [m.pick(x.axes())]
    cuts, sizes = [], list(x.sizes)
    for axis in axes:
        n = x.shape[axis]
        start = m.upto(n - 1, 0)
        end = m.upto(n, start + 1)
        step_by = m.pick([1, 1, 1, 2])
        sizes[axis] = Size(len(range(start, end, step_by)))
        if m.seldom():  # from behind
            start, end, step_by = end - 1, start - 1 if start else -(2**31), -1
            sizes[axis] = Size(start - (end if end >= 0 else -1))
        else:
            start = start - n if m.seldom() else start
            end = m.pick([end, end, 2**31]) if end == n else end
        cuts.append((start, end, axis - x.rank if m.seldom() else axis, step_by))
    columns = [m.ints(*column) for column in zip(*cuts, strict=True)]
    if all(cut[3] == 1 for cut in cuts):
        columns.pop()
    m.add("Slice", (x.name, *columns), sizes)


@step(both(static, small, lambda m, x: m.opset >= 11))
def pad(m: Maker, x: Value) -> None:
    low, high = [0] * x.rank, [0] * x.rank
    mode = m.pick(["constant", "constant", "reflect", "edge"])
    for axis in {m.pick(x.axes()), m.pick(x.axes())}:
        n = x.shape[axis]
        most = min(2, n - 1) if mode == "reflect" else 2
        low[axis], high[axis] = m.upto(most, 0), m.upto(most, 0)
        if mode == "constant" and n > 2 and m.seldom():
            low[axis] = -1
    more = [m.number(0.5)] if mode == "constant" and m.seldom() else []
    if m.kind is np.float16 and mode != "constant":
        mode = "constant"
    sizes = [
        Size(s.n + a + b, s.symbol if not a and not b else f"pad{a},{b}({s.symbol})")
        if s.symbol
        else Size(s.n + a + b)
        for s, a, b in zip(x.sizes, low, high, strict=True)
    ]
    m.add("Pad", (x.name, m.ints(*low, *high), *more), sizes, mode=mode)


@step(static)
def gather(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    n = x.shape[axis]
    if x.rank > 1 and m.seldom():
        index = m.const(np.array(m.upto(n - 1, 0)))
        m.add("Gather", (x.name, index), (*x.sizes[:axis], *x.sizes[axis + 1 :]), axis=axis)
        return
    picks = [m.upto(n - 1, 0) for _ in range(m.upto(min(n, 5)))]
    picks = [p - n if m.seldom() else p for p in picks]
    sizes = (*x.sizes[:axis], Size(len(picks)), *x.sizes[axis + 1 :])
    m.add("Gather", (x.name, m.ints(*picks)), sizes, axis=m.at(axis, x))


@step(both(static, small))
def tile(m: Maker, x: Value) -> None:
    repeats = [m.upto(2) for _ in x.sizes]
    sizes = [s.through(f"tile{r}", s.n * r) if r > 1 else s
             for s, r in zip(x.sizes, repeats, strict=True)]  # fmt: skip
    m.add("Tile", (x.name, m.ints(*repeats)), sizes)


@step(both(small, lambda m, x: 1 in x.shape and m.opset >= 8))
def expand(m: Maker, x: Value) -> None:
    target = [m.upto(4) if s == Size(1) else 1 for s in x.sizes]
    sizes = [Size(n) if s == Size(1) else s for s, n in zip(x.sizes, target, strict=True)]
    m.add("Expand", (x.name, m.ints(*target)), sizes)


@step(both(small, single, lambda m, x: x.rank == 4 and x.static(1)))
def spatial(m: Maker, x: Value) -> None:
    n_in, n = x.shape[1], m.upto(2)
    deep = m.op("Conv", x.name, m.matrix(4 * n, n_in, 1, 1, fan=n_in))
    attrs = {"mode": m.pick(["DCR", "CRD"])} if m.opset >= 11 else {}
    space = [s.through("*2", 2 * s.n) for s in x.sizes[2:]]
    m.add("DepthToSpace", (deep,), (x.sizes[0], Size(n), *space), blocksize=2, **attrs)


@step(both(single, lambda m, x: x.rank == 4 and all(x.static(k) for k in (1, 2, 3))))
def space_to_depth(m: Maker, x: Value) -> bool | None:
    if x.shape[2] % 2 or x.shape[3] % 2:
        return False
    space = [Size(s.n // 2) for s in x.sizes[2:]]
    m.add("SpaceToDepth", (x.name,), (x.sizes[0], Size(4 * x.shape[1]), *space), blocksize=2)
    return None


# ---------------------------------------------------------------- views


@step(rank(2))
def transpose(m: Maker, x: Value) -> None:
    perm = list(range(x.rank))
    for k in range(x.rank - 1):
        other = m.upto(x.rank - 1, k)
        perm[k], perm[other] = perm[other], perm[k]
    m.add("Transpose", (x.name,), [x.sizes[k] for k in perm], perm=perm)


@step(rank(2))
def flatten(m: Maker, x: Value) -> None:
    axis = m.pick([1, *range(1, x.rank)])
    m.add("Flatten", (x.name,), (total(x.sizes[:axis]), total(x.sizes[axis:])), axis=axis)


@step(rank(1, 5))
def reshape(m: Maker, x: Value) -> bool | None:
    """A run of axes becomes another run of the same product; at most one entry is -1."""
    start = m.upto(x.rank - 1, 0)
    end = m.upto(min(x.rank, start + 3), start + 1)
    run = x.sizes[start:end]
    varying = [s for s in run if s.symbol]
    made = [total(run)] if varying else [Size(f) for f in m.factors(prod(s.n for s in run))]
    sizes = (*x.sizes[:start], *made, *x.sizes[end:])
    entries = [0 if k < start and (s.symbol or m.half()) else s.n for k, s in enumerate(sizes)]
    open_at = [k for k, s in enumerate(sizes) if s.symbol and k >= start]
    if len(open_at) > 1 or len(sizes) > 6:
        return False
    if open_at or m.seldom():
        entries[open_at[0] if open_at else m.upto(len(sizes) - 1, 0)] = -1
    m.add("Reshape", (x.name, m.ints(*entries)), sizes)
    return None


@step(both(rank(3), lambda m, x: x.static(1)))
def computed_reshape(m: Maker, x: Value) -> None:
    """Joins or keeps axes, with sizes read from the value itself as exporters do."""
    shape = m.op("Shape", x.name)
    at = {k: m.op("Gather", shape, m.ints(k)) for k in range(x.rank)}
    if m.half():
        parts, sizes = [at[0], m.ints(-1), at[x.rank - 1]], None
        sizes = (x.sizes[0], total(x.sizes[1:-1]), x.sizes[-1])
    else:
        parts = [at[0], at[1] if m.half() else m.ints(x.shape[1]), m.ints(-1)]
        sizes = (x.sizes[0], x.sizes[1], total(x.sizes[2:]))
    m.add("Reshape", (x.name, m.op("Concat", *parts, axis=0)), sizes)


@step(lambda m, x: x.rank == 4 and x.static(1) and x.shape[1] > 3 and not x.shape[1] % 2)
def channel_shuffle(m: Maker, x: Value) -> bool | None:
    if not all(x.static(k) for k in (2, 3)):
        return False
    n, space = x.shape[1], x.shape[2:]
    y = m.op("Reshape", x.name, m.ints(0, 2, n // 2, *space))
    y = m.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    m.add("Reshape", (y, m.ints(0, n, *space)), x.sizes)
    return None


@step(lambda m, x: x.rank > 1 and Size(1) in x.sizes)
def squeeze(m: Maker, x: Value) -> None:
    axis = m.pick([k for k, size in enumerate(x.sizes) if size == Size(1)])
    more, attrs = m.axes_of("Squeeze", [axis], 13)
    sizes = (*x.sizes[:axis], *x.sizes[axis + 1 :])
    m.add("Squeeze", (x.name, *more), sizes, **attrs)


@step(rank(1, 4))
def unsqueeze(m: Maker, x: Value) -> None:
    axis = m.upto(x.rank, 0)
    more, attrs = m.axes_of("Unsqueeze", [axis], 13)
    m.add("Unsqueeze", (x.name, *more), (*x.sizes[:axis], Size(1), *x.sizes[axis:]), **attrs)


@step(both(single, lambda m, x: m.opset >= 9))
def filled(m: Maker, x: Value) -> None:
    """Adds a tensor of one number that is made in the shape of the value."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.25])
    y = m.op("ConstantOfShape", m.op("Shape", x.name), value=value)
    m.like("Add", x, y)


@step(single)
def by_its_size(m: Maker, x: Value) -> None:
    """Divides by the number of elements, which a model computes from the shape."""
    n = m.op("Cast", m.op("Size", x.name), to=TensorProto.FLOAT)
    m.like("Mul", x, m.op("Log", m.op("Add", n, m.number(1.5))))


# ---------------------------------------------------------------- space


@step(both(image, single))
def pool(m: Maker, x: Value) -> None:
    kind = m.pick(["MaxPool", "AveragePool", *(["LpPool"] if m.opset < 22 else [])])
    taps, attrs, space = m.window(x, 3)
    if kind == "AveragePool" and m.half():
        attrs["count_include_pad"] = 1
    m.add(kind, (x.name,), (*x.sizes[:2], *space), kernel_shape=taps, **attrs)


@step(both(image, single))
def global_pool(m: Maker, x: Value) -> None:
    kind = m.pick(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    if m.opset >= 22 and kind == "GlobalLpPool":  # onnxruntime has none
        kind = "GlobalAveragePool"
    m.add(kind, (x.name,), (*x.sizes[:2], *[Size(1)] * (x.rank - 2)))


@step(lambda m, x: x.rank > 1)
def reduce(m: Maker, x: Value) -> None:
    kind = m.pick("ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSumExp "
                  "ReduceSumSquare ReduceProd ReduceLogSum".split())  # fmt: skip
    if m.kind is not np.float32:
        kind = m.pick(["ReduceMean", "ReduceSum"])
    axes = sorted({m.upto(x.rank - 1, 0) for _ in range(m.upto(min(2, x.rank - 1)))})
    if kind in ("ReduceProd", "ReduceLogSum"):
        x = m.positive(x)
    since = 13 if kind == "ReduceSum" else 18
    keep = m.upto(1, 0)
    more, attrs = m.axes_of(kind, [m.at(a, x) for a in axes], since)
    sizes = [Size(1) if k in axes else s for k, s in enumerate(x.sizes) if keep or k not in axes]
    y = m.add(kind, (x.name, *more), sizes, keepdims=keep, **attrs)
    if kind in ("ReduceSumSquare", "ReduceProd"):  # these grow
        m.live[-1] = m.tame(y)


@step(both(static, single))
def arg(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    y = m.op(m.pick(["ArgMax", "ArgMin"]), x.name, axis=axis, keepdims=1)
    y = m.op("Add", m.op("Cast", y, to=TensorProto.FLOAT), m.number(0.5))
    m.live.append(Value(y, (*x.sizes[:axis], Size(1), *x.sizes[axis + 1 :])))


@step(both(static, single, lambda m, x: m.opset >= 11))
def top_k(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    k = m.upto(x.shape[axis])
    y, _ = m.op("TopK", x.name, m.ints(k), axis=axis, outputs=2)
    m.live.append(Value(y, (*x.sizes[:axis], Size(k), *x.sizes[axis + 1 :])))


@step(both(image, single, small, lambda m, x: m.opset >= 11 and x.rank == 4))
def resize(m: Maker, x: Value) -> None:
    mode = m.pick(["nearest", "linear"])
    doubled = [s.through("*2", 2 * s.n) for s in x.sizes[2:]]
    empty = "" if m.opset >= 13 else m.const(np.zeros(0, np.float32))
    roi = "" if m.opset >= 13 else empty
    if all(x.static(k) for k in range(4)) and m.half():
        target = m.ints(*x.shape[:2], *(s.n for s in doubled))
        more = [roi, empty, target]
    else:
        more = [roi, m.const(np.array([1, 1, 2, 2], np.float32))]
    attrs: dict[str, Any] = {"mode": mode}
    if mode == "nearest" and m.half():
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    m.add("Resize", (x.name, *more), (*x.sizes[:2], *doubled), **attrs)


# ---------------------------------------------------------------- control flow


@step(lambda m, x: m.opset >= 11)
def branch(m: Maker, x: Value) -> None:
    """A condition on the data; both branches read values from outside."""
    y = m.pick(m.partners(x))
    more, attrs = m.axes_of("ReduceMean", list(range(x.rank)), 18) if x.rank else ([], {})
    mean = m.op("ReduceMean", x.name, *more, keepdims=0, **attrs)
    asked = m.op("Greater", mean, m.number(0.01))
    own = helper.np_dtype_to_tensor_dtype(np.dtype(m.kind))

    def body(kind: str) -> Any:
        name = f"{kind.lower()}{len(m.nodes)}_in"
        node = helper.make_node(kind, [x.name, y.name], [name])
        shape = [(s.symbol and None) or s.n for s in x.sizes]
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, own, shape)]
        )

    z = m.op("If", asked, then_branch=body("Add"), else_branch=body("Max"))
    m.live.append(Value(z, x.sizes))
