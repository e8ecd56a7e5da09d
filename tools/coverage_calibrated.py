"""The calibrated path on every model: runs of `coverage.py --calibrated`, and what they reached.

Each run is a process of its own (coverage_calibrated_steps.py says what a mode does). Models are
those of the corpus, the files of `../shared/models` beside the repository where there are some, and
files or folders named with `--files`; small files come first. A run that takes longer than
`--seconds` is stopped and counts as not run, not as failed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limited_run import limited_run, out_of_time

__all__ = [
    "FIRST_LINES",
    "MODES",
    "markdown",
    "model_files",
    "modes_of",
    "reasons",
    "summary",
    "sweep",
]

#: Modes in the order in which they run, and the seconds that each may take.
MODES: Mapping[str, int] = {
    "prune": 900,
    "sparsify": 900,
    "recipe": 1800,
    "steps": 1800,
    "latency": 1800,
    "apply": 900,
    "lossless": 900,
}
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "models"
#: How the first line of the report's reason begins where a failure is one of ours.
INTERNAL = "internal failure"
#: What the report counts, and what was to be done with it.
PARTS = (("layers", "refitted"), ("groups", "measured"), ("parameters", "tuned"))
Results = dict[str, dict[str, Any]]


def modes_of(text: str) -> list[str]:
    """The modes that a comma-separated list names; `all` are all.

    Raises:
        ValueError: there is no such mode.
    """
    wanted = list(MODES) if text == "all" else [mode.strip() for mode in text.split(",")]
    for mode in wanted:
        if mode not in MODES:
            raise ValueError(f"no mode '{mode}'. There are: all, {', '.join(MODES)}")
    return wanted


def model_files(given: Iterable[Path], shared: Path = SHARED) -> dict[str, Path]:
    """Files by name: those of `shared`, and the given ones; of a folder all that it holds."""
    found: dict[str, Path] = {}
    for path in (shared, *given):
        files = sorted(path.rglob("*.onnx")) if path.is_dir() else [path] if path.exists() else []
        found.update({file.stem: file for file in files})
    return found


def sweep(
    files: Mapping[str, Callable[[], Path]],
    modes: Sequence[str],
    json_file: Path | None = None,
    seconds: int | None = None,
) -> Results:
    """Run every mode on every model, small files first; a model that is not built yet comes last.

    Args:
        files: by name a function that gives the model's file, and builds it where that is needed.
        modes: which.
        json_file: what is found so far is kept here; only what failed, or was stopped by a smaller
            limit of time, is run again.
        seconds: that a run may take; each mode's own limit without.
    """
    results: Results = {}
    if json_file is not None and json_file.exists():
        results = json.loads(json_file.read_text())["models"]
    for number, (name, file_of) in enumerate(files.items(), 1):
        entry = results.setdefault(name, {})
        print(f"[{number}/{len(files)}] {name} ...", file=sys.stderr, flush=True)
        file = file_of()
        if not file.exists():
            entry["build"] = {"failed": "not built"}
            continue
        for mode in modes:
            limit = MODES[mode] if seconds is None else seconds
            if _is_open(entry.get(mode), limit):
                entry[mode] = _run(mode, file, limit)
                if json_file is not None:
                    json_file.write_text(json.dumps({"models": results}, indent=1) + "\n")
    return results


def _run(mode: str, file: Path, seconds: int) -> dict[str, Any]:
    """What one run found; `stopped` are the seconds after which it was."""
    found = limited_run("coverage_calibrated_steps.py", [mode, str(file)], seconds)
    return {"stopped": seconds} if found.get("failed") == out_of_time(seconds) else found


def _is_open(found: Mapping[str, Any] | None, seconds: int) -> bool:
    """Whether a run is still to be made, or made again."""
    return found is None or "failed" in found or found.get("stopped", seconds) < seconds


FIRST_LINES = (
    "| model | mode | reached | layers refitted | groups measured | parameters tuned | file | s |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def markdown(results: Results) -> str:
    """A row for every model and mode."""
    rows = [
        _row(name, mode, entry[mode])
        for name, entry in results.items()
        for mode in MODES
        if mode in entry
    ]
    return "\n".join([*FIRST_LINES, *rows])


def _row(name: str, mode: str, values: Mapping[str, Any]) -> str:
    if "failed" in values:
        return f"| {name} | {mode} | FAILED: {values['failed']} | | | | | |"
    if "stopped" in values:
        return f"| {name} | {mode} | not run: longer than {values['stopped']} s | | | | | |"
    reach = values.get("calibration") or {}
    shares = [_share(reach.get(part), verb) for part, verb in PARTS]
    reached = values.get("reached", values.get("density"))
    cells = [
        name, mode, "" if reached is None else f"{reached:.2f}", *shares,
        f"{values['bytes']:.2f}" if "bytes" in values else "", f"{values['seconds']:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _share(part: Mapping[str, Any] | None, verb: str) -> str:
    return "" if not part or not part["count"] else f"{part[verb] / part['count']:.2f}"


def summary(results: Results) -> str:
    """For every mode how many models it ran on, how many failed, and what it reached."""
    lines = []
    for mode in MODES:
        found = [entry[mode] for entry in results.values() if mode in entry]
        ran = [values for values in found if "stopped" not in values]
        if not found:
            continue
        good = [values for values in ran if "failed" not in values]
        whole = sum(values.get("reached", 0) >= 1 for values in good)
        larger = sum(values.get("bytes", 0) > 1 for values in good)
        inside = sum(bool(internal(values)) for values in good)
        fewer = Counter(kind for values in good for kind in values.get("left", ()))
        refused = "".join(f", {count} without {kind}" for kind, count in fewer.items())
        lines.append(
            f"{mode}: {len(ran)} models, {len(ran) - len(good)} failed, {whole} with nothing "
            f"to prune, {inside} with an internal failure of a layer or group, {larger} larger "
            f"than before{refused}; {_shares_of_all(good)}; {len(found) - len(ran)} not run, too "
            "long"
        )
    return "\n".join(lines)


def _shares_of_all(good: Sequence[Mapping[str, Any]]) -> str:
    """Which share of all layers were refitted, of groups measured, of parameters tuned."""
    told = []
    for part, verb in PARTS:
        every = [(values.get("calibration") or {}).get(part) for values in good]
        total = {key: sum(one[key] for one in every if one) for key in ("count", verb)}
        told.append(f"{_share(total, verb) or 'none'} of {part} {verb}")
    return ", ".join(told)


def internal(values: Mapping[str, Any]) -> list[str]:
    """Failures of ours that cost a layer or group."""
    parts = (values.get("calibration") or {}).values()
    left = [(name, why) for part in parts if part for name, why in part["left"].items()]
    return [f"{name}: {why}" for name, why in left if why.startswith(INTERNAL)]


def reasons(results: Results, most: int = 30) -> str:
    """Why layers were not refitted and groups not measured, over all models and modes."""
    counts = Counter[tuple[str, str]]()
    for entry in results.values():
        for values in entry.values():
            reach = values.get("calibration") or {}
            for part in ("layers", "groups"):
                whys = (reach.get(part) or {"left": {}})["left"].values()
                counts.update((part, why[:120]) for why in whys)
    lines = ["| what | left out because | number |", "| --- | --- | ---: |"]
    lines += [f"| {part} | {why} | {n} |" for (part, why), n in counts.most_common(most)]
    return "\n".join(lines)
