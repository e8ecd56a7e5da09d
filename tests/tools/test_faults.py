"""Short versions of `tools/faults.py`: killed, on a full disk, with one cache, again and again."""

import os
import subprocess
import sys

import pytest
from paths import TOOLS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="faults need processes that fork")


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["kill", "--moments", "6", "--only", "external data|^apply|cache"], 3),
        (["disk", "--sizes", "2", "--only", "external data"], 2),
        (["cache", "--rounds", "1", "--only", "steps"], 2),
        (["repeat", "--times", "16", "--warm", "16"], 3),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_nothing_is_lost_torn_or_left(words: list[str], rows: int):
    command = [sys.executable, str(TOOLS / "faults.py"), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) > rows
