"""What onnxprune makes of a corpus of real architectures, and what its peers make of it.

Every step on every model is a process of its own, with a limit on time and memory, so that a crash
costs one cell of the table. Models are built once and kept in the cache. Needs the packages of
the extra `coverage`.

Usage: `python tools/coverage.py --json out.json`, `python tools/coverage.py --only 'resnet'
--peers --planted`, `python tools/coverage.py --calibrated prune --files models`, `python
tools/coverage.py --streams`. Steps are in coverage_steps.py, coverage_calibrated_steps.py and
coverage_streams.py, the models in corpus.py; `--no-corpus` runs on files alone, and needs none of
those packages.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import coverage_calibrated as calibrated
import coverage_streams as streams
from corpus import Entry, load_entries
from limited_run import limited_run

SECONDS = {"build": 300, "prune": 300, "planted": 300, "onnxsim": 300, "torch-pruning": 600,
           "streams": 300}  # fmt: skip
GOAL, SLACK = 0.5, 1e-3
PACKAGES = (
    "onnxprune", "onnx", "onnxruntime", "numpy", "torch", "torchvision", "timm", "transformers",
    "onnxsim", "torch-pruning",
)  # fmt: skip
Results = dict[str, dict[str, Any]]


def run_step(step: str, name: str, cache: Path) -> dict[str, Any]:
    """A step's result, or {"failed": why}."""
    return limited_run("coverage_steps.py", [step, name, str(cache)], SECONDS[step])


def verdict(entry: Mapping[str, Any]) -> str:
    """Pruned, unchanged (with reasons), or what went wrong."""
    values = entry.get("prune", {})
    if "failed" in entry.get("build", {}):
        return "not built"
    if "failed" in values:
        return "FAILED"
    return "unchanged" if values["reached"] >= 1 else "pruned"


def share(value: float | None) -> str:
    """A share of one with two digits after the point."""
    return "" if value is None else f"{value:.2f}"


def amount(value: float) -> str:
    """A count with three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def peer(values: Mapping[str, Any] | None) -> str:
    """A peer's cell: the share of MACs it reached and whether the result holds."""
    if values is None:
        return ""
    if "failed" in values:
        return "broken"
    if values["reached"] >= 1 - SLACK:
        return "1.00"
    return f"{values['reached']:.2f} {values['status']}"


def row(name: str, entry: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """One line of the table."""
    values = entry.get("prune", {})
    state = verdict(entry)
    cells = [name, entry["family"], entry["origin"]]
    if state in ("pruned", "unchanged"):
        proof = f"{values['proof']:.0e}" if "proof" in values else "unchanged"
        cells += [
            amount(values["macs"]), share(values["prunable_macs"]),
            share(values["prunable_params"]), share(values["reached"]), proof,
            f"{values['seconds']:.1f}",
        ]  # fmt: skip
    else:
        cells += ["", "", "", state, "", ""]
    for column in columns:
        if column == "planted":
            cells.append(planted(entry.get("planted")))
        else:
            cells.append(peer(entry.get(column)))
    return cells


def planted(values: Mapping[str, Any] | None) -> str:
    """Removed of planted channels, and the error where it is too large."""
    if values is None:
        return ""
    if "failed" in values:
        return "FAILED"
    wrong = f", error {values['error']:.0e}" if values["error"] > 1e-5 else ""
    return f"{values['removed']}/{values['planted']}{wrong}"


HEADER = (
    *("model", "family", "origin", "MACs", "prunable MACs", "prunable params"),
    *("macs reached", "proof", "s"),
)


def markdown(results: Results, columns: Iterable[str]) -> str:
    """The table."""
    columns = list(columns)
    rows = [[*HEADER, *columns], *(row(name, entry, columns) for name, entry in results.items())]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "| --- | --- | --- |" + " ---: |" * (len(rows[0]) - 3))
    return "\n".join(lines)


def summary(results: Results) -> str:
    """Counts that the table must keep."""
    states = [verdict(entry) for entry in results.values()]
    done = [e["prune"] for e, s in zip(results.values(), states, strict=True) if s != "FAILED"]
    done = [values for values in done if "reached" in values]
    half = sum(values["reached"] <= GOAL + SLACK for values in done)
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    return f"{len(states)} models: {counts}; macs=0.5 reached by {half} ({half / len(states):.0%})"


def obstacles(results: Results, most: int = 25) -> str:
    """What freezes weights, by the share of MACs summed over models, where 0.5 was not reached."""
    total: dict[tuple[str, str], list[float]] = defaultdict(list)
    for entry in results.values():
        values = entry.get("prune", {})
        if values.get("reached", 0) > GOAL + SLACK:
            for item in values["blocked"]:
                total[item["op"], item["reason"]].append(item["macs"])
    rank = sorted(total.items(), key=lambda pair: -sum(pair[1]))[:most]
    lines = ["| operator | reason | models | MACs blocked, summed |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {op} | {why} | {len(v)} | {sum(v):.2f} |" for (op, why), v in rank]
    return "\n".join(lines)


def environment() -> str:
    """Versions and machine."""
    installed = {found.metadata["Name"].lower() for found in metadata.distributions()}
    parts = [f"{name} {metadata.version(name)}" for name in PACKAGES if name in installed]
    return ", ".join([f"python {platform.python_version()}", *parts, f"{os.cpu_count()} cores"])


