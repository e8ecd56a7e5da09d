"""Whether a refusal is of use: one line with the place and what to do, in names of the user's."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import onnx

from onnxprune.pipeline.recipe import COMMON, KEYS

__all__ = ["ACTIONS", "faulty_refusal"]

#: Words that say what to do, or what would have been right.
ACTIONS = re.compile(
    r"\b(export|install|give|name|state|free|choose|put|move|leave|convert|write|list|run|raise|"
    r"lies in|lower|correct|say|use|keep|needs|try|pass|must|only|did you mean|is allowed|"
    r"out of reach|the model takes|it holds|plans fit|this tool reads|there are|save|compare|"
    r"drop|create|exclude|need|remove|return)\b",
    re.IGNORECASE,
)
#: What only the code knows.
_INTERNAL = re.compile(
    r"alive/|\.cc[:) ]|\.h:\d|/onnxruntime|0x[0-9a-f]{6}|Traceback|INVALID_ARGUMENT|protobuf|"
    r"<class |object at|numpy|NoneType|_[a-z]+\(\)|KeyError|ValueError|TypeError"
)
#: What messages quote that stands in no file.
_WORDS = frozenset(
    "name elementwise passes barrier value_info INT INTS FLOAT FLOATS STRING STRINGS TENSOR GRAPH "
    "labels = prune sparsify quantise utf-8 parameters override kind reason version axes tensor "
    "axis size macs keep model_sha256 ai.onnx l2 fpgm "
    "bn-scale wanda variance storage attr op_type node True False auto "
    "ReorderInput ReorderOutput forward reverse bidirectional value_*".split()
)


def faulty_refusal(error: str, folder: Path, args: list[str]) -> str:
    """What is wrong with a refusal; empty where nothing is.

    Args:
        error: what was written to standard error.
        folder: with the files that were read.
        args: of the command.
    """
    lines = [line for line in error.splitlines() if not line.startswith("Warning: ")]
    if len(lines) != 1 or not lines[0].startswith("Error: "):
        return f"not one line: {error[:300]}"
    text = lines[0].removeprefix("Error: ")
    known = b" ".join(p.read_bytes() for p in folder.iterdir() if p.is_file())
    found = _INTERNAL.search(text)
    if found and found[0].encode() not in known:
        return f"internal '{found[0]}': {_plain(text)}"
    if len(text) > 1200:
        return f"{len(text)} characters: {_plain(text)}"
    if not ACTIONS.search(text):
        return f"no action: {_plain(text)}"
    for name in re.findall(r"(?<!\w)'([^']{1,80})'(?!\w)", text):
        if name.encode() not in known and not _is_known(name, args):
            return f"unknown name '{name}': {_plain(text)}"
    return ""


def _is_known(name: str, args: list[str]) -> bool:
    """Whether a word is ONNX's or the command's, or cannot be told."""
    kind = re.fullmatch(r"(tensor|seq|map|optional|sparse_tensor)\(.*\)", name)
    odd = name.endswith("_nchwc") or any(
        c.isspace() or c in "\\\ufffd" or not c.isprintable() for c in name
    )
    return bool(kind) or odd or name in _onnx_words() or any(name in arg for arg in args)


def _plain(text: str) -> str:
    """A message without the names and numbers that differ from case to case."""
    return re.sub(r"-?\d+", "N", re.sub(r"'[^']*'", "'…'", text))[:220]


@cache
def _onnx_words() -> frozenset[str]:
    """Names of operators, attributes, inputs and options."""
    schemas = onnx.defs.get_all_schemas_with_history()
    inputs = (value.name for s in schemas for value in (*s.inputs, *s.outputs))
    options = (*COMMON, *(key for keys in KEYS.values() for key in keys))
    return _WORDS.union(inputs, options, *({s.name, *s.attributes} for s in schemas))
