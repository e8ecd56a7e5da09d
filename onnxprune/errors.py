"""The exceptions of onnxprune, each with the exit code that the command line gives it.

OnnxpruneError            1   something went wrong inside
├── ProofError            1   the pruned model is not the original with positions removed
├── InputError            2   a file, an option or data that cannot be used
│   └── OperatorError     2   onnxruntime lacks an operator of the model
├── TargetError           3   nothing prunable, or the target is out of reach
└── GateError             4   an accuracy or latency gate failed

Beside them stands the check that options are of the kind that their fields say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

__all__ = [
    "INTERNAL",
    "GateError",
    "InputError",
    "OnnxpruneError",
    "OperatorError",
    "ProofError",
    "TargetError",
    "check_kinds",
    "one_line",
]


#: How a reason begins that is a failure of ours, and worth a report.
INTERNAL = "internal failure, please report it: "


class OnnxpruneError(Exception):
    """Base of every error this package raises on purpose; `exit_code` is the process's."""

    exit_code = 1


class ProofError(OnnxpruneError):
    """The surgery was not exact; nothing was written. `group` is the number of the guilty one."""

    def __init__(self, message: str, group: int | None = None) -> None:
        super().__init__(message)
        self.group = group


class InputError(OnnxpruneError):
    """Input that cannot be used: the message says what, where and what to do."""

    exit_code = 2


class OperatorError(InputError):
    """Onnxruntime has no implementation of an operator, so nothing can be run or proved."""


class TargetError(OnnxpruneError):
    """The target cannot be reached; the message says how far one gets and what blocks the rest."""

    exit_code = 3


class GateError(OnnxpruneError):
    """A gate failed: of `check`, or the accuracy that `prune` had to keep."""

    exit_code = 4


def one_line(error: BaseException) -> str:
    """An error's text without line breaks and addresses of objects."""
    text = re.sub(r"<(?:\w+\.)*(\w+) object at 0x\w+>", r"\1", " ".join(str(error).split()))
    return text[:300] or type(error).__name__


def check_kinds(options: Any) -> None:
    """Refuse values of another kind than the fields of a dataclass say; options may be of a file.

    Raises:
        InputError: which field, its value, and what it takes.
    """
    for each in fields(options):
        value, (fits, takes) = getattr(options, each.name), _KINDS.get(str(each.type), _ANY)
        if not (fits(value) or (value is None and str(each.type).endswith("None"))):
            raise InputError(f"{each.name} {value!r}: give {takes}")


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _listed(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence) and all(map(fits, value))


def _mapped(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(map(fits, value.values()))


#: What fits a field of a plain type, and how that is called.
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "int": (_whole, "a whole number"),
    "int | None": (_whole, "a whole number"),
    "float": (lambda v: isinstance(v, Real), "a number"),
    "bool": (lambda v: isinstance(v, bool), "True or False"),
    "bool | int": (lambda v: isinstance(v, Integral), "True, False or a whole number"),
    "str": (lambda v: isinstance(v, str), "a word"),
    "str | None": (lambda v: isinstance(v, str), "a word"),
    "float | None": (lambda v: isinstance(v, Real), "a number"),
    "Sequence[str]": (lambda v: _listed(v, lambda w: isinstance(w, str)), "a list of words"),
    "Mapping[str, float] | None": (
        lambda v: _mapped(v, lambda w: isinstance(w, Real)),
        "a mapping of names to numbers",
    ),
    "Mapping[str, Sequence[int]] | None": (
        lambda v: _mapped(v, lambda w: _listed(w, _whole)),
        "a mapping of names to lists of sizes",
    ),
}
_ANY: tuple[Callable[[Any], bool], str] = (lambda value: True, "")
