"""Tasks in other processes: results in order, failures told, lost workers' tasks again."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from onnxprune.errors import InputError
from onnxprune.parallel import tasks as tasks_module
from onnxprune.parallel.tasks import run_tasks


def square(number: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return number * number


def failing(number: int) -> int:
    if number == 2:
        raise InputError("number 2 is not to be had")
    return number


def made_dying() -> Callable[[int, str, int], int]:
    """A function that processes get whole, as they do not find this module."""

    def dying(number: int, folder: str, times: int) -> int:
        """End the process by force the first `times` times that number 1 is asked for."""
        marks = Path(folder)
        if number == 1 and len(list(marks.iterdir())) < times:
            (marks / str(time.time_ns())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return dying


def test_results_keep_the_order_of_the_tasks_and_each_is_told_once():
    told: list[int] = []
    tasks = [(number, 0.05 * (3 - number)) for number in range(4)]
    with joblib.parallel_config("threading"):
        assert run_tasks(square, iter(tasks[:3]), 3, told.append) == [0, 1, 4]
    assert sorted(told) == [0, 1, 2] and told != [0, 1, 2]


def test_no_tasks_have_no_results():
    with joblib.parallel_config("threading"):
        assert run_tasks(square, (), 2) == []


@pytest.mark.parametrize("raises", ["task", "source"])
def test_an_error_of_a_task_or_of_their_source_is_not_taken_for_a_loss(raises: str):
    def source():
        yield (1,)
        yield (2,)
        if raises == "source":
            raise InputError("number 2 is not to be had")

    with (
        joblib.parallel_config("threading"),
        pytest.raises(InputError, match="number 2 is not to be had"),
    ):
        run_tasks(failing if raises == "task" else square, source(), 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that ends a process")
def test_the_tasks_of_a_lost_worker_run_again(tmp_path: Path):
    tasks = [(number, str(tmp_path), 1) for number in range(4)]
    assert run_tasks(made_dying(), tasks, 2) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that ends a process")
def test_workers_that_are_lost_again_and_again_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks_module, "MOST_LOSSES", 0)
    with pytest.raises(InputError, match=r"ended by themselves 1 times.* Run with fewer jobs"):
        run_tasks(made_dying(), [(1, str(tmp_path), 9)], 2)
