"""Read recipes: stages prune, sparsify and quantise in order, and settings that all share.

    calib = "samples.npz"              # for all stages

    [[stage]]
    kind = "prune"
    target = { macs = 0.5 }

    [[stage]]
    kind = "sparsify"
    pattern = "2:4"

    [[stage]]
    kind = "quantise"
    mode = "static"

The hash of a run covers the stages, settings, model, samples and this package's version, and where
time is a target the machine too: equal hashes give equal models, but for noise in what is timed.
With a folder for finished stages a stopped run goes on where it was.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxprune.errors import InputError
from onnxprune.pipeline.quantize import Quantization
from onnxprune.settings import CalibrationSettings, Settings, names_of
from onnxprune.sparsity.options import FIELDS
from onnxprune.user_code import is_function, plugin

__all__ = ["Recipe", "StageOf", "parsed", "read", "then"]

#: Settings that hold for the whole recipe.
COMMON = names_of(Settings, "recipe")
#: Settings that may name a file.
FILES = tuple(f.name for f in fields(Settings) if f.metadata.get("file"))
#: Settings that each kind of stage understands.
SETTINGS_OF: Mapping[str, tuple[str, ...]] = {
    "prune": names_of(Settings, "stage"),
    "sparsify": names_of(CalibrationSettings, "stage"),
    "quantise": (),
}
#: All options that each kind of stage understands.
KEYS: Mapping[str, tuple[str, ...]] = {
    "prune": ("target", *SETTINGS_OF["prune"]),
    "sparsify": (*FIELDS, *SETTINGS_OF["sparsify"]),
    "quantise": tuple(f.name for f in fields(Quantization)),
}


#: Other spellings of kinds.
SPELLINGS = {"quantize": "quantise"}


@dataclass(frozen=True)
class StageOf:
    """One stage: `kind` and its options; `function` carries out one that a plug-in offers.

    It gets the model and the options as keywords, and returns a model.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Recipe:
    """Stages in order, and the settings that all of them share."""

    stages: tuple[StageOf, ...]
    common: Mapping[str, Any] = field(default_factory=dict)


def read(path: str | os.PathLike[str], own: Mapping[str, Any] | None = None) -> Recipe:
    """Read the recipe in a file; paths in it count from its folder.

    Args:
        path: the file.
        own: settings that the caller adds; only they may name code, as `file.py:function`.

    Raises:
        InputError: it cannot be read, says something unknown, or names code.
    """
    own = own or {}
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Give another file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: no recipe: {error}. Correct the file.") from error
    try:
        _check_added(content, own)
        recipe = parsed({**content, **own})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    home = Path(path).parent
    beside = {k: v if k in own else _from(home, k, v) for k, v in recipe.common.items()}
    return Recipe(recipe.stages, beside)


def _check_added(content: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse code that a file names, which nobody has asked for, and settings given twice."""
    for key, value in content.items():
        if key == "evaluate" or (key in FILES and isinstance(value, str) and is_function(value)):
            raise InputError(
                f"{key} = {value!r} names code, which is not run from a recipe: give it on the "
                f"command line, --{key} FILE.py:FUNCTION"
            )
        if key in own:
            raise InputError(f"{key} is {value!r} in the recipe: leave out --{key}, or that line")


def _from(home: Path, key: str, value: Any) -> Any:
    """Find a file beside the recipe, where there is one of that name."""
    if key not in FILES or not isinstance(value, str):
        return value
    beside = home / value
    return str(beside) if beside.exists() else value


def parsed(content: Mapping[str, Any]) -> Recipe:
    """Make a recipe from the content of its file.

    Raises:
        InputError: an unknown key, named with the nearest known one, or no stage.
    """
    _known("the recipe", content, ("stage", *COMMON))
    tables = content.get("stage", [])
    if not isinstance(tables, Sequence) or not tables:
        raise InputError("a recipe has at least one [[stage]]: write one, with its kind")
    stages = tuple(_stage(k, table) for k, table in enumerate(tables, 1))
    kinds = [stage.kind for stage in stages]
    if "quantise" in kinds[:-1]:
        raise InputError("quantise must be the last stage: what is quantised is no longer refitted")
    common = {key: value for key, value in content.items() if key != "stage"}
    if common.get("calib") is None and any(_needs_data(stage) for stage in stages):
        raise InputError("a static quantise stage takes ranges from samples: give calib")
    return Recipe(_rounded(stages), common)


def _stage(number: int, table: Any) -> StageOf:
    where = f"stage {number}"
    if not isinstance(table, Mapping) or "kind" not in table:
        raise InputError(f"{where} lacks its kind, give one: {', '.join(KEYS)}")
    kind = str(table["kind"])
    kind = SPELLINGS.get(kind, kind)
    options = {key: value for key, value in table.items() if key != "kind"}
    if kind not in KEYS:
        function = plugin("stages", kind)
        if function is None:
            raise InputError(f"{where}: unknown kind '{kind}'{_nearest(kind, KEYS)}")
        return StageOf(kind, options, function)
    _known(f"{where} ({kind})", options, KEYS[kind])
    return StageOf(kind, options)


def _known(where: str, given: Collection[str], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'{_nearest(key, known)}")


def _nearest(key: str, known: Collection[str]) -> str:
    close = get_close_matches(key, list(known), 1, 0.0)
    return f"; did you mean '{close[0]}'?" if close else ""


def _needs_data(stage: StageOf) -> bool:
    return stage.kind == "quantise" and stage.options.get("mode", "static") == "static"


def _rounded(stages: tuple[StageOf, ...]) -> tuple[StageOf, ...]:
    """Round widths so that a later N:M pattern fits, where the recipe does not say otherwise."""
    made = list(stages)
    for k, stage in enumerate(stages):
        later = [s.options.get("pattern") for s in stages[k + 1 :] if s.kind == "sparsify"]
        groups = [re.fullmatch(r"\d+:(\d+)", str(pattern)) for pattern in later if pattern]
        size = max((int(found[1]) for found in groups if found), default=1)
        if stage.kind == "prune" and size > 1:
            made[k] = StageOf(stage.kind, {"round_to": size, **stage.options})
    return tuple(made)


def then(text: str) -> StageOf:
    """Parse `sparsify=2:4`, `sparsify=0.7` or `quantise=static` as a stage.

    Raises:
        InputError: it is none of them.
    """
    kind, _, value = text.partition("=")
    kind = SPELLINGS.get(kind, kind)
    if kind == "quantise":
        return StageOf(kind, {"mode": value or "static"})
    if kind not in KEYS and (function := plugin("stages", kind)) is not None:
        return StageOf(kind, {"value": value} if value else {}, function)
    if kind != "sparsify" or not value:
        raise InputError(
            f"then '{text}': give sparsify=2:4, sparsify=0.7, quantise=static or quantise=dynamic"
        )
    try:
        return StageOf(kind, {"sparsity": float(value)})
    except ValueError:
        return StageOf(kind, {"pattern": value})
