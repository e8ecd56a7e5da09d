"""Give thousands of mutated files to every command, and judge what each one does.

Usage: `python tools/fuzz.py --files 10000`. Real models, and the samples, plans, recipes, rules and
caches beside them, are damaged in one or two ways each; a case is known by its number. Each runs in
a process of its own, with 8 GB of addresses and 60 seconds. An answer is good if the file was
refused in one line that names the place and says what to do, with exit code 2 or 3, or if what was
written runs in onnxruntime. Everything else is counted, grouped by its place, and the smallest file
of each group is kept. `--case 17` runs one case again, shows it, and keeps its folder.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import click

# numpy's threads would neither survive a fork nor be of use to small models
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import fuzz_output
from fuzz_cases import KINDS, Case, case
from fuzz_process import BAD, Verdict, limited, run_command, smallest, verdict
from fuzz_seeds import ROOT, Seed, seeds

__all__ = ["Found", "main", "run_cases"]


Look: TypeAlias = Callable[["Found", int, "Verdict", Path], None]


@dataclass
class Found:
    """Verdicts so far; `groups` holds the numbers of cases by verdict and place."""

    counts: Counter[str] = field(default_factory=Counter)
    groups: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)

    def take(self, number: int, seen: Verdict) -> None:
        """Count a verdict."""
        self.counts[seen.what] += 1
        self.slowest = max(self.slowest, (seen.seconds, number))
        self.largest = max(self.largest, (seen.megabytes, number))
        if seen.what in BAD:
            self.groups.setdefault((seen.what, seen.place), []).append(number)

    def report(self, seconds: float) -> str:
        """The counts as text, then what was found."""
        files = self.counts.total()
        lines = [f"files       {files}, {len(KINDS)} kinds of mutation"]
        lines += [f"{what:<16}{self.counts[what]}" for what in ("done", "refused", *BAD)]
        lines.append(f"seconds     {seconds:.0f}, {seconds / max(files, 1):.2f} a file")
        lines.append(f"slowest     {self.slowest[0]:.1f} s (case {self.slowest[1]})")
        lines.append(f"largest     {self.largest[0]} MB (case {self.largest[1]})")
        for (what, place), numbers in sorted(self.groups.items(), key=lambda g: -len(g[1])):
            lines.append(f"\n{len(numbers)} × {what}: {place}\n    cases {numbers[:8]}")
        return "\n".join(lines)


def _work(number: int, drawn: str, known: list[Seed]) -> dict[str, Any]:
    """Make and run a case in the folder of this process; for a child."""
    made = case(number, drawn, known, run_command)
    skipped = len(Path("log/err").read_bytes())
    before = [path.name for path in Path().iterdir()]
    Path("log/case.txt").write_text(f"{made.kind} ({made.detail}) of {made.seed}\n{_line(made)}\n")
    code = run_command(made.args)
    sys.stderr.flush()
    gc.collect()  # what a process gives back as it ends by itself
    error = Path("log/err").read_bytes()[skipped:].decode(errors="replace")
    unusable = fuzz_output.unusable(made.args) if code in (0, 4) else fuzz_output.torn()
    return {
        "code": code,
        "error": error,
        "args": made.args,
        "before": before,
        "detail": f"{made.kind} ({made.detail}): {made.args[0]}",
        "unusable": unusable,
    }


def _line(made: Case) -> str:
    return f"onnxprune {' '.join(made.args)}"


def run_cases(numbers: range, drawn: str, few: bool = False, look: Look | None = None) -> Found:
    """Run cases one after the other, each in a process of its own.

    Args:
        numbers: of the cases.
        drawn: what their choices are drawn from.
        few: mutate few small models.
        look: is shown each folder and verdict.
    """
    from onnxprune import cli_measure  # once, for all children
    from onnxprune.pipeline.bench import bench

    # what a good model takes is of no interest here, that it can be timed is
    vars(cli_measure).update(run_bench=partial(bench, seconds=0.05))
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        base = Path(name)
        (base / "seeds").mkdir()
        known = _in_child(base / "seeds", few)
        for number in numbers:
            folder = base / "case"
            folder.mkdir()
            ended = limited(folder, lambda n=number: _work(n, drawn, known))  # type: ignore[misc]
            seen = verdict(folder, *ended)
            found.take(number, seen)
            if look is not None:
                look(found, number, seen, folder)
            shutil.rmtree(folder)
    return found


def _in_child(folder: Path, few: bool) -> list[Seed]:
    """Models made by another process: one that has used onnxruntime cannot be forked safely."""
    import pickle

    child = os.fork()
    if not child:
        try:
            (folder / "seeds.pickle").write_bytes(pickle.dumps(seeds(folder, few)))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the models to mutate could not be made")
    found: list[Seed] = pickle.loads((folder / "seeds.pickle").read_bytes())
    return found


class _Keeper:
    """Keeps the smallest case of each group, and what was found when the user stops."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.found = Found()
        self.sizes: dict[tuple[str, str], int] = {}

    def __call__(self, found: Found, number: int, seen: Verdict, folder: Path) -> None:
        """Look at a case that has ended."""
        self.found = found
        if sys.stderr.isatty():
            print(f"\r{found.counts.total()} {dict(found.counts)}", end="", file=sys.stderr)
        key, size = (seen.what, seen.place), smallest(folder)
        if self.folder is None or seen.what not in BAD or size >= self.sizes.get(key, sys.maxsize):
            return
        self.sizes[key] = size
        place = self.folder / f"{seen.what.replace(' ', '-')}-{found.groups[key][0]}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("home", "temporary"))


def _show(_found: Found, _number: int, seen: Verdict, folder: Path) -> None:
    """All that there is to see of a case."""
    text = folder / "log/case.txt"
    print(text.read_text() if text.exists() else "the case could not be made")
    print((folder / "log/out").read_text(errors="replace")[-3000:])
    print((folder / "log/err").read_text(errors="replace")[-6000:])
    print(seen)


@click.command()
@click.option("--files", default=1000, type=click.IntRange(1), show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--seed", "drawn", default="0", show_default=True, help="Other seeds, other files.")
@click.option("--case", "one", type=int, help="Run this case only, and show it.")
@click.option("--few", is_flag=True, help="Few small models, as in the short test.")
@click.option("--keep", metavar="FOLDER", help="Where the smallest case of each kind goes.")
def main(files: int, first: int, drawn: str, **options: Any) -> None:
    """Mutate files, run commands on them, and judge the answers."""
    one, keep = options["one"], Path(options["keep"]) if options["keep"] else None
    numbers = range(first, first + files) if one is None else range(one, one + 1)
    start, keeper, found = monotonic(), _Keeper(keep), None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = run_cases(numbers, drawn, options["few"], keeper if one is None else _show)
    except KeyboardInterrupt:
        print("stopped")
    found = found or keeper.found
    print(found.report(monotonic() - start))
    sys.exit(bool(found.groups))


assert ROOT
if __name__ == "__main__":
    main()
