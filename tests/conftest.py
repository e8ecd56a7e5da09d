from collections.abc import Iterator

import pytest

from onnxprune.allocation.latency import kernel_blocks
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.compensation.distillation import schedule
from onnxprune.pipeline import compare


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write the golden files anew")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Times that tests measure are kept away from the user's, from the first fixture on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def same_blocks() -> Iterator[None]:
    """Plans lie on the same blocks whatever processor runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_blocks, "_measured", lambda _device: Blocks(16, 16, "the tests"))
        yield


@pytest.fixture(autouse=True, scope="session")
def no_verdict_of_a_clock() -> Iterator[None]:
    """No plan is made again because the machine was busy: timings of small models are chance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "is_slower", lambda _times: False)
        yield


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calibration samples are not seen hundreds of times."""
    monkeypatch.setattr(schedule, "LIMITS", schedule.Limits(least_steps=32))
