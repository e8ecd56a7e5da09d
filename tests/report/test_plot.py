"""Images by matplotlib, where it is installed."""

import sys
from pathlib import Path

import pytest

from onnxprune import InputError
from onnxprune.report.plot import colors, drawn


def test_an_image_is_written_when_the_block_ends(tmp_path: Path):
    pytest.importorskip("matplotlib")
    with drawn(tmp_path / "a.png", (2, 1)) as axes:
        for color in colors(3):
            axes.plot([0, 1], [1, 0], color=color)
        assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(set(colors(3))) == 3


def test_a_path_that_cannot_be_drawn_to(tmp_path: Path):
    pytest.importorskip("matplotlib")
    expected = pytest.raises(InputError, match=r"a\.nothing: cannot be drawn")
    with expected, drawn(tmp_path / "a.nothing", (2, 1)):
        pass


def test_a_missing_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    expected = pytest.raises(InputError, match=r"pip install 'onnxprune\[plot\]'")
    with expected, drawn("a.png", (2, 1)):
        pass


def test_sizes_are_inches_and_an_error_while_drawing_writes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with drawn(tmp_path / "a.png", (2, 1)):
        pass
    head = (tmp_path / "a.png").read_bytes()[16:24]
    assert [int.from_bytes(head[k : k + 4], "big") for k in (0, 4)] == [300, 150]
    with pytest.raises(RuntimeError, match="no data"), drawn(tmp_path / "b.png", (2, 1)):
        raise RuntimeError("no data")
    assert not (tmp_path / "b.png").exists()
