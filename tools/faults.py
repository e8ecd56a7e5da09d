"""Break runs on purpose: killed, without disk, without memory, many at once, a thousand in a row.

Usage: `python tools/faults.py kill --moments 1000`, and `disk`, `cache`, `memory`, `repeat`. Each
prints a table and exits with 1 if something was lost, torn, left behind or told badly. They need
a system with `fork`; `disk` mounts small file systems where it may.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

import fault_runs as runs
from fault_runs import COMMANDS, DIGITS, HUNGRY, NEW, OLD, RECIPE, Command

import onnxprune

MIB = 2**20


@click.group()
def faults() -> None:
    """Break runs on purpose, and see what is left."""


class Template:
    """A folder with old outputs, and what the command makes of it when nothing goes wrong."""

    def __init__(self, home: Path, command: Command) -> None:
        self.command, self.folder = command, home / "template"
        runs.prepared(self.folder)
        ended = runs.forked(self.folder, command.at(self.folder, OLD))
        assert ended.code == 0, ended.text
        self.old = runs.outputs(self.folder)
        self.work = home / "work"
        runs.fresh(self.work, self.folder)
        self.calm = runs.forked(self.work, self.words(), lambda: runs.counting(self.work))
        assert self.calm.code == 0, self.calm.text
        self.new = runs.outputs(self.work)
        self.pages = _pages(self.work / "out")
        assert self.new.keys() == self.old.keys() and self.new["o.onnx"] != self.old["o.onnx"]

    def words(self) -> list[str]:
        """The command on the working folder."""
        return self.command.at(self.work, NEW)

    def fresh(self) -> Path:
        """The working folder as it was before."""
        return runs.fresh(self.work, self.folder)

    def faults(self, finished: bool) -> list[str]:
        """What is wrong with the outputs: each must be old or new, and new after the end."""
        found = runs.outputs(self.work)
        wrong = [f"{name} is missing" for name in self.old if name not in found]
        for name, digest in found.items():
            allowed = [self.new[name]] if finished else [self.old[name], self.new[name]]
            if digest not in allowed:
                wrong.append(f"{name} is {digest if 'torn' in digest else 'neither old nor new'}")
        return wrong


only = click.option("--only", default="", metavar="REGEX", help="Such commands.")


def _chosen(pattern: str) -> list[Command]:
    return [command for command in COMMANDS if re.search(pattern, command.name)]


@contextmanager
def _templates(commands: Sequence[Command]) -> Iterator[Iterator[Template]]:
    """A template of every command, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        yield (Template(home / str(number), command) for number, command in enumerate(commands))


def _finish(problems: Counter[str]) -> None:
    for text, count in problems.most_common():
        print(f"{count} times: {text}")
    sys.exit(bool(problems))


