import pytest

from onnxprune.allocation import widths
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.compensation.distillation import schedule


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write the golden files anew")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that tests measure are kept away from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calibration samples are not seen hundreds of times."""
    monkeypatch.setattr(schedule, "LIMITS", schedule.Limits(least_steps=32))


@pytest.fixture(autouse=True)
def known_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are the same on every processor."""
    monkeypatch.setattr(widths, "kernel_blocks", lambda _device: Blocks(16, 16))
