"""Sensitivities in a file, so that the same model and calibration data are measured only once.

The file is JSON: `{"onnxprune": "curves", "entries": {key: […]}}`. A key is the digest of what the
curves depend on. Of a group whose heads choose for themselves, the order of each head's channels
is stored beside the curve.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import InputError
from onnxprune.groups.head_units import reordered
from onnxprune.importance.channels import MEASURING, Sensitivity
from onnxprune.types import Group, Ints
from onnxprune.version import __version__

__all__ = ["cached_sensitivities", "load_sensitivities", "save_sensitivities", "sensitivities_key"]

_HEAD = '{"onnxprune": "curves"'
#: Entries that a file holds; the oldest goes first.
ENTRIES = 32


def sensitivities_key(
    model: str, calibration: str, groups: Sequence[Group], settings: Mapping[str, Any]
) -> str:
    """What curves depend on: digests of model file and samples, the groups, other settings."""
    found = hashlib.sha256()
    facts = [__version__, model, calibration, MEASURING, sorted(settings.items())]
    found.update(repr(facts).encode())
    for group in groups:
        found.update(repr((group.name, group.channels, group.heads, group.inexact)).encode())
        for site in group.sites:
            found.update(repr((site.axes, site.size, site.nominal)).encode())
            found.update(np.ascontiguousarray(site.positions, np.int64).tobytes())
    return found.hexdigest()


def cached_sensitivities(
    path: str | Path | MutableMapping[str, Any] | None,
    key: Callable[[], str],
    groups: Sequence[Group],
    measure: Callable[[], list[Sensitivity]],
) -> tuple[list[Sensitivity], list[str]]:
    """The curves of `groups` from the file at `path`, or measured and added to it; with notes.

    A mapping instead of a path keeps them in memory.
    """
    if path is None:
        return measure(), []
    known = key()
    if isinstance(path, MutableMapping):
        if known not in path:
            path[known] = measure()
        return path[known], []
    sensitivities, note = load_sensitivities(path, known, groups)
    if sensitivities is not None:
        return sensitivities, [f"sensitivities were taken from {path}"]
    sensitivities = measure()
    notes = [note, save_sensitivities(path, known, groups, sensitivities)]
    return sensitivities, list(dict.fromkeys(n for n in notes if n))


def load_sensitivities(
    path: str | Path, key: str, groups: Sequence[Group]
) -> tuple[list[Sensitivity] | None, str]:
    """The curves stored under `key` for `groups`, and a note where the file cannot be used."""
    entries, note = _entries(Path(path))
    rows = entries.get(key)
    if rows is None:
        return None, note
    try:
        return [_curve(row, group) for row, group in zip(rows, groups, strict=True)], note
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None, f"cache {path}: an entry is damaged and was measured again"


def save_sensitivities(
    path: str | Path, key: str, groups: Sequence[Group], sensitivities: Sequence[Sensitivity]
) -> str:
    """Add curves to the file, whole or not at all; a note where it is not a cache and stays.

    `groups` are those that the curves were measured for, before heads were put in order.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    entries, note = _entries(path)
    if note and not _ours(path):
        return note
    rows = [
        _row(sensitivity, group) for sensitivity, group in zip(sensitivities, groups, strict=True)
    ]
    entries = {**{k: v for k, v in entries.items() if k != key}, key: rows}
    entries = dict(list(entries.items())[-ENTRIES:])
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"onnxprune": "curves", "entries": entries}, file)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(f"cache {path}: cannot be written: {error.strerror}") from error
    return ""


def _ours(path: Path) -> bool:
    """Whether the file begins like a cache, or is empty."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_HEAD)) in (b"", _HEAD.encode())
    except OSError:
        return False


def _entries(path: Path) -> tuple[dict[str, Any], str]:
    """All entries of a file, and a note where it cannot be used."""
    if not path.exists():
        return {}, ""
    if not _ours(path):
        return {}, f"cache {path}: is no cache of onnxprune; it was ignored and stays as it is"
    try:
        entries = json.loads(path.read_text(encoding="utf-8") or '{"entries": {}}')["entries"]
        return dict(entries), ""
    except (OSError, KeyError, TypeError, ValueError):
        return {}, f"cache {path}: is damaged; it was ignored"


def _row(sensitivity: Sensitivity, group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "order": _order(group, sensitivity.group).tolist() if group.heads > 1 else None,
        "ranking": sensitivity.ranking.tolist(),
        "errors": sensitivity.errors.tolist(),
        "measured": {str(width): value for width, value in sensitivity.measured.items()},
    }


def _curve(row: Mapping[str, Any], group: Group) -> Sensitivity:
    n = group.channels
    ranking, errors = np.array(row["ranking"], np.int64), np.array(row["errors"], np.float64)
    fits = sorted(ranking.tolist()) == list(range(n)) and errors.shape == (n + 1,)
    if row["name"] != group.name or not fits or not np.isfinite(errors).all():
        raise ValueError(group.name)
    if row["order"] is not None:
        order = np.array(row["order"], np.int64)
        if (np.sort(order, 0) != np.arange(n)[:, None]).any() or order.shape != (n, group.heads):
            raise ValueError(group.name)
        group = reordered(group, order)
    measured = {int(width): float(value) for width, value in row["measured"].items()}
    return Sensitivity(group, ranking, errors, measured)


def _order(group: Group, arranged: Group) -> Ints:
    """(n_channels, heads) which channel of each head `reordered` put where."""
    order = np.tile(np.arange(group.channels)[:, None], (1, group.heads))
    for old, new in zip(group.sites, arranged.sites, strict=True):
        if not old.nominal:
            shape = (group.channels, group.heads, -1)
            before, after = (site.positions.reshape(shape)[:, :, 0] for site in (old, new))
            for head in range(group.heads):
                at = {place: k for k, place in enumerate(before[:, head].tolist())}
                order[:, head] = [at[place] for place in after[:, head].tolist()]
            break
    return order
