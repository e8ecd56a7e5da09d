"""Where the files lie that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
GOLDEN = ROOT / "tests/golden"
TOOLS = ROOT / "tools"
