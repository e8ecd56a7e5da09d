"""Mutations of files: bytes of any, and hostile samples, plans, recipes, rules and caches."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import numpy as np

__all__ = ["BYTES", "changed_json", "changed_text", "damaged", "samples"]

#: Values that stand where JSON or TOML has others.
WILD: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 2**40, 2**70, 1.5, 1e308, "", "x", "0", [],
                         {}, [[]], [0], {"a": 1}, "é\n", [None], ["x"], -0.5)  # fmt: skip
Change: TypeAlias = Callable[[bytes, Random], bytes]


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64]) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_early(data: bytes, rng: Random) -> bytes:
    """Flip where the structure lies rather than the weights."""
    first = min(len(data), 2000)
    return _flip(data[:first], rng) + data[first:]


def _zero(data: bytes, rng: Random) -> bytes:
    start, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 16, 256, 4096])
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def _splice(data: bytes, rng: Random) -> bytes:
    start, goal = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice([1, 8, 64, 1024])]
    return data[:goal] + piece + data[goal + rng.choice([0, len(piece)]) :]


def _insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice([1, 2, 8, 64])) + data[at:]


def _nothing(data: bytes, rng: Random) -> bytes:
    return rng.choice([b"", b"\0", b"\n", rng.randbytes(100), b"{}", b"[" * 100_000])


BYTES: Mapping[str, Change] = {
    "truncated": _truncate,
    "bits flipped": _flip,
    "early bits flipped": _flip_early,
    "range zeroed": _zero,
    "bytes spliced": _splice,
    "bytes inserted": _insert,
    "other content": _nothing,
}


def damaged(data: bytes, rng: Random) -> bytes:
    """Data with any of the changes to bytes."""
    return rng.choice(list(BYTES.values()))(data, rng)


def changed_json(text: str, rng: Random) -> str:
    """JSON with one or two values replaced, removed or moved."""
    content = json.loads(text)
    for _ in range(rng.choice([1, 1, 2])):
        holder, keys = content, []
        while isinstance(holder, (dict, list)) and holder:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = rng.choice(keys)
            if not isinstance(holder[key], (dict, list)) or rng.random() < 0.2:
                break
            holder = holder[key]
        if not isinstance(holder, (dict, list)) or not holder:
            return json.dumps(rng.choice(WILD))
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(WILD)
    return json.dumps(content)


def changed_text(text: str, rng: Random) -> str:
    """TOML with one value replaced, one line twice, dropped or moved."""
    lines = text.splitlines()
    k = rng.randrange(len(lines))
    what = rng.choice(["value", "value", "value", "drop", "twice", "key", "more"])
    if what == "value" and "=" in lines[k]:
        wild = [json.dumps(v) for v in WILD if v is not None and not isinstance(v, dict)]
        lines[k] = (
            f"{lines[k].partition('=')[0]}= {rng.choice([*wild, 'nan', 'inf', '1979-05-27'])}"
        )
    elif what == "drop":
        del lines[k]
    elif what == "twice":
        lines.insert(k, lines[k])
    elif what == "key":
        lines[k] = lines[k].replace("a", "b")
    else:
        lines.insert(k, rng.choice(["[[stage]]", "kind = 'prune'", "x = 1", "[", "steps = -1",
                                    "seed = -3", "target = {}"]))  # fmt: skip
    return "\n".join(lines) + "\n"


def samples(path: Path, arrays: Mapping[str, Any], rng: Random) -> str:
    """Write an .npz that does not hold what it should; what is wrong with it."""
    name = rng.choice(list(arrays))
    values = dict(arrays)
    with np.errstate(all="ignore"):
        what = _wrong(values, name, rng)
    _write(path, values, what, rng)
    return what


def _wrong(values: dict[str, Any], name: str, rng: Random) -> str:
    """Change one array, or which there are; what was done."""
    good = values[name]
    wrong: dict[str, Any] = {
        "objects": np.array([{"a": 1}], object),
        "no numbers": np.full_like(good, np.nan) if good.dtype.kind == "f" else good[:0],
        "infinite": np.full_like(good, np.inf) if good.dtype.kind == "f" else good - 1,
        "0-d": np.array(1.0, np.float32),
        "empty": good[:0],
        "text": np.array(["a", "b"]),
        "other type": good.astype(np.complex64),
        "double": good.astype(np.float64),
        "more axes": good[..., None],
        "fewer axes": good.reshape(len(good), -1)[:, 0],
        "huge": (np.full_like(good, 3e38) if good.dtype.kind == "f" else good + 10**6),
        "one row": good[:1],
        "fortran": np.asfortranarray(good),
        "records": np.zeros(3, [("a", "f4"), ("b", "i8")]),
    }
    what = rng.choice([*wrong, "other name", "no array", "labels", "bytes", "header", "pickle"])
    if what in wrong:
        values[name] = wrong[what]
    elif what == "other name":
        values[rng.choice(["x", "", "../x", "labels"])] = values.pop(name)
    elif what == "no array":
        values.clear()
    elif what == "labels":
        values["labels"] = rng.choice([np.array(1), np.full(len(good), -5), np.array(["a"] * 4)])
    return what


def _write(path: Path, values: Mapping[str, Any], what: str, rng: Random) -> None:
    held = io.BytesIO()
    np.savez(held, **values)
    data = held.getvalue()
    if what == "bytes":
        data = damaged(data, rng)
    elif what in ("header", "pickle"):
        with zipfile.ZipFile(path, "w") as file:
            name = next(iter(values))
            file.writestr(f"{name}.npy", _npy(rng) if what == "header" else pickle.dumps([1]))
        return
    path.write_bytes(data)


def _npy(rng: Random) -> bytes:
    """An array whose header promises what it cannot hold."""
    shape = rng.choice(["(1099511627776,)", "(-1, 3)", "(2, 3", "(4611686018427387904, 4)", "x",
                        "(0, 1099511627776)", "(True,)", "()"])  # fmt: skip
    kind = rng.choice(["<f4", "|O", "<f9", "V1000000000", "<U4"])
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)
