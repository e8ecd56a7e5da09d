"""Rules that a user writes down in a file: one TOML table for each operator.

    ["com.acme:Swoosh"]
    kind = "elementwise"          # every axis passes, inputs are broadcast as in numpy
    parameters = { 1 = 1 }        # input 1 is a vector along axis 1 of the result

    ["com.acme:Rescale"]
    kind = "passes"               # these axes pass from input 0 to the first result
    axes = [0, 1]

    ["com.acme:Sort"]
    kind = "barrier"              # nothing passes
    reason = "it sorts the channels"

A table becomes a coupling rule like those in `onnxprune.ops`. It holds for one call only: the
registered rules stay as they are. With `override = true` it takes the place of a registered one.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ops.elementwise import broadcast
from onnxprune.ops.registry import BARRIERS, Rule, same
from onnxprune.types import Fact, Frozen, Node, Tensor
from onnxprune.user_code import plugin

__all__ = ["Declared", "UserRules", "merged", "read"]

UserRules: TypeAlias = str | os.PathLike[str] | Mapping[str, Mapping[str, Any]]
#: `Op` or `domain:Op`.
_NAME = re.compile(r"([\w.-]+:)?\w+")


@dataclass(frozen=True)
class Declared:
    """One table. `parameters` maps an input to the axis of the result that it runs along."""

    kind: str
    axes: tuple[int, ...] = ()
    parameters: Mapping[int, int] = field(default_factory=dict)
    reason: str = ""


def merged(source: UserRules | None) -> Mapping[str, Rule]:
    """The registered rules and those of the user, by operator.

    Raises:
        InputError: as in `read`.
    """
    if source is None:
        return ops.COUPLINGS
    own = {op: partial(_RULES[table.kind], table) for op, table in read(source).items()}
    return {**ops.COUPLINGS, **own}


def read(source: UserRules) -> dict[str, Declared]:
    """What a TOML file, or a mapping of the same tables, declares of each operator.

    A name that is no file may be that of a mapping which an installed package offers as a plug-in.

    Raises:
        InputError: no such file, not TOML, or a table that cannot be meant; the message names
            the file and the table.
    """
    if isinstance(source, str) and not Path(source).exists():
        source = plugin("rules", source) or source
    if isinstance(source, Mapping):
        return {op: _declared(f'rules: ["{op}"]', op, table) for op, table in source.items()}
    tables = _tables(Path(source))
    return {op: _declared(f'{source}: ["{op}"]', op, table) for op, table in tables.items()}


def _tables(path: Path) -> dict[str, Any]:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Give a TOML file of rules.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Give another file.") from error
    except (ValueError, RecursionError) as error:  # neither TOML nor UTF-8
        raise InputError(f"{path}: not a TOML file: {error}. Correct it.") from error
    return tables


def _declared(where: str, op: str, table: Any) -> Declared:
    """One table, checked."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {table!r}. Write the operator in brackets, keys below it.")
    if not _NAME.fullmatch(op) or (table and all(isinstance(v, Mapping) for v in table.values())):
        raise InputError(f'{where}: not an operator. Write Op or ["domain:Op"], in quotes.')
    kind = _kind(where, table)
    override = table.get("override", False)
    if not isinstance(override, bool):
        raise InputError(f"{where}: override is {override!r}. Write true or false.")
    if not override and (op in ops.COUPLINGS or op in BARRIERS):
        raise InputError(
            f"{where}: {op} has a rule already. Write override = true to replace it, or leave the "
            "table out."
        )
    parts = {key: _KEYS[kind][key](where, table.get(key)) for key in _KEYS[kind]}
    for index, axis in parts.get("parameters", {}).items():
        if axis not in parts.get("axes", (axis,)):
            raise InputError(
                f"{where}: input {index} runs along axis {axis}, which axes does not list"
            )
    return Declared(kind, **parts)


