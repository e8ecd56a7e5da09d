"""What the user asks for: targets as shares or absolute amounts, ratios per layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxprune.errors import InputError
from onnxprune.groups.cost import BUDGETS, METRICS

__all__ = [
    "amounts_of",
    "budgets",
    "parse_ratio",
    "parse_shape",
    "parse_step",
    "parse_target",
    "share_of",
]

_UNITS = {
    "": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
}  # fmt: skip
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_AMOUNT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([A-Za-z]*|%)\s*", re.IGNORECASE)


def parse_target(text: str) -> dict[str, str]:
    """`macs=0.5` or `latency=5ms,size=2MB` as metric → amount; see `budgets` for the amounts."""
    found = {}
    for part in text.split(","):
        metric, equals, amount = part.partition("=")
        if not equals or not amount.strip():
            raise InputError(
                f"target '{part}': write METRIC=AMOUNT, such as macs=0.5 or latency=5ms"
            )
        if metric.strip() in found:
            raise InputError(f"target '{metric.strip()}' is given twice. Keep one.")
        found[metric.strip()] = amount.strip()
    return found


def budgets(
    target: Mapping[str, str | float],
    full: Sequence[float],
    latency: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Largest allowed cost per metric; `full` is the model's cost in the order of METRICS.

    A number up to 1, or with %, is a share of the model's cost; anything else is absolute. Latency
    is always returned as a share: `latency` measures the model's milliseconds where it is not one.
    """
    allowed = {}
    for metric, amount in amounts_of(target).items():
        if metric not in BUDGETS:
            raise InputError(f"unknown target '{metric}'. There are: {', '.join(BUDGETS)}")
        if metric == "latency":
            allowed[metric] = _latency(str(amount), latency)
            continue
        whole = full[METRICS.index(metric)]
        share, absolute = _amount(metric, str(amount))
        if not whole and metric in ("macs", "params"):
            raise InputError(
                f"target {metric}={amount}: the model has no {metric} that could go. Use another "
                f"metric: {', '.join(BUDGETS)}"
            )
        if absolute is not None and metric == "ratio":
            raise InputError(f"target ratio={amount}: give the share of channels to keep, as 0.5")
        allowed[metric] = absolute if absolute is not None else (share or 0.0) * whole
    return allowed


def amounts_of(target: Any) -> Mapping[str, Any]:
    """The amounts by metric that a target in Python or in a recipe holds.

    Raises:
        InputError: it holds none.
    """
    if not isinstance(target, Mapping):
        raise InputError(f"target {target!r}: give metrics and amounts, such as {{'macs': 0.5}}")
    return target


def share_of(metric: str, amount: str | float) -> float | None:
    """The share of what the model takes that an amount asks for; None where it is absolute.

    Raises:
        InputError: it is no amount.
    """
    if metric != "latency":
        return _amount(metric, str(amount))[0]
    match = _AMOUNT.fullmatch(str(amount))
    if match is not None and match[2].lower() in _MILLISECONDS:
        return None
    return _latency(str(amount), None)


def _latency(text: str, measure: Callable[[], float] | None) -> float:
    """The share of the model's latency that `text` allows."""
    match = _AMOUNT.fullmatch(text)
    unit = match[2].lower() if match else None
    if match is None or unit not in ("", "%", *_MILLISECONDS):
        raise InputError(
            f"target latency={text}: give a share (0.5, 50%) or a time (5ms, 800us, 0.1s)"
        )
    number = float(match[1])
    if unit in ("", "%"):
        share = number / 100 if unit == "%" else number
        if not 0 < share <= 1:
            raise InputError(
                f"target latency={text} is out of range: a share lies above 0, up to 1; "
                "a time needs its unit (5ms, 800us, 0.1s)"
            )
        return share
    if number <= 0:
        raise InputError(f"target latency={text}: give a time above 0")
    if measure is None:
        raise InputError(f"target latency={text}: give a share here, such as latency=0.5")
    return min(number * _MILLISECONDS[unit] / measure(), 1.0)


def _amount(metric: str, text: str) -> tuple[float | None, float | None]:
    match = _AMOUNT.fullmatch(text)
    unit = match[2].upper() if match else ""
    if match is None or (unit != "%" and unit not in _UNITS):
        raise InputError(
            f"target {metric}={text}: give a share (0.5, 50%) or an amount (120M, 2MB)"
        )
    number = float(match[1])
    if unit == "%" or (unit == "" and number <= 1):
        share = number / 100 if unit == "%" else number
        if not 0 < share <= 1:
            raise InputError(
                f"target {metric}={text} is out of range: give a share above 0, up to 1"
            )
        return share, None
    if unit.endswith("B") and metric != "size":
        raise InputError(f"target {metric}={text}: bytes are for size; write K, M or G")
    if number <= 0 or (unit == "" and number < 2):
        raise InputError(f"target {metric}={text} is out of range: give a share above 0, up to 1")
    return None, number * _UNITS[unit]


def parse_ratio(text: str) -> tuple[str, float]:
    """`REGEX=0.5` as pattern and share of channels to keep."""
    pattern, equals, share = text.rpartition("=")
    try:
        value = float(share)
        re.compile(pattern)
    except (ValueError, re.error) as error:
        raise InputError(f"layer ratio '{text}': write REGEX=SHARE, such as layer1=0.5") from error
    if not equals or not 0 < value <= 1:
        raise InputError(f"layer ratio '{text}': the share to keep lies above 0, up to 1")
    return pattern, value


def parse_step(text: str) -> int | str:
    """A whole number, or a word."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def parse_shape(text: str, inputs: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """`name:1,3,224,224`, `name:[1,3,224,224]`, `name:1x3x224x224`, or sizes alone."""
    name, colon, sizes = text.rpartition(":")
    if not colon:
        if len(inputs) != 1:
            raise InputError(f"input shape '{text}': name the input, one of {', '.join(inputs)}")
        name = inputs[0]
    try:
        shape = tuple(int(v) for v in re.split(r"[,x]", sizes.strip().strip("[]")))
    except ValueError as error:
        raise InputError(f"input shape '{text}': write name:1,3,224,224") from error
    if any(size < 1 for size in shape):
        raise InputError(f"input shape '{text}': sizes must be at least 1")
    return name, shape
