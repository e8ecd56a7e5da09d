"""Pictures by matplotlib, where it is there."""

import sys
from pathlib import Path

import pytest

from onnxprune.errors import InputError
from onnxprune.report.plot import colors, drawn


def test_the_file_is_written_in_the_end(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    with drawn(path, (2, 1)) as axes:
        axes.plot([0, 1], [1, 0], color=colors(1)[0])
        assert not path.exists()
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    size = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    assert size == (300, 150)  # 2 x 1 inches at 150 dots each


def test_an_error_while_drawing_writes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    with pytest.raises(RuntimeError, match="no data"), drawn(path, (2, 1)):
        raise RuntimeError("no data")
    assert not path.exists()


@pytest.mark.parametrize("name", ["no/such/folder.png", "plot.nothing"])
def test_a_file_that_cannot_be_drawn_is_named(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    with pytest.raises(InputError, match=f"{name}: cannot be drawn: "), drawn(path, (2, 1)):
        pass


def test_colours_go_from_dark_to_light() -> None:
    pytest.importorskip("matplotlib")
    assert len(colors(5)) == 5 and len(set(colors(5))) == 5 and len(colors(1)) == 1
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in colors(5)]
    assert light == sorted(light)


def test_without_matplotlib_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with (
        pytest.raises(InputError, match=r"plots need matplotlib: pip install 'onnxprune\[plot\]'"),
        drawn(tmp_path / "plot.png", (2, 1)),
    ):
        pass
