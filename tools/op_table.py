"""Write what is known of operators into the README and docs, or with `--check` exit 1 if stale."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from onnxprune import ops

ROOT = Path(__file__).resolve().parent.parent
README, LIST = ROOT / "README.md", ROOT / "docs" / "operators.md"
START, END = "<!-- ops -->", "<!-- /ops -->"
#: What else is known of an operator, in the words of the list.
FACETS: Mapping[str, Container[str]] = {
    "weight": ops.KERNELS,
    "scale": ops.SCALES,
    "MACs": ops.MACS,
    "rewritten": ops.SHRINKS,
    "sums": ops.SUMS,
    "divides": ops.DIVISORS,
    "integers": ops.QUANTIZED,
    "jumps": ops.JUMPS,
    "function": ops.FUNCTIONS,
    "constants": ops.CONSTANTS,
    "moments": ops.MOMENTS,
    "gradient": ops.GRADIENTS,
}
ABOUT = """\
# Operators

Written by `python tools/op_table.py`. An operator has a rule, which says what may be removed from
its axes (the family is the file in `onnxprune/ops`), or it is frozen for a reason. An operator
that is not in this list is frozen too. Further facts: it holds a *weight* that makes or reads
channels, a *scale* of each channel, its *MACs* are counted, its attributes or shape inputs are
*rewritten*, it *sums* activations, so that the proof sets removed positions to zero there, it
*divides* by an input, its *integers* stand for reals, so that zero is their zero point, its result
*jumps* where its input hardly changes. It is an elementwise *function* of one tensor; it is known
what becomes of channels that always carry one number (*constants*), of means and covariances
(*moments*), and of a *gradient*.
"""


def family(op: str) -> str:
    """Name of the module that holds the operator's rule."""
    return ops.COUPLINGS[op].__module__.rpartition(".")[2]


def table(*rows: tuple[str, ...]) -> str:
    """Rows as markdown; the first is the head."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def summary() -> str:
    """What the README says: how many operators are known."""
    count = (
        f"{len(ops.COUPLINGS)} operators have a rule, {len(ops.BARRIERS)} stay whole\n"
        "for a reason, and so does any other: [docs/operators.md](docs/operators.md) lists them."
    )
    return f"{START}\n{count}\n{END}"


def families() -> str:
    """What every family is about, and how many operators it has."""

    def row(module: ModuleType) -> tuple[str, str, str]:
        name = module.__name__.rpartition(".")[2]
        about = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
        return f"**{name}**", about, str(sum(family(op) == name for op in ops.COUPLINGS))

    return table(("family", "operators", "rules"), *map(row, ops.FAMILIES))


def listing() -> str:
    """Every operator that is known, by domain and name."""

    def row(op: str) -> tuple[str, ...]:
        domain, _, name = op.rpartition(":")
        rule = f"frozen: {ops.BARRIERS[op]}" if op in ops.BARRIERS else family(op)
        facets = ", ".join(facet for facet, known in FACETS.items() if op in known)
        return name, domain or "ai.onnx", rule, facets

    known = sorted((*ops.COUPLINGS, *ops.BARRIERS), key=lambda op: op.rpartition(":")[::2])
    rows = [("operator", "domain", "rule family, or why not", "further facts"), *map(row, known)]
    return f"{ABOUT}\n{families()}\n\n{table(*rows)}\n"


def strays() -> Iterator[str]:
    """Operators with a rule that no family holds: the summary would leave them out."""
    names = {module.__name__ for module in ops.FAMILIES}
    yield from (op for op, rule in ops.COUPLINGS.items() if rule.__module__ not in names)


def rendered(readme: str) -> str:
    """`readme` with a fresh summary between the markers."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{README.name} lacks the markers {START} and {END}")
    return f"{before}{summary()}{after}"


def main() -> int:
    """0 if the files were or are now up to date."""
    if missing := sorted(set(strays())):
        raise SystemExit(f"rules outside onnxprune.ops.FAMILIES: {', '.join(missing)}")
    fresh = {README: rendered(README.read_text(encoding="utf-8")), LIST: listing()}
    if "--check" not in sys.argv[1:]:
        for path, text in fresh.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [
        path.name
        for path, text in fresh.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if stale:
        print(f"{' and '.join(stale)}: stale, run python tools/op_table.py", file=sys.stderr)
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