def steps_for(entry: Entry, peers: bool, plant: bool) -> list[str]:
    """What to run on a model after it is built."""
    steps = ["prune"]
    if plant:
        steps.append("planted")
    if peers:
        steps.append("onnxsim")
        if entry.make is not None:
            steps.append("torch-pruning")
    return steps


def measure(entry: Entry, steps: Iterable[str], cache: Path) -> dict[str, Any]:
    """All results on one model."""
    found: dict[str, Any] = {"family": entry.family, "origin": entry.origin}
    if not (cache / f"{entry.name}.onnx").exists():
        found["build"] = run_step("build", entry.name, cache)
        if "failed" in found["build"]:
            return found
    for step in steps:
        found[step] = run_step(step, entry.name, cache)
    return found


def default_cache() -> Path:
    """A folder that outlives the run."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "onnxprune" / "corpus"


def calibrated_files(
    entries: Mapping[str, Entry], cache: Path, given: Sequence[Path]
) -> dict[str, Callable[[], Path]]:
    """Models by name, small files first: functions that give the file, built where it is missing.

    What is not built yet comes last.
    """

    def built(name: str) -> Path:
        path = cache / f"{name}.onnx"
        if not path.exists():
            run_step("build", name, cache)
        return path

    places = {name: cache / f"{name}.onnx" for name in entries}
    files: dict[str, Callable[[], Path]] = {name: partial(built, name) for name in entries}
    for name, path in calibrated.model_files(given).items():
        places[name] = path
        files[name] = partial(Path, path)

    def size(name: str) -> int:
        return places[name].stat().st_size if places[name].exists() else sys.maxsize

    return {name: files[name] for name in sorted(files, key=size)}


def stream_runs(files: Mapping[str, Callable[[], Path]], json_file: Path | None) -> None:
    """Cut the width that normalisations see to half in every model, and print what came of it."""
    results: Results = {}
    for number, (name, file) in enumerate(files.items(), 1):
        print(f"[{number}/{len(files)}] {name} ...", file=sys.stderr, flush=True)
        results[name] = limited_run("coverage_streams.py", [str(file())], SECONDS["streams"])
        if json_file:
            content = {"environment": environment(), "models": results}
            json_file.write_text(json.dumps(content, indent=1) + "\n")
    click.echo(streams.markdown(results) + "\n")
    click.echo(streams.summary(results) + "\n")
    click.echo(environment())


def calibrated_runs(
    files: Mapping[str, Callable[[], Path]], modes: str, json_file: Path | None, seconds: int | None
) -> None:
    """Run the calibrated modes on the corpus and on files, and print what they reached."""
    results = calibrated.sweep(files, calibrated.modes_of(modes), json_file, seconds)
    click.echo(calibrated.markdown(results) + "\n")
    click.echo(calibrated.reasons(results) + "\n")
    click.echo(calibrated.summary(results) + "\n")
    click.echo(environment())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Regular expression that names must contain.")
@click.option("--list", "listing", is_flag=True, help="Print the models and stop.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the built models.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
@click.option("--peers/--no-peers", default=False, help="Run onnxsim and Torch-Pruning, too.")
@click.option("--planted/--no-planted", "plant", default=False, help="Plant dead channels, too.")
@click.option("--calibrated", "modes", default="", help="In place of all that: calibrated modes.")
@click.option("--streams", "halve", is_flag=True, help="In place of that: halve hidden sizes.")
@click.option("--seconds", type=int, help="That a calibrated run may take; longer: not run.")
@click.option("--corpus/--no-corpus", default=True, help="Whether to run on the corpus.")
@click.option("--files", multiple=True, type=click.Path(path_type=Path), help="Further models.")
def main(only: str, listing: bool, cache: Path | None,  # noqa: PLR0913
         json_file: Path | None, peers: bool,
         plant: bool, modes: str, halve: bool, seconds: int | None, corpus: bool,
         files: tuple[Path, ...]) -> None:  # fmt: skip
    """Prune every model of the corpus and print a table."""
    every = load_entries() if corpus else {}
    entries = {k: e for k, e in every.items() if re.search(only, k)}
    if listing:
        for entry in entries.values():
            click.echo(f"{entry.name:34} {entry.family:18} {entry.origin}")
        click.echo(f"{len(entries)} models")
        return
    folder = (cache or default_cache()).resolve()
    if halve:
        stream_runs(calibrated_files(entries, folder, files), json_file)
        return
    if modes:
        calibrated_runs(calibrated_files(entries, folder, files), modes, json_file, seconds)
        return
    results: Results = {}
    for number, (name, entry) in enumerate(entries.items(), 1):
        print(f"[{number}/{len(entries)}] {name} ...", file=sys.stderr, flush=True)
        results[name] = measure(entry, steps_for(entry, peers, plant), folder)
        if json_file:
            content = {"environment": environment(), "models": results}
            json_file.write_text(json.dumps(content, indent=1) + "\n")
    columns = [*(["planted"] if plant else []), *(["onnxsim", "torch-pruning"] if peers else [])]
    click.echo(markdown(results, columns) + "\n")
    click.echo(summary(results) + "\n")
    click.echo(obstacles(results) + "\n")
    click.echo(environment())


if __name__ == "__main__":
    main()