@faults.command()
@click.option("--moments", default=1000, show_default=True, help="In all, over all commands.")
@click.option("--seed", default=0, show_default=True)
@only
def kill(moments: int, seed: int, only: str) -> None:
    """Kill runs at random moments, half of them at one of their writes."""
    rng, problems, commands = random.Random(seed), Counter[str](), _chosen(only)
    print(f"{'command':22}{'moments':>8}{'old':>6}{'new':>6}{'torn':>6}{'left':>6}{'litter':>8}")
    with _templates(commands) as templates:
        for template in templates:
            row = Counter[str]()
            for _ in range(-(-moments // len(commands))):
                for problem in _killed(template, rng, row):
                    problems[f"{template.command.name}: {problem}"] += 1
            shown = "".join(f"{row[k]:>6}" for k in ("old", "new", "torn", "left"))
            print(f"{template.command.name:22}{row['moments']:>8}{shown}{row['litter']:>8}")
    print("left: temporary files after the signal; litter: those after the next run")
    _finish(problems)


def _killed(template: Template, rng: random.Random, row: Counter[str]) -> list[str]:
    """Kill one run, look at what is left, and run again to the end."""
    folder = template.fresh()
    number = rng.choice([signal.SIGKILL] * 8 + [signal.SIGINT, signal.SIGTERM])
    if rng.random() < 0.5:
        event = rng.randrange(template.calm.events)
        before = runs.at_event(folder, event, lambda: os.kill(os.getpid(), number))
        ended = runs.forked(folder, template.words(), before)
    else:
        moment = rng.uniform(0, template.calm.seconds)
        ended = runs.forked(folder, template.words(), kill=(moment, number))
    wrong = template.faults(finished=ended.code == 0)
    row["moments"] += 1
    row["torn"] += bool(wrong)
    row["new" if not template.faults(finished=True) else "old"] += not wrong
    row["left"] += bool(runs.litter(folder))
    if number != signal.SIGKILL and ended.code not in (0, 128 + number, -number):
        wrong.append(f"exit code {ended.code} after {number.name}: {ended.text[:200]}")
    again = runs.forked(folder, template.words())
    if again.code != 0:
        wrong.append(f"the next run fails: {again.text[-200:]}")
    wrong += [f"after the next run {text}" for text in template.faults(finished=True)]
    rest = runs.litter(folder)
    row["litter"] += bool(rest)
    return wrong + [f"{text} is left behind" for text in rest]


@faults.command()
@click.option("--sizes", default=40, show_default=True, help="Sizes of the small disk to try.")
@only
def disk(sizes: int, only: str) -> None:
    """Let every write fail in turn, then fill a small disk, then take the right to write."""
    problems = Counter[str]()
    print(f"{'command':22}{'fault':16}{'tried':>6}{'told':>6}{'no matter':>10}{'wrong':>7}")
    with _templates(_chosen(only)) as templates:
        for template in templates:
            for fault, tries in (
                ("every write", _failing_writes(template)),
                ("full disk", _full_disks(template, sizes)),
                ("read-only", _read_only(template)),
            ):
                row = Counter[str]()
                for what, ended in tries:
                    row["tried"] += 1
                    wrong = _badly_told(template, ended, fault == "full disk")
                    row["told"] += ended.told()
                    row["fine"] += ended.code == 0
                    row["wrong"] += bool(wrong)
                    for text in wrong:
                        problems[f"{template.command.name}, {fault}, {what}: {text}"] += 1
                shown = f"{row['tried']:>6}{row['told']:>6}{row['fine']:>10}{row['wrong']:>7}"
                print(f"{template.command.name:22}{fault:16}{shown}")
    _finish(problems)


def _badly_told(template: Template, ended: runs.Ended, filled: bool) -> list[str]:
    """What is wrong with how a run ended that could not write something."""
    wrong = [] if filled else template.faults(finished=ended.code == 0)
    if ended.code not in (0, 2) or (ended.code == 2 and not ended.told()):
        wrong.append(f"exit code {ended.code}: {ended.text[-300:]}")
    left = [] if filled else runs.litter(template.work)
    return wrong + [f"{name} is left" for name in left]


def _failing_writes(template: Template) -> Iterator[tuple[str, runs.Ended]]:
    """One write after the other fails: the disk is full at that moment."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number in range(template.calm.events):
        folder = template.fresh()
        before = runs.at_event(folder, number, fail)
        yield f"write {number}", runs.forked(folder, template.words(), before)


def _full_disks(template: Template, sizes: int) -> Iterator[tuple[str, runs.Ended]]:
    """A disk of a fixed size, from too small for anything up to twice what the results take."""
    for number in range(sizes):
        folder = template.fresh()
        used = _pages(folder / "out") + _pages(folder / "tmp")
        pages = used + 2 * number * template.pages // max(sizes - 1, 1)
        with _mounted(folder, f"size={pages * 4096}") as done:
            if not done:
                return
            yield f"{pages} pages", runs.forked(folder, template.words())
            found = runs.outputs(folder)
            for name, digest in template.old.items():
                if found.get(name) not in (digest, template.new[name]):
                    yield f"{pages} pages, {name} lost", runs.Ended(-1, str(found.get(name)), 0)


def _pages(folder: Path) -> int:
    """How much a folder takes of a disk, with room for its own entries."""
    return 2 + sum(-(-path.stat().st_size // 4096) for path in folder.rglob("*"))


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """`out` and `tmp` on a disk of their own, with what was in them; False if that is not ours."""
    place, kept = folder / "disk", folder / "kept"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        kept.mkdir()
        for name in ("out", "tmp"):
            subprocess.run(["cp", "-r", str(folder / name), str(place)], check=True)
            os.replace(folder / name, kept / name)
            (folder / name).symlink_to(place / name)
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _read_only(template: Template) -> Iterator[tuple[str, runs.Ended]]:
    """The folder of outputs, then the one for temporary files cannot be written to."""
    for name in ("out", "tmp"):
        folder = template.fresh()
        place = str(folder / name)
        if os.geteuid() != 0:
            os.chmod(place, 0o555)
            yield name, runs.forked(folder, template.words())
            os.chmod(place, 0o755)
        elif not subprocess.run(["mount", "--bind", place, place], capture_output=True).returncode:
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
            yield name, runs.forked(folder, template.words())
            subprocess.run(["umount", "-l", place], check=True)


@faults.command()
@click.option("--rounds", default=10, show_default=True)
@only
def cache(rounds: int, only: str) -> None:
    """Let two and four processes work on one cache at the same time."""
    problems = Counter[str]()
    print(f"{'command':22}{'processes':>10}{'rounds':>8}{'lost':>6}{'unequal':>9}")
    with tempfile.TemporaryDirectory() as name:
        for command in (c for c in _chosen(only) if {"--cache", "--finished"} & {*c.words}):
            for count in (2, 4):
                row = Counter[str]()
                for number in range(rounds):
                    home = Path(name) / f"{command.name}{count}-{number}".replace(" ", "")
                    problems.update(_together(home, command, count, row))
                shown = f"{count:>10}{rounds:>8}{row['lost']:>6}{row['unequal']:>9}"
                print(f"{command.name:22}{shown}")
    _finish(problems)


def _together(home: Path, command: Command, count: int, row: Counter[str]) -> list[str]:
    """Start processes with targets of their own at one moment; then look for what each has kept."""
    targets = [0.9, 0.7, 0.8, 0.6][:count]
    folders = []
    for target in targets:
        folder = home / str(target)
        runs.prepared(folder)
        (folder / f"in/{target}.toml").write_text(RECIPE.replace("TARGET", str(target)))
        folders.append(folder)
    shared = home / "shared"
    shared.mkdir()
    where = {"OUT/cache.json": f"{shared}/cache.json", "OUT/done": f"{shared}/done"}
    alone = [_output(f, command.at(f, t)) for f, t in zip(folders, targets, strict=True)]
    common = Command(command.name, tuple(where.get(word, word) for word in command.words))
    pids = []
    for folder, target in zip(folders, targets, strict=True):
        pid = os.fork()
        if pid == 0:
            ended = runs.forked(folder, common.at(folder, target))
            os._exit(0 if ended.code == 0 else 1)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    wrong = [f"{command.name}: a process ends with {code}" for code in codes if code]
    for folder, target, expected in zip(folders, targets, alone, strict=True):
        if runs.outputs(folder)["o.onnx"] != expected:
            row["unequal"] += 1
            wrong.append(f"{command.name}: a result differs from that of a process alone")
        entries = sorted(path.name for path in shared.rglob("*.json"))
        again = _output(folder, common.at(folder, target))
        text = (folder / "out/r.json").read_text()
        known = '"resumed": true' in text or "finished steps were taken" in text
        if not known or entries != sorted(path.name for path in shared.rglob("*.json")):
            row["lost"] += 1
            wrong.append(f"{command.name}: an entry of the cache is lost")
        if again != expected:
            wrong.append(f"{command.name}: a result from the cache differs")
    return wrong


def _output(folder: Path, words: list[str]) -> str:
    ended = runs.forked(folder, words)
    assert ended.code == 0, ended.text
    return runs.outputs(folder)["o.onnx"]


@faults.command()
@click.option("--limits", default=24, show_default=True, help="Limits to try for each command.")
@only
def memory(limits: int, only: str) -> None:
    """Give runs less and less memory."""
    problems = Counter[str]()
    print(f"{'command':22}{'limits':>8}{'enough':>8}{'told':>6}{'wrong':>7}{'  from MiB':>10}")
    hungry = [command for command in HUNGRY if re.search(only, command.name)]
    with _templates(hungry) as templates:
        for template in templates:
            row, least = Counter[str](), 0
            for extra in np.geomspace(512, 8, limits).round().astype(int).tolist():
                folder = template.fresh()
                ended = runs.forked(folder, template.words(), lambda e=extra: _limit(e))
                wrong = _badly_told(template, ended, False)
                row["told"] += ended.told()
                row["enough"] += ended.code == 0
                least = extra if ended.code == 0 else least
                row["wrong"] += bool(wrong)
                for text in wrong:
                    problems[f"{template.command.name}, {extra} MiB: {text}"] += 1
            shown = f"{limits:>8}{row['enough']:>8}{row['told']:>6}{row['wrong']:>7}{least:>10}"
            print(f"{template.command.name:22}{shown}")
    print("MiB: what a run may take beside the interpreter and its libraries")
    _finish(problems)


def _limit(extra: int) -> None:
    """Let this process take so many MiB more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + extra * MIB
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


@faults.command()
@click.option("--times", default=1000, show_default=True)
@click.option("--warm", default=100, show_default=True, help="Runs before memory is measured.")
@click.option("--seconds", default=float("inf"), help="Stop after so long.")
def repeat(times: int, warm: int, seconds: float) -> None:
    """Prune again and again in one process."""
    jobs = _jobs()
    first: dict[str, bytes] = {}
    problems, seen, start = Counter[str](), list[tuple[int, int]](), perf_counter()
    rng = random.Random(0)
    for number in range(times):
        if perf_counter() - start > seconds and len(seen) >= 10:
            times = number
            break
        name = list(jobs)[number % len(jobs)] if number < len(jobs) else rng.choice(list(jobs))
        made = jobs[name]()
        if first.setdefault(name, made) != made:
            problems[f"run {number}, {name}: other bytes than at first"] += 1
        del made
        if number >= warm - 1:
            gc.collect()
            seen.append((_resident(), len(os.listdir("/proc/self/fd"))))
    tenth = max(len(seen) // 10, 1)
    before, after = (
        float(np.median([m for m, _ in part])) for part in (seen[:tenth], seen[-tenth:])
    )
    growth = after / before - 1
    files = seen[0][1], seen[-1][1]
    print(f"{times} runs of {len(jobs)} kinds in {perf_counter() - start:.0f} s, after {warm}:")
    print(f"memory      {before / MIB:.1f} → {after / MIB:.1f} MiB ({growth:+.1%})")
    print(f"open files  {files[0]} → {files[1]}")
    print(f"unequal     {sum(problems.values())}")
    if growth > 0.05:
        problems[f"memory grew by {growth:.1%}"] += 1
    if files[1] > files[0]:
        problems[f"open files grew from {files[0]} to {files[1]}"] += 1
    _finish(problems)


def _jobs() -> Mapping[str, Callable[[], bytes]]:
    """Kinds of runs by name: models with heads, blocks and none, with samples and without."""
    from networks import NETWORKS, samples_of

    quick: dict[str, Any] = {"latency": False}
    calib: dict[str, Any] = {**quick, "calib_samples": 16, "distill": False}
    digits = str(DIGITS)
    images = str(DIGITS.with_name("digits_calib.npz"))
    residual = NETWORKS["residual_spine"]()
    lstm = NETWORKS["lstm"]()
    heads = NETWORKS["window_attention"]()
    fed = samples_of(residual, np.random.default_rng(0), 16)
    recipe = onnxprune.recipe(
        {
            "stage": [
                {"kind": "prune", "target": {"macs": 0.8}},
                {"kind": "sparsify", "sparsity": 0.5},
            ]
        }
    )

    def prune(model: Any, **options: Any) -> Callable[[], bytes]:
        return lambda: _bytes(onnxprune.prune(model, {"params": 0.7}, **options).model)

    return {
        "digits": prune(digits, **quick),
        "digits, dropping": prune(digits, compensate=False, importance="l2", **quick),
        "residual": prune(residual, **quick),
        "lstm": prune(lstm, **quick),
        "heads": prune(heads, **quick),
        "digits, calibrated": prune(digits, calib=images, **calib),
        "residual, calibrated": prune(residual, calib=fed, **calib),
        "digits, sparse": lambda: _bytes(
            onnxprune.sparsify(digits, pattern="2:4", calib=images, **calib).model
        ),
        "recipe": lambda: _bytes(onnxprune.run(recipe, digits, **quick).model),
        "lossless": lambda: _bytes(onnxprune.prune(digits, lossless=True, **quick).model),
    }


def _bytes(model: Any) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _resident() -> int:
    """Bytes of memory that are this process's own and in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    faults()
