from pathlib import Path

import pytest
from clock import Clock

from onnxprune.allocation.latency import timer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """Instead of running models: what a made-up clock says."""
    made = Clock()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(timer, "timed", made.timed)
    monkeypatch.setattr(timer, "ratio", made.ratio)
    return made
