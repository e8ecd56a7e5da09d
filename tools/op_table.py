"""Write the table of operators into the README, or with `--check` exit 1 if it is stale."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from onnxprune.ops import COUPLINGS, FAMILIES, MACS, SHRINKS

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- ops -->", "<!-- /ops -->"
HEAD = ("family", "operators with a coupling rule", "shrinks", "counts MACs")


def of_family(table: Mapping[str, object], family: ModuleType) -> list[str]:
    """Operators whose entry in `table` is a function of the module `family`."""
    return sorted(op for op, rule in table.items() if rule.__module__ == family.__name__)


def cells(family: ModuleType) -> tuple[str, ...]:
    """One row of the table."""
    name = family.__name__.rpartition(".")[2]
    about = (family.__doc__ or "").strip().splitlines()[0].rstrip(".")
    lists = (", ".join(of_family(table, family)) for table in (COUPLINGS, SHRINKS, MACS))
    return f"**{name}**: {about}", *(text or "-" for text in lists)


def strays(families: Collection[ModuleType]) -> Iterator[str]:
    """Operators with an entry that no family holds: the table would leave them out."""
    names = {family.__name__ for family in families}
    for table in (COUPLINGS, SHRINKS, MACS):
        yield from (op for op, rule in table.items() if rule.__module__ not in names)


def rendered(readme: str) -> str:
    """`readme` with a fresh table between the markers."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{README.name} lacks the markers {START} and {END}")
    count = f"{len(COUPLINGS)} operators have a coupling rule. All others are frozen."
    rows = [HEAD, ("---",) * len(HEAD), *map(cells, FAMILIES)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{before}{START}\n{count}\n\n{table}\n{END}{after}"


def main() -> int:
    """0 if the README was or is now up to date."""
    if missing := sorted(set(strays(FAMILIES))):
        raise SystemExit(f"rules outside onnxprune.ops.FAMILIES: {', '.join(missing)}")
    old = README.read_text(encoding="utf-8")
    new = rendered(old)
    if "--check" in sys.argv[1:]:
        if old != new:
            print(f"{README.name} is stale: run python tools/op_table.py", file=sys.stderr)
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
