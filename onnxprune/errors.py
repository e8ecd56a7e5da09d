"""The exceptions of onnxprune, each with the exit code that the command line gives it.

OnnxpruneError            1   something went wrong inside
├── ProofError            1   the pruned model is not the original with positions removed
├── InputError            2   a file, an option or data that cannot be used
│   └── OperatorError     2   onnxruntime lacks an operator of the model
├── TargetError           3   nothing prunable, or the target is out of reach
└── GateError             4   an accuracy or latency gate failed
"""

from __future__ import annotations

__all__ = [
    "INTERNAL",
    "GateError",
    "InputError",
    "OnnxpruneError",
    "OperatorError",
    "ProofError",
    "TargetError",
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
    """An error's text without line breaks."""
    return " ".join(str(error).split())[:300] or type(error).__name__