def _kind(where: str, table: Mapping[str, Any]) -> str:
    """The table's kind; every key is one that goes with it."""
    kind = table.get("kind")
    if kind is not None and (not isinstance(kind, str) or kind not in _KEYS):
        raise InputError(f"{where}: unknown kind {_unknown(kind, _KEYS)}")
    own = _KEYS[kind] if kind else [key for keys in _KEYS.values() for key in keys]
    for key in table:
        if key not in ("kind", *own, "override"):
            known = _unknown(key, dict.fromkeys(("kind", *own, "override")))
            raise InputError(f"{where}: unknown key {known}")
    if kind is None:
        raise InputError(f"{where}: kind is missing. There are: {', '.join(_KEYS)}")
    return kind


def _unknown(word: object, known: Collection[str]) -> str:
    """The word, the nearest known one, and all there are."""
    from difflib import get_close_matches  # for what is misspelt alone

    near = get_close_matches(str(word), known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"'{word}'.{hint} There are: {', '.join(known)}"


def _axes(where: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(map(_whole, value)):
        shown = "missing" if value is None else repr(value)
        raise InputError(f"{where}: axes is {shown}. List the axes that pass, such as [0, 1].")
    return tuple(value)


def _parameters(where: str, value: Any) -> dict[int, int]:
    if value is None:
        return {}
    pairs: dict[Any, Any] = dict(value) if isinstance(value, Mapping) else {"": ""}
    if not all(re.fullmatch(r"\d+", str(index)) and _whole(axis) for index, axis in pairs.items()):
        raise InputError(
            f"{where}: parameters is {value!r}. Write {{ input = axis of the result }}, such as "
            "{ 1 = 1 }."
        )
    return {int(index): axis for index, axis in pairs.items()}


def _reason(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        shown = "missing" if value is None else repr(value)
        raise InputError(f"{where}: reason is {shown}. Say why, for whoever inspects a model.")
    return value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


#: The keys that go with each kind, beside `kind` and `override`, and how they are read.
_KEYS: Mapping[str, Mapping[str, Callable[[str, Any], Any]]] = {
    "elementwise": {"parameters": _parameters},
    "passes": {"axes": _axes, "parameters": _parameters},
    "barrier": {"reason": _reason},
}


def _elementwise(table: Declared, node: Node) -> Iterator[Fact]:
    """Every axis passes, aligned at the end."""
    data = tuple(x for k, x in enumerate(node.inputs) if k not in table.parameters)
    for y in node.outputs:
        yield from broadcast(data, y)
        yield from _along(table, node, y)


def _passes(table: Declared, node: Node) -> Iterator[Fact]:
    """The listed axes of input 0 are those of the first result."""
    y = node.outputs[0]
    for axis in table.axes:
        yield from same(node.input(0), axis, y, axis)
    yield from _along(table, node, y)


def _along(table: Declared, node: Node, y: Tensor) -> Iterator[Fact]:
    """Vectors that hold one number for each position of an axis of the result."""
    for index, axis in table.parameters.items():
        x = node.input(index)
        if x is None or x.size(0) == x.rank == 1:
            continue  # left out, or one number for all
        if x.rank == 1 and x.size(0) == y.size(axis):
            yield from same(x, 0, y, axis)
        elif y.size(axis) is not None:
            yield Frozen(
                y.at(axis),
                f"'{x.name}' of shape {list(x.shape or ['unknown'])} is declared a vector along "
                f"axis {axis}, which has {y.size(axis)} positions",
                hint=f"correct parameters in the rule of {node.op}",
            )


def _barrier(table: Declared, node: Node) -> Iterator[Frozen]:
    """Nothing passes."""
    for tensor in (t for t in (*node.inputs, *node.outputs) if t is not None):
        for axis in range(tensor.rank):
            yield Frozen(tensor.at(axis), table.reason, hint="declared in the user's rules")


_RULES: Mapping[str, Callable[[Declared, Node], Iterator[Fact]]] = {
    "elementwise": _elementwise,
    "passes": _passes,
    "barrier": _barrier,
}
