"""Build the documentation as a site, or look whether what it links to elsewhere is there.

    python tools/docs_site.py build [FOLDER]     # into build/docs; every warning is an error
    python tools/docs_site.py links              # addresses outside, which needs the network

Needs `pip install -e '.[docs]'`. Pages are those of `docs/`, as they read on a code host, in the
order of `docs/README.md`: each of its headings is a part of the site, and its links are the pages
of that part. They are copied beside those of the repository's root before Sphinx sees them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Pages outside `docs/`, counted from the root, and where they stand in the site.
OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "models/README.md": "project/digits.md",
    "examples/README.md": "examples.md",
}
DECISIONS = """# Decisions

One page for each choice of weight; a change of mind gets a new page.

```{toctree}
:glob:
0*
```
"""
_UNREAD = shutil.ignore_patterns("__pycache__")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<file>[^)#\s]+)(?P<at>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def parts(text: str) -> dict[str, list[str]]:
    """The files that each heading of the front page links to, in order."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = section.partition("\n")
        found[heading.strip()] = [match["file"] for match in _LINK.finditer(rest)]
    return found


def staged_name(path: str) -> str:
    """Where a file, counted from the root, stands in the site."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    inner = path.removeprefix("docs/")
    folder = (ROOT / path).is_dir()
    return {"README.md": "index.md"}.get(inner, f"{inner}/index.md" if folder else inner)


def staged_text(text: str, path: str) -> str:
    """A page's text with links that hold in the site; `path` counts from the root.

    A link to what is no page becomes its text.
    """
    here = Path(path).parent
    depth = len(Path(staged_name(path)).parts) - 1

    def link(match: re.Match[str]) -> str:
        target = (ROOT / here / match["file"]).resolve().relative_to(ROOT).as_posix()
        if target not in OUTSIDE and not target.startswith("docs/"):
            return match["text"]
        return f"[{match['text']}]({'../' * depth}{staged_name(target)}{match['at'] or ''})"

    pieces = _FENCE.split(text)
    return "".join(p if p.startswith("```") else _LINK.sub(link, p) for p in pieces)


def stage(folder: Path) -> None:
    """Copy all pages, pictures and settings into a folder as Sphinx wants them."""
    shutil.copytree(ROOT / "docs", folder, dirs_exist_ok=True, ignore=_UNREAD)
    pages = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    for path in (*pages, *OUTSIDE):
        text = (ROOT / path).read_text(encoding="utf-8")
        staged = staged_text(text, path)
        if path == "docs/README.md":
            staged += "".join(_toctree(name, files) for name, files in parts(staged).items())
            (folder / "README.md").unlink()
        target = folder / staged_name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(staged, encoding="utf-8")
    (folder / "decisions/index.md").write_text(DECISIONS, encoding="utf-8")


def _toctree(caption: str, files: Sequence[str]) -> str:
    """A part of the site's navigation."""
    names = "\n".join(dict.fromkeys(name.removesuffix(".md") for name in files))
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def main(words: Sequence[str]) -> int:
    """The code that Sphinx ends with."""
    if not words or words[0] not in ("build", "links") or len(words) > 2:
        print(__doc__)
        return 2
    out = Path(words[1] if len(words) > 1 else ROOT / "build/docs").resolve()
    builder = {"build": "html", "links": "linkcheck"}[words[0]]
    with tempfile.TemporaryDirectory() as name:
        stage(Path(name))
        how = ["-b", builder, "--fail-on-warning", "--keep-going", "--quiet"]
        command = [sys.executable, "-m", "sphinx", *how, name, str(out)]
        code = subprocess.run(command, cwd=ROOT).returncode
    if not code:
        print(f"{words[0]}: {out / ('index.html' if builder == 'html' else 'output.txt')}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
