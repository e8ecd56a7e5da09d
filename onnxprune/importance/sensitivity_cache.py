"""Keep sensitivities in a file, so that the same model and samples are measured only once.

The file is JSON: `{"onnxprune": "curves", "entries": {key: […]}}`. A key is the digest of what
sensitivities depend on. Of a group whose heads choose for themselves, the order of each head's
channels is stored too. Several processes may add to one file at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.atomic_files import DAMAGED, update_file
from onnxprune.errors import InputError
from onnxprune.groups.head_units import reordered
from onnxprune.importance.channels import MEASURING, Sensitivity
from onnxprune.importance.criteria import CRITERIA
from onnxprune.settings import ImportanceSettings, settings_key
from onnxprune.types import Group, Ints
from onnxprune.user_code import registered

__all__ = ["cached_sensitivities", "load_sensitivities", "save_sensitivities", "sensitivities_key"]

_HEAD = b'{"onnxprune": "curves"'
#: Entries that a file holds; the oldest goes first.
ENTRIES = 32


def sensitivities_key(
    model: str, samples: str, groups: Sequence[Group], options: ImportanceSettings, *facts: object
) -> str:
    """Digest what sensitivities depend on.

    Args:
        model: digest of the model.
        samples: digest of the calibration samples.
        groups: as they were before heads were put in order.
        options: how channels are ranked.
        facts: what else there is.
    """
    rows = [
        (
            (group.name, group.channels, group.heads, group.inexact),
            [(site.axes, site.size, site.nominal, site.positions) for site in group.sites],
        )
        for group in groups
    ]
    own = registered(CRITERIA)
    return settings_key(
        options, model, MEASURING, rows, own, facts, stage=ImportanceSettings, samples=samples
    )


def cached_sensitivities(
    path: str | Path | MutableMapping[str, Any] | None,
    key: Callable[[], str],
    groups: Sequence[Group],
    measure: Callable[[], list[Sensitivity]],
) -> tuple[list[Sensitivity], list[str]]:
    """Take sensitivities of `groups` from the file at `path`, or measure and add them; with notes.

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
    """Read what is stored under `key` for `groups`, and a note where the file cannot be used."""
    path = Path(path)
    try:
        entries, note = _entries(path.read_bytes(), path)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"cache {path}: cannot be read: {error.strerror}; it was ignored"
    rows = entries.get(key)
    if rows is None:
        return None, note
    try:
        return [_curve(row, group) for row, group in zip(rows, groups, strict=True)], note
    except DAMAGED:
        return None, f"cache {path}: an entry is damaged and was measured again"


def save_sensitivities(
    path: str | Path, key: str, groups: Sequence[Group], sensitivities: Sequence[Sensitivity]
) -> str:
    """Add sensitivities to the file; a note where it is not a cache and stays as it is.

    `groups` are those that were measured, before heads were put in order.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    rows = [
        _row(sensitivity, group) for sensitivity, group in zip(sensitivities, groups, strict=True)
    ]

    def added(content: bytes) -> bytes | None:
        if not _ours(content):
            return None
        entries, _ = _entries(content, path)
        entries = {**{k: v for k, v in entries.items() if k != key}, key: rows}
        newest = dict(list(entries.items())[-ENTRIES:])
        return json.dumps({"onnxprune": "curves", "entries": newest}).encode()

    try:
        return "" if update_file(path, added) else _foreign(path)
    except OSError as error:
        raise InputError(
            f"cache {path}: cannot be written: {error.strerror}. Choose another file."
        ) from error


def _ours(content: bytes) -> bool:
    """Tell whether a file begins like a cache, or is empty."""
    return not content or content.startswith(_HEAD)


def _entries(content: bytes, path: Path) -> tuple[dict[str, Any], str]:
    """Parse all entries of a file, with a note where it cannot be used."""
    if not _ours(content):
        return {}, _foreign(path)
    try:
        return dict(json.loads(content or b'{"entries": {}}')["entries"]), ""
    except DAMAGED:
        return {}, f"cache {path}: is damaged; it was ignored"


def _foreign(path: Path) -> str:
    return f"cache {path}: is no cache of onnxprune; it was ignored and stays as it is"


def _row(sensitivity: Sensitivity, group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "order": _order(group, sensitivity.group).tolist() if group.heads > 1 else None,
        "ranking": sensitivity.ranking.tolist(),
        "errors": sensitivity.errors.tolist(),
        "measured": {str(width): value for width, value in sensitivity.measured.items()},
        "unmeasured": sensitivity.unmeasured,
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
    return Sensitivity(group, ranking, errors, measured, str(row.get("unmeasured", "")))


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
