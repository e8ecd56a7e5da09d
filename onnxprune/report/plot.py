"""Draw image files with matplotlib, which is an extra of this package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnxprune.errors import InputError

__all__ = ["colors", "drawn"]


@contextmanager
def drawn(path: str | os.PathLike[str], size: tuple[float, float]) -> Iterator[Any]:
    """Give axes to draw on, and write the file when the block ends.

    Args:
        path: of the image; its suffix says the format.
        size: width and height in inches.

    Raises:
        InputError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib.figure
    except ImportError as error:
        raise InputError(
            "plots need matplotlib: pip install 'onnxprune[plot]', or pip install matplotlib"
        ) from error
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    yield figure.subplots()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{os.fspath(path)}: cannot be drawn: {error}. Name another file."
        ) from error


def colors(count: int) -> list[Any]:
    """`count` colours from dark to light, as matplotlib takes them."""
    from matplotlib import colormaps

    return [colormaps["viridis"](k / max(count - 1, 1)) for k in range(count)]
