"""The check in a browser: it finds what is wrong with a page, where there is a browser."""

import sys
from pathlib import Path

import pytest
from pages import VALUES, about
from paths import TOOLS

from onnxprune.report.html.page import page

sys.path.insert(0, str(TOOLS))

import html_check

BROWSER = html_check.found_browser()
GOOD = page(VALUES["prune"], about())
FAULTS = {
    "wide": ("<main>", "<main><p style='width:3000px'>x</p>", "the page is"),
    "request": ("<main>", "<main><img src='other.png'>", "request: file:"),
    "text": ("<main>", "<main><svg><text x='-99'>far</text></svg>", "text 'far' lies outside"),
}


def test_without_a_browser_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(html_check, "found_browser", lambda _named: None)
    assert html_check.main([str(tmp_path / "page.html")]) == 0
    told = capsys.readouterr().out
    assert "not checked: no browser was found" in told and "kB, written in" in told


def test_the_size_of_something_else() -> None:
    assert html_check.cost(Path(__file__)) == "no page of onnxprune"


@pytest.mark.skipif(BROWSER is None, reason="no browser: name a Chromium in CHROME")
def test_a_good_page_and_pages_with_a_fault(tmp_path: Path) -> None:
    assert BROWSER is not None
    with html_check.opened(BROWSER) as browser:
        for name, (old, new, fault) in {"good": ("", "", ""), **FAULTS}.items():
            path = tmp_path / f"{name}.html"
            text = GOOD.replace(old, new, 1) if old else GOOD
            open_policy = text.replace("img-src data:", "img-src * data: file:")
            path.write_text(open_policy if old else text, encoding="utf-8")
            seen = html_check.look(browser, path, 400)
            assert seen.picture.startswith(b"\x89PNG")
            assert any(fault in one for one in seen.faults) if fault else not seen.faults, name
