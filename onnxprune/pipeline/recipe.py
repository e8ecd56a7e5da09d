"""Read recipes: stages prune, finetune, sparsify and quantise, and settings that all share.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxprune.allocation.targets import amounts_of, share_of
from onnxprune.errors import InputError
from onnxprune.pipeline.quantize import Quantization
from onnxprune.settings import CalibrationSettings, Settings, names_of
from onnxprune.sparsity.options import FIELDS
from onnxprune.training.options import FIELDS as TRAINING
from onnxprune.training.options import Training
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
    "finetune": ("exclude",),
    "quantise": (),
}
#: Options of a stage that may name a file.
STAGE_FILES = ("data", "teacher")
#: All options that each kind of stage understands.
KEYS: Mapping[str, tuple[str, ...]] = {
    "prune": ("target", "between", *SETTINGS_OF["prune"]),
    "sparsify": (*FIELDS, *SETTINGS_OF["sparsify"]),
    "finetune": (*STAGE_FILES, *TRAINING, *SETTINGS_OF["finetune"]),
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
    beside = {k: v if k in own else _from(home, k, v, FILES) for k, v in recipe.common.items()}
    stages = tuple(
        replace(s, options={k: _from(home, k, v, STAGE_FILES) for k, v in s.options.items()})
        for s in recipe.stages
    )
    return Recipe(stages, beside)


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
    for text in _words_of(content.get("stage")):
        if is_function(text):
            raise InputError(
                f"a stage names the code {text!r}, which is not run from a recipe: give it on the "
                "command line, as --then finetune=FILE.py:FUNCTION"
            )


def _words_of(value: Any) -> Iterator[str]:
    """All texts in a table, names of its keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from map(str, value)
        yield from (text for inner in value.values() for text in _words_of(inner))
    elif isinstance(value, Sequence):
        yield from (text for inner in value for text in _words_of(inner))


def _from(home: Path, key: str, value: Any, files: Collection[str]) -> Any:
    """Find a file beside the recipe, where there is one of that name."""
    if key not in files or not isinstance(value, str):
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
    made = (_stage(f"stage {k}", table) for k, table in enumerate(tables, 1))
    stages = tuple(stage for one in made for stage in _steps(one))
    kinds = [stage.kind for stage in stages]
    if "quantise" in kinds[:-1]:
        raise InputError("quantise must be the last stage: what is quantised is no longer refitted")
    common = {key: value for key, value in content.items() if key != "stage"}
    if common.get("calib") is None and any(_needs_data(stage) for stage in stages):
        raise InputError("a static quantise stage takes ranges from samples: give calib")
    return Recipe(_rounded(stages), common)


def _stage(where: str, table: Any) -> StageOf:
    """Check a table; `where` begins messages."""
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
    if kind == "finetune":  # refused before the stages ahead of it take their time
        try:
            Training(**{key: value for key, value in options.items() if key in TRAINING})
        except InputError as error:
            raise InputError(f"{where} ({kind}): {error}") from error
    return StageOf(kind, options)


def _steps(stage: StageOf) -> list[StageOf]:
    """A prune stage with another `between` its steps as so many stages; all others as they are.

    Each step takes the same factor off what the model takes then.
    """
    options = dict(stage.options)
    between = options.pop("between", None)
    if between is None or stage.kind != "prune":
        return [stage]
    steps = Settings(steps=options.pop("steps", 1)).steps  # refused where it is no such number
    target = amounts_of(options.get("target") or {})
    shares = {metric: share_of(metric, amount) for metric, amount in target.items()}
    if not target or None in shares.values():
        raise InputError(
            f"between: the target {target} is no share of what the model takes: give one such as "
            "macs=0.5"
        )
    each = {metric: share ** (1 / steps) for metric, share in shares.items() if share}
    other = between if isinstance(between, StageOf) else _stage("between", between)
    return [StageOf("prune", {**options, "target": each}), *_steps(other)] * steps


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
    """Parse `sparsify=2:4`, `sparsify=0.7`, `quantise=static` or `finetune=train.npz` as a stage.

    Options of `finetune` follow behind commas: `finetune=train.npz,epochs=10`.

    Raises:
        InputError: it is none of them.
    """
    kind, _, value = text.partition("=")
    kind = SPELLINGS.get(kind, kind)
    if kind == "quantise":
        return StageOf(kind, {"mode": value or "static"})
    if kind == "finetune":
        return StageOf(kind, _training(text, value))
    if kind not in KEYS and (function := plugin("stages", kind)) is not None:
        return StageOf(kind, {"value": value} if value else {}, function)
    if kind != "sparsify" or not value:
        raise InputError(
            f"then '{text}': give sparsify=2:4, sparsify=0.7, finetune=train.npz, quantise=static "
            "or quantise=dynamic"
        )
    try:
        return StageOf(kind, {"sparsity": float(value)})
    except ValueError:
        return StageOf(kind, {"pattern": value})


def _training(text: str, value: str) -> dict[str, Any]:
    """The options of `finetune=FILE,KEY=NUMBER,…`."""
    data, *others = value.split(",")
    options: dict[str, Any] = {"data": data} if data else {}
    for other in others:
        key, _, number = other.partition("=")
        _known(f"then '{text}'", (key,), TRAINING)
        number = f'"{number}"' if key == "qat" and number.isalpha() else number
        try:
            options[key] = tomllib.loads(f"v = {number}")["v"]
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"then '{text}': write {key}=NUMBER, such as epochs=10") from error
    return options
