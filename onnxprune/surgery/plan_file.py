"""The plan as a file: which positions of every stored axis remain.

{"version": 1, "model_sha256": "…",
 "axes": [{"tensor": "conv1.weight", "axis": 0, "size": 64, "keep": [0, 2, …]}, …]}

Positions from `size` on are zeros that the plan adds, at most as many as there are. Of further
entries `extent` says what the model looks at of an input, and `convolved` names tensors that
convolutions pick (see `shortcuts`): both are done before anything is cut. `blocks` only tells on
which blocks of channels the widths lie.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, one_line
from onnxprune.groups.head_units import reordered
from onnxprune.surgery.plan import plan_of
from onnxprune.types import Axis, Group, Ints, Plan

__all__ = ["PlanFile", "added", "channels_of", "compose", "dumps", "loads", "parsed"]

_AGAIN = "Write it again with --plan."


def dumps(
    plan: Plan,
    stored: Collection[str],
    model_sha256: str,
    more: Mapping[str, Any] | None = None,
) -> str:
    """JSON of a plan: the axes of stored tensors, one axis a line, and further entries by name.

    Args:
        plan: what stays.
        stored: names of the tensors whose axes are written.
        model_sha256: digest of the model that the plan is for.
        more: further entries.
    """
    axes = [
        {"tensor": axis.tensor, "axis": axis.axis, "size": plan.size[axis], "keep": keep.tolist()}
        for axis, keep in sorted(plan.keep.items())
        if axis.tensor in stored
    ]
    rows = ",\n  ".join(json.dumps(axis) for axis in axes)
    inner = f"\n  {rows}\n" if axes else ""
    others = "".join(f'"{name}": {json.dumps(value)}, ' for name, value in (more or {}).items())
    return f'{{"version": 1, "model_sha256": "{model_sha256}", {others}"axes": [{inner}]}}\n'


class PlanFile(NamedTuple):
    """A plan, the digest of the model it was made for, and what is done before it.

    Attributes:
        plan: what stays.
        digest: of the model.
        convolved: tensors that convolutions pick.
        extent: what the model looks at of an input, as it was written; None for all of it.
        rotations: streams that are turned, as they were written.
    """

    plan: Plan
    digest: str
    convolved: tuple[str, ...] = ()
    extent: Mapping[str, Any] | None = None
    rotations: Sequence[Mapping[str, Any]] = ()


def loads(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        InputError: unreadable, another version, or entries that cannot be.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Give another file.") from error
    except ValueError as error:
        raise InputError(f"{path}: not a plan file ({one_line(error)}). {_AGAIN}") from error
    return parsed(text, str(path))


def parsed(text: str, path: str) -> PlanFile:
    """Understand the text of a plan file; `path` is what messages call it.

    Raises:
        InputError: another version, or entries that cannot be.
    """
    try:
        content = json.loads(text)
        if content["version"] != 1:
            raise InputError(f"{path}: plan version {content['version']}, this tool reads 1")
        keep, size = {}, {}
        for entry in content["axes"]:
            axis = Axis(entry["tensor"], int(entry["axis"]))
            keep[axis], size[axis] = _positions(path, entry), int(entry["size"])
        convolved = tuple(map(str, content.get("convolved", ())))
        plan, digest = Plan(keep, size), str(content["model_sha256"])
        turned = tuple(content.get("rotations", ()))
        return PlanFile(plan, digest, convolved, content.get("extent"), turned)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: not a plan file, it lacks {error}. {_AGAIN}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        why = one_line(error) if isinstance(error, ValueError) else "an entry of another kind"
        raise InputError(f"{path}: not a plan file ({why}). {_AGAIN}") from error


def _positions(path: str, entry: Mapping[str, Any]) -> Ints:
    keep = np.array(entry["keep"], np.int64)
    if (np.diff(keep) <= 0).any() or (keep < 0).any() or (keep >= 2 * entry["size"]).any():
        raise InputError(
            f"{path}: tensor '{entry['tensor']}' axis {entry['axis']}: keep must be ascending "
            f"positions below {entry['size']}, or twice as many where zeros are added"
        )
    return keep


def channels_of(
    plan: Plan, groups: Sequence[Group], shapes: Mapping[str, Sequence[int]]
) -> tuple[tuple[Group, ...], list[NDArray[np.bool_]]]:
    """Which channels of each group a plan of stored axes keeps, and the groups so arranged.

    Raises:
        InputError: the plan names tensors or sizes that the model lacks, or cuts what it
            cannot cut there.
    """
    for axis, size in plan.size.items():
        shape = shapes.get(axis.tensor)
        if shape is None or axis.axis >= len(shape):
            raise InputError(
                f"the plan names '{axis.tensor}' axis {axis.axis}; the model has none. {_AGAIN}"
            )
        if shape[axis.axis] != size:
            raise InputError(
                f"the plan expects '{axis.tensor}' axis {axis.axis} to have {size} positions; the "
                f"model has {shape[axis.axis]}. Plans fit other checkpoints of the same graph only."
            )
    pairs = [_arranged(group, plan) for group in groups]
    arranged, kept = tuple(group for group, _ in pairs), [mask for _, mask in pairs]
    implied = plan_of(arranged, kept)
    for axis, keep in plan.keep.items():
        if not np.array_equal(implied.keep.get(axis, np.arange(plan.size[axis])), keep):
            raise InputError(
                f"the plan cuts '{axis.tensor}' axis {axis.axis} where this model cannot be cut: "
                f"run `onnxprune inspect` to see what blocks it"
            )
    return arranged, kept


def added(plan: Plan, groups: Sequence[Group]) -> tuple[dict[int, int], Plan]:
    """Groups that a plan first makes wider, with their width, and the plan for what they are then.

    Raises:
        InputError: it adds positions where this model has no such group.
    """
    beyond = plan.beyond
    size, widths = dict(plan.size), dict[int, int]()
    for g, group in enumerate(groups):
        each = {a: at.shape[1] for a, at in group.axes() if a in beyond}
        if each:
            ends = {axis: int(plan.keep[axis].max()) // k + 1 for axis, k in each.items()}
            widths[g] = max(ends.values())
            size |= {axis: widths[g] * k for axis, k in each.items()}
            beyond -= each.keys()
    if beyond:
        first = min(beyond)
        raise InputError(
            f"the plan adds positions to '{first.tensor}' axis {first.axis}; none fit. {_AGAIN}"
        )
    return widths, Plan(plan.keep, size, plan.nominal)


def _arranged(group: Group, plan: Plan) -> tuple[Group, NDArray[np.bool_]]:
    """The group with every head's kept units first, and which channels (n_channels,) remain.

    A channel is gone where all its positions are: those that remain may still lose some to a
    group that crosses this one.
    """
    alive = np.ones((group.channels, group.heads), bool)
    for site in group.sites:
        for axis in site.axes if not site.nominal else ():
            if axis in plan.keep:
                left = np.isin(site.positions, plan.keep[axis])
                alive &= left.reshape(group.channels, group.heads, -1).any(2)
    if group.heads == 1:
        return group, alive[:, 0]
    width = int(alive.sum(0).max())
    arranged = reordered(group, np.argsort(~alive, axis=0, kind="stable"))
    return arranged, np.arange(group.channels) < width


def compose(first: Plan, second: Plan) -> Plan:
    """One plan for the original that does what `first` and then `second` did."""
    keep, size = dict(first.keep), dict(first.size)
    for axis, kept in second.keep.items():
        keep[axis] = first.keep[axis][kept] if axis in first.keep else kept
        size.setdefault(axis, second.size[axis])
    return Plan(keep, size, first.nominal | second.nominal)
