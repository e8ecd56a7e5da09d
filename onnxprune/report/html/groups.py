"""Show groups of channels: their widths, what narrowing them costs, and what is frozen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.report.html.charts import Curve, bar, curves, silhouette
from onnxprune.report.html.elements import Content, Element, el, prefixed
from onnxprune.report.html.figure import Drawing
from onnxprune.report.html.parts import Column, Section, details, table
from onnxprune.report.html.scales import number, percent

__all__ = ["curves_of", "frozen", "reached", "sensitivities", "widths"]

Values = Mapping[str, Any]
#: Groups up to which their table is open; weights of a reason that are named; groups of the loss.
OPEN, NAMED, SHOWN = 16, 60, 12


def widths(prefix: str, groups: Sequence[Values], blocks: Values | None = None) -> list[Section]:
    """The width of every group before and after."""
    if not groups:
        return []
    channels, kept = (sum(row[name] for row in groups) for name in ("channels", "kept"))
    told = f"{kept} of {channels} channels in {len(groups)} groups are kept."
    drawing = Drawing(
        prefixed(prefix, "widths-p"),
        "Channels of every group",
        f"Columns for {len(groups)} groups in the order of the graph: the channels of the original "
        f"and in front of them those that are kept. {told} The table below holds all numbers.",
    )
    drawn = silhouette(drawing, [(row["name"], row["channels"], row["kept"]) for row in groups])
    columns = [Column("group"), Column("before"), Column("after"), Column("kept")]
    columns.append(Column("share", "wide"))
    rows: list[list[Content]] = []
    for row in groups:
        share = row["kept"] / max(row["channels"], 1)
        cells = str(row["channels"]), str(row["kept"]), percent(share)
        rows.append([row["name"], *cells, bar(share)])
    made = table("Channels of each group before and after", columns, rows)
    folded = details(f"All {len(groups)} groups", made, open_=len(groups) <= OPEN)
    content = (el("p", told, _blocks(blocks)), drawn, folded)
    return [Section(prefixed(prefix, "widths"), "Widths of the groups", content)]


def _blocks(blocks: Values | None) -> str:
    """On which steps widths lie."""
    if blocks is None:
        return ""
    return (
        f" Widths lie on blocks that the runtime's kernels take at once: {blocks['convolution']} "
        f"channels of convolutions, {blocks['product']} of matrix products ({blocks['source']})."
    )


def curves_of(rows: Sequence[Values]) -> list[Curve]:
    """The curves of groups as they are drawn, from rows of the report or of `sensitivity`."""
    drawn = []
    for row in rows:
        points = _points(row)
        known = dict(points)
        share = None if "kept" not in row else row["kept"] / row["channels"]
        kept = None if share is None else (share, known.get(share, 0.0))
        widths = (m["width"] if isinstance(m, Mapping) else m for m in row["measured"])
        places = (width / row["channels"] for width in widths)
        measured = [(place, known[place]) for place in places if place in known]
        drawn.append(Curve(row["name"], points, kept, measured))
    return drawn


def _points(row: Values) -> list[tuple[float, float]]:
    """Shares of channels and divergences, the widest first, few enough to be drawn."""
    channels = row["channels"]
    if "divergence" in row:
        return [(int(width) / channels, value) for width, value in row["divergence"].items()]
    errors = row["errors"]
    step = max(channels // 24, 1)
    some = sorted({*range(1, channels + 1, step), *(m["width"] for m in row["measured"])})
    return [(width / channels, errors[width]) for width in reversed(some)]


def sensitivities(prefix: str, rows: Sequence[Values]) -> list[Section]:
    """How the outputs answer to the width of each group, and which groups cost most."""
    drawn = curves_of(rows)
    if not any(value > 0 for curve in drawn for _, value in curve.points):
        return []
    drawing = Drawing(
        prefixed(prefix, "curves-p"),
        "Divergence by width",
        f"Lines for {len(drawn)} groups, the highest where these are many: how far the outputs "
        "move, on a logarithmic scale, when that group alone keeps a share of its channels.",
        320,
    )
    told = (
        "Each group was narrowed alone and the outputs compared with the original's. A flat, low "
        "line can be cut far at little cost; a steep one is where accuracy hangs."
    )
    content = (el("p", told), curves(drawing, drawn), _dearest(drawn))
    return [Section(prefixed(prefix, "curves"), "Sensitivity of the groups", content)]


def _dearest(drawn: Sequence[Curve]) -> Element | None:
    """The groups whose chosen width moves the outputs most, by themselves and before refitting."""
    found = [(curve.kept[1], curve.kept[0], curve.name) for curve in drawn if curve.kept]
    most = sorted((row for row in found if row[0] > 0), key=lambda row: -row[0])[:SHOWN]
    if not most:
        return None
    columns = [
        Column("group"),
        Column("channels kept"),
        Column("divergence"),
        Column("beside the dearest", "wide"),
    ]
    rows: list[list[Content]] = [
        [name, percent(share), number(value), bar(value / most[0][0])]
        for value, share, name in most
    ]
    caption = "Groups whose chosen width moves the outputs most, each alone and before tuning"
    return table(caption, columns, rows)


def reached(prefix: str, calibration: Values | None) -> list[Section]:
    """What was refitted, measured and tuned, and why not the rest."""
    if not calibration:
        return []
    verbs = {"layers": "refitted", "groups": "measured", "parameters": "tuned"}
    rows: list[list[Content]] = []
    left = dict[tuple[str, str], list[str]]()
    for name, verb in verbs.items():
        part = calibration.get(name)
        if part is None:
            continue
        share = part[verb] / max(part["count"], 1)
        rows.append([f"{name} {verb}", str(part[verb]), str(part["count"]), bar(share)])
        for one, why in part["left"].items():
            left.setdefault((name, why), []).append(one)
    columns = [Column("part"), Column("reached"), Column("of"), Column("share", "wide")]
    made = table("What calibration reached of the model", columns, rows)
    reasons = [_named(f"{len(names)} {name}: {why}", names) for (name, why), names in left.items()]
    why = (el("h3", "Left as it was"), *reasons) if reasons else ()
    content = (made, *why)
    return [Section(prefixed(prefix, "reached"), "Refitted, measured and tuned", content)]


def frozen(prefix: str, rows: Sequence[Values]) -> list[Section]:
    """What cannot be pruned, by reason."""
    by_reason = defaultdict[tuple[str, str], list[Values]](list)
    for row in rows:
        by_reason[row["reason"], row.get("hint", "")].append(row)
    if not by_reason:
        return []
    many = "s have" if len(rows) > 1 else " has"
    told = (
        f"{len(rows)} weight{many} channels that stay. What no rule covers is never touched: that "
        "costs compression, never correctness."
    )
    parts = [
        _reason(reason, hint, own)
        for (reason, hint), own in sorted(by_reason.items(), key=lambda one: -len(one[1]))
    ]
    return [Section(prefixed(prefix, "frozen"), "Frozen, and why", (el("p", told), *parts))]


def _reason(reason: str, hint: str, rows: Sequence[Values]) -> Element:
    names = [
        f"{row['tensor']}[{row['axis']}]: {row['blocked']} of {row['size']}"
        + (f", blocked by {row['node']}" if row.get("node") else "")
        for row in rows
        if "tensor" in row
    ]
    summary = f"{len(rows)} weight{'s' * (len(rows) > 1)}: {reason}"
    return _named(summary, names, f"{hint[:1].upper()}{hint[1:]}." if hint else "")


def _named(summary: str, names: Sequence[str], hint: str = "") -> Element:
    """A reason with the names that it is about folded away."""
    more = len(names) - NAMED
    rest = el("li", f"and {more} more, in the JSON within this page") if more > 0 else None
    listed = el("ul", (el("li", el("code", name)) for name in names[:NAMED]), rest)
    return details(summary, el("p", hint) if hint else None, listed)
