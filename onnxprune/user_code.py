"""Run functions of the user's, named `file.py:function`, and say where they went wrong.

What installed packages offer as plug-ins is found by name too: entry points `onnxprune.criteria`,
`onnxprune.rules`, `onnxprune.stages` and `onnxprune.timers`. Only what is asked for by name is
imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from onnxprune.errors import InputError, OnnxpruneError

__all__ = [
    "Function",
    "content_of",
    "function_of",
    "guarded",
    "is_function",
    "plugin",
    "registered",
]

_GROUP = __name__.partition(".")[0]
_NAMED = re.compile(r"(.*\.py):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Function:
    """A callable with the name that messages give it."""

    name: str
    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Call it; whatever it raises becomes an InputError that names it."""
        with guarded(self.name):
            return self.function(*args)


def is_function(text: str) -> bool:
    """Tell whether a text reads `file.py:function`."""
    return _NAMED.fullmatch(text) is not None


def function_of(text: str, what: str) -> Function:
    """Import the function that `file.py:function` names; `what` says in errors what it is for.

    The file runs as a script does, but with another `__name__` than `__main__`: it can import what
    lies beside it.

    Raises:
        InputError: no such file or function, or the file itself fails.
    """
    match = _NAMED.fullmatch(text)
    if match is None:
        raise InputError(f"{what} '{text}': write FILE.py:FUNCTION, such as feeds.py:samples")
    path, name = Path(match[1]), match[2]
    if not path.is_file():
        raise InputError(f"{what} '{text}': there is no file {path}. Correct the path.")
    functions = _run(path, f"{what} '{text}'")
    function = functions.get(name)
    if not callable(function):
        own = [key for key, value in functions.items() if callable(value) and key[0] != "_"]
        has = f"It has: {', '.join(own)}. Name one" if own else "It has none. Write it."
        raise InputError(f"{what} '{text}': {path} has no function '{name}'. {has}")
    return Function(text, function)


def content_of(named: object) -> object:
    """Digest the file that a path, `file.py:function` or a callable stands for; others stay.

    Settings that name a file count by it where results are kept. What the file imports does not.
    """
    if callable(named):
        return _code_of(named)
    if not isinstance(named, (str, os.PathLike)):
        return named
    text = os.fspath(named)
    match = _NAMED.fullmatch(text)
    try:
        content = Path(match[1] if match else text).read_bytes()
    except OSError:  # whoever reads it says what is wrong
        return _version_of(text) or text
    return [match[2] if match else "", hashlib.sha256(content).hexdigest()]


def plugin(kind: str, name: str) -> Any | None:
    """Load what an installed package offers under a name; None where none does.

    Args:
        kind: criteria, rules, stages or timers.
        name: of the entry point.

    Raises:
        InputError: several packages offer it, or it cannot be loaded.
    """
    found = {entry.value: entry for entry in entry_points(group=f"{_GROUP}.{kind}", name=name)}
    if not found:
        return None
    if len(found) > 1:
        raise InputError(
            f"plug-in '{name}' of {_GROUP}.{kind}: several packages offer it, as "
            f"{' and '.join(sorted(found))}. Remove one of them."
        )
    ((value, entry),) = found.items()
    with guarded(f"plug-in '{name}' ({value})"):
        return entry.load()


def _version_of(name: str) -> list[str] | None:
    """Tell rules of an installed package from those of another version."""
    for entry in entry_points(group=f"{_GROUP}.rules", name=name):
        if entry.dist is not None:
            return [name, entry.dist.name, entry.dist.version]
    return None


def _code_of(function: Callable[..., Any]) -> list[str]:
    """Tell a function from others: by its name, its line, and the file that it was written in."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    try:
        content = Path(inspect.getsourcefile(function) or "").read_bytes()
    except (OSError, TypeError):  # written at a prompt, or no function
        content = repr(_facts_of(code) if code else function).encode()
    line = str(getattr(code, "co_firstlineno", ""))
    return [name, line, hashlib.sha256(content).hexdigest()]


def _facts_of(code: Any) -> list[Any]:
    """Everything that tells code objects apart, those inside of it too."""
    inner = [_facts_of(each) if hasattr(each, "co_code") else each for each in code.co_consts]
    return [code.co_code, inner, code.co_names, code.co_varnames, code.co_freevars]


def registered(*tables: Mapping[str, Callable[..., Any]]) -> list[dict[str, list[str]]]:
    """Digest what users have registered in tables of this package, as `content_of` does."""
    return [
        {
            name: _code_of(function)
            for name, function in table.items()
            if (getattr(function, "__module__", None) or "").partition(".")[0] != _GROUP
        }
        for table in tables
    ]


def _run(path: Path, what: str) -> dict[str, Any]:
    """The names of a file after it has run."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for good: functions may import when they are called
    name = f"_onnxprune_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with guarded(what):
        spec.loader.exec_module(module)
    return vars(module)


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever the user's code raises into an InputError that says where."""
    try:
        yield
    except (OnnxpruneError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # also SystemExit: a script may end itself
        text = " ".join(str(error).split())[:300]
        frames = traceback.extract_tb(error.__traceback__)
        at = f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
        raise InputError(f"{name}: {type(error).__name__}{at}: {text}") from error
