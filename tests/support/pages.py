"""Pages as the tests take them apart, and the values that they are made from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from onnxprune.report.html.about import About, Setting
from onnxprune.report.html.elements import Element, html
from onnxprune.report.html.page import JSON_ID
from onnxprune.report.html.parts import Section, section

#: A name as a hostile file may have it: markup, quotes, an end of the script, a turned direction.
HOSTILE = "w</script><script>alert('1')</script><b onclick=\"x\">&amp;\u202eedoc\x00\x1b[31m"
VOID = {"br", "col", "hr", "link", "meta"}


@dataclass
class Tree(HTMLParser):
    """What a page consists of: tags with attributes, text by tag, and whether tags are balanced."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """What a reader sees."""
        hidden = {"style", "script"}
        return " ".join("".join(t for tag, t in self.texts if tag not in hidden).split())


def tree_of(text: str) -> Tree:
    """Take a page apart."""
    tree = Tree()
    tree.feed(text)
    tree.close()
    return tree


def tree(part: Element | Section) -> Tree:
    """Take a part of a page apart."""
    return tree_of(html(section(part) if isinstance(part, Section) else part))


def report_in(text: str) -> Any:
    """The report that a page holds."""
    found = re.search(rf'id="{JSON_ID}">(.*?)</script>', text)
    assert found, "no report"
    return json.loads(found[1])


def assert_page(text: str) -> Tree:
    """What holds of every page: structure, ids, no script, no network, names for figures."""
    page = tree_of(text)
    assert text.startswith("<!doctype html>") and not page.stack and not page.unbalanced
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("header")) == 1
    assert page.all("html")[0]["lang"] == "en"
    scripts = page.all("script")
    assert [one.get("type") for one in scripts] == ["application/json"]
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "src" not in attributes
        for name in ("href", "xlink:href", "action"):
            assert (attributes.get(name) or "#")[0] == "#" or attributes[name] == "data:,"
    assert "url(" not in text and "@import" not in text and "://" not in re.sub(
        r"<script.*?</script>", "", text
    )  # fmt: skip
    for one in page.all("svg"):
        named = (one.get("aria-labelledby") or "").split()
        assert one.get("aria-hidden") == "true" or "viewbox" in one or set(named) <= set(ids)
        assert one.get("role") == ("img" if named else None)
    for one in page.all("section"):
        assert one["aria-labelledby"] in ids
    targets = [one["href"] for one in page.all("a") if one.get("href")]
    assert all(str(target)[1:] in ids for target in targets)
    assert len(page.all("caption")) == len(page.all("table"))
    names = [one["aria-labelledby"] for one in page.all("section")]
    assert len(names) == len(set(names)) and not re.search("<th[^>]*></th>", text)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in zip([0, *levels], levels, strict=False))
    return page


def about(kind: str = "prune", **limits: float) -> About:
    """What a page says of a run."""
    settings = [Setting("--target", "macs=0.5", given=True), Setting("--seed", "0")]
    models = [f"folder/{HOSTILE}.onnx", "small.onnx"]
    return About(kind, models, f"onnxprune {kind}", settings, {"onnxprune": "1"}, limits)


def latency(ms: float) -> dict[str, Any]:
    """A latency with its quantiles."""
    quantiles = [ms * (0.9 + 0.005 * k) for k in range(41)]
    return {"median_ms": ms, "p10_ms": 0.9 * ms, "p90_ms": 1.1 * ms, "runs": 41,
            "quantiles_ms": quantiles}  # fmt: skip


def prune_values(name: str = HOSTILE, slower: bool = False) -> dict[str, Any]:
    """The report of a prune with everything in it."""
    times = latency(2.0), latency(3.0 if slower else 1.0)
    before = {"macs": 2e6, "params": 1e5, "bytes": 466_000, "nodes": 60, "latency": times[0],
              "accuracy": 0.99}  # fmt: skip
    after = {"macs": 1e6, "params": 4e4, "bytes": 152_000, "nodes": 60, "latency": times[1],
             "accuracy": 0.97}  # fmt: skip
    drift = {"cosine": 0.994, "sqnr_db": 20.0, "agreement": 0.98, "samples": 500,
             "data": "the given data", "accuracy": [0.99, 0.97]}  # fmt: skip
    return {
        "before": before, "after": after, "target": {"macs": 0.5},
        "achieved": {"macs": 0.5, "params": 0.4, "size": 0.33, "ratio": 0.6, "latency": 0.5},
        "proof": {"max_relative_error": 2e-7, "passed": True, "reference": "masked original"},
        "fidelity": drift,
        "groups": [{"name": name, "channels": 64, "kept": 40},
                   {"name": "v", "channels": 8, "kept": 8}],
        "frozen": [{"tensor": name, "axis": 0, "used_by": name, "blocked": 10, "size": 10,
                    "node": name, "at": "y[1]", "reason": f"'{name}' is an output",
                    "hint": "it is the interface"}],
        "environment": {"provider": "CPU", "threads": 1}, "notes": [name], "warnings": ["careful"],
        "evaluation": None, "slower": slower,
        "calibration": {"layers": {"count": 20, "refitted": 18, "left": {name: "it is int8"}},
                        "groups": {"count": 2, "measured": 2, "left": {}}, "parameters": None},
        "blocks": {"convolution": 16, "product": 16, "source": "measured"},
        "sensitivities": [{"name": name, "channels": 64, "kept": 40, "measured": [64, 32],
                           "divergence": {"64": 0.0, "40": 0.01, "32": 0.02, "1": 2.0}}],
        "layers": {"data": name, "samples": 16, "rows": [
            {"name": name, "output": name, "divergence": 0.02},
            {"name": "last", "output": "y", "divergence": 0.005}]},
    }  # fmt: skip


def sparse_values(name: str = HOSTILE) -> dict[str, Any]:
    """The report of a sparsify."""
    row = {"name": name, "op": "Conv", "shape": [8, 4], "nonzeros": 16, "density": 0.5,
           "patterns": ["2:4"], "tensorrt": "", "unlikely": ""}  # fmt: skip
    return {
        "asked": {"pattern": "2:4"}, "density": 0.5, "layers": [row], "skipped": {name: "int8"},
        "before": {"file": 1000, "zip": 900, "zstd": None, "latency": latency(2.0)},
        "after": {"file": 1000, "zip": 450, "zstd": None, "latency": latency(2.0)},
        "fidelity": prune_values()["fidelity"], "updated": True,
        "environment": {"provider": "CPU"}, "notes": [name], "evaluation": None,
        "calibration": None,
    }  # fmt: skip


def recipe_values(name: str = HOSTILE) -> dict[str, Any]:
    """The report of a recipe of three stages, the last of them slower."""
    stages = []
    for kind, details, ms in (
        ("prune", prune_values(name), 1.0),
        ("sparsify", sparse_values(name), 1.0),
        ("quantise", {"asked": {"mode": name}, "notes": [name]}, 3.0),
    ):
        pair = [latency(2.0), latency(ms)]
        stages.append(
            {"kind": kind, "bytes": 100_000, "seconds": 1.5, "latency": pair,
             "fidelity": prune_values()["fidelity"], "latency_ms": [2.0, ms],
             "score": None, "details": details, "resumed": False, "notes": []}
        )  # fmt: skip
    return {"recipe": "abc", "bytes": 466_000, "score": None, "stages": stages,
            "environment": {"provider": "CPU"}, "notes": [name]}  # fmt: skip


def check_values() -> dict[str, Any]:
    """The comparison of two models."""
    both = prune_values()
    return {"before": both["before"], "after": both["after"], "fidelity": both["fidelity"],
            "drop": 0.02, "latency_ratio": 0.5, "environment": {"provider": "CPU"},
            "warnings": [], "notes": []}  # fmt: skip


def bench_values(name: str = HOSTILE) -> dict[str, Any]:
    """Two timed models."""
    spent = [{"name": f"{name}{k}", "op": "Conv", "provider": "CPU", "ms": k / 10}
             for k in range(30)]  # fmt: skip
    rows = [{"model": f"a/{own}", "ratio": ms / 2, "spread": 0.1, "operators": spent,
             "samples_per_second": 12_345.0, "peak_memory_bytes": None, **latency(ms)}
            for own, ms in ((name, 2.0), ("small.onnx", 1.0))]  # fmt: skip
    return {"environment": {"provider": "CPU"}, "models": rows}


def sensitivity_values(name: str = HOSTILE) -> dict[str, Any]:
    """The table of two groups."""
    groups = [{"name": own, "channels": 8, "heads": 1, "ranking": list(range(8)),
               "measured": [{"width": 8, "divergence": 0.0}, {"width": 4, "divergence": scale}],
               "errors": [scale * (8 - width) / 4 for width in range(9)]}
              for own, scale in ((name, 0.1), ("flat", 0.001))]  # fmt: skip
    return {"calibration": {"source": name, "samples": 64, "digest": "d"}, "groups": groups,
            "notes": [name]}  # fmt: skip


def sweep_values(name: str = HOSTILE) -> dict[str, Any]:
    """Three targets, the last of them out of reach."""
    rows: list[dict[str, Any]] = []
    for share, quality in ((0.8, 0.985), (0.5, 0.97)):
        report = prune_values(name)
        report["achieved"] = {**report["achieved"], "macs": share, "latency": share + 0.1}
        rows.append({"target": {"macs": share}, "quality": quality, "score": None, "why": "",
                     "file": f"{name}.onnx", "report": report})  # fmt: skip
    rows.append({"target": {"macs": 0.01}, "quality": None, "score": None, "why": f"no {name}",
                 "file": "", "report": None})  # fmt: skip
    return {"quality": {"name": "top-1", "original": 0.99}, "targets": rows,
            "environment": {"provider": "CPU"}, "notes": []}  # fmt: skip


#: Values of every kind of page.
VALUES = {
    "apply": prune_values(),
    "bench": bench_values(),
    "check": check_values(),
    "prune": prune_values(),
    "run": recipe_values(),
    "sensitivity": sensitivity_values(),
    "sparsify": sparse_values(),
    "sweep": sweep_values(),
}
