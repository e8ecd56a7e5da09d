"""Blocks of kernels: fitted to times, kept for a machine, known where times say nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxprune.allocation.latency import kernel_blocks as blocks
from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.kernel_blocks import WIDTHS, Blocks, fitting_block, kernel_blocks
from onnxprune.errors import InputError
from onnxprune.ir import runtime
from onnxprune.ir.runtime import Device
from onnxprune.ir.stopwatch import Stopwatch

#: What other tests replace.
MEASURED = blocks._measured


def stairs(block: int) -> list[float]:
    return [0.3 + 0.7 * np.ceil(width / block) * block / 64 for width in WIDTHS]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """The times that all comparisons give, in place of measured ones."""
    times = stairs(16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(blocks, "_measured", MEASURED)
    monkeypatch.setattr(timer, "timed", lambda _base, _jobs, _device: times[:-1])
    return times


@pytest.mark.parametrize("block", [1, 8, 16, 32])
def test_the_block_is_that_of_the_steps_whatever_the_noise(block: int):
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(0, 1, len(WIDTHS))
        assert fitting_block(WIDTHS, stairs(block) + 0.003 * noise) == block
        assert fitting_block(WIDTHS, stairs(block) + 0.01 * noise) in (block, None)


def test_times_that_say_nothing_give_no_block():
    rng = np.random.default_rng(0)
    noise = (1 + rng.normal(0, 0.01, len(WIDTHS)) for _ in range(50))
    assert all(fitting_block(WIDTHS, times) is None for times in noise)
    assert fitting_block(WIDTHS, np.ones(len(WIDTHS))) is None


@pytest.mark.parametrize(("flags", "block"), [("avx2 avx512f", 16), ("avx2", 8)])
def test_the_instruction_set_decides_where_times_do_not(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, flags: str, block: int
):
    clock[:] = [1.0] * len(WIDTHS)
    monkeypatch.setattr(blocks, "_flags", lambda: flags)
    source = "instruction set for convolution and product"
    assert kernel_blocks(Stopwatch()) == Blocks(block, block, source)


def test_what_does_not_run_is_no_failure(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> list[float]:
        raise InputError("no such provider")

    monkeypatch.setattr(timer, "timed", refused)
    assert "instruction set" in kernel_blocks(Stopwatch()).source


def test_blocks_are_measured_once_for_a_machine(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert kernel_blocks(Stopwatch()) == Blocks(16, 16, "measured")
    clock[:] = stairs(8)
    assert kernel_blocks(Stopwatch(Device(threads=2))).convolution == 16
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "processor", lambda: "another")
        assert kernel_blocks(Stopwatch()).convolution == 8
    assert len(list(tmp_path.glob("onnxprune/blocks-*.json"))) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"blocks": 1}', '{"blocks": {"product": 3}}'])
def test_a_damaged_file_is_written_anew(clock: list[float], tmp_path: Path, content: str):
    kernel_blocks(Stopwatch())
    (path,) = tmp_path.glob("onnxprune/blocks-*.json")
    path.write_text(content)
    clock[:] = stairs(8)
    assert kernel_blocks(Stopwatch()).convolution == 8
    assert json.loads(path.read_text())["blocks"]["convolution"] == 8


def test_the_first_of_two_processes_counts(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    measured: Callable[[Stopwatch], Blocks] = blocks._measured

    def slowly(watch: Stopwatch) -> Blocks:
        monkeypatch.setattr(blocks, "_measured", measured)
        assert kernel_blocks(watch).convolution == 16  # another process ends first
        return Blocks(8, 8, "measured")

    monkeypatch.setattr(blocks, "_measured", slowly)
    assert kernel_blocks(Stopwatch()).convolution == 16


def test_a_folder_that_cannot_be_written_only_costs_time(clock: list[float], tmp_path: Path):
    (tmp_path / "onnxprune").write_text("")
    assert kernel_blocks(Stopwatch()) == Blocks(16, 16, "measured")


def test_what_is_timed_runs():
    for jobs in (blocks._convolutions(), blocks._products()):
        assert len(jobs) == len(WIDTHS)
        for job in (jobs[0], jobs[-1]):
            assert runtime.run(runtime.open_session(job.model), job.feeds)
