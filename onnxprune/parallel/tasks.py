"""Run independent tasks through joblib: in processes on this machine, or where its backend says.

A task is a function of a module and small arguments, among them paths of files with the arrays it
needs; its result depends on nothing else, so that tasks may run anywhere, in any order, and again
where a worker is lost. Whoever has a cluster chooses it as joblib does:

    with joblib.parallel_config("dask"):
        onnxprune.prune(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, TypeVar

from onnxprune.errors import InputError

__all__ = ["MOST_LOSSES", "run_tasks"]

T = TypeVar("T")
#: Arguments of one task.
Task: TypeAlias = Sequence[Any]
#: How often workers may be lost before a run ends.
MOST_LOSSES = 3


def run_tasks(
    function: Callable[..., T],
    tasks: Iterable[Task],
    jobs: int,
    done: Callable[[int], None] = lambda number: None,
) -> list[T]:
    """Run a function on every task, in up to `jobs` processes at once.

    Tasks are taken one after the other while earlier ones run, so that making them takes part of
    the time. Where a worker is lost, the tasks without a result run again.

    Args:
        function: of a module that the workers can import.
        tasks: arguments of each call.
        jobs: how many run at once.
        done: is told the number of every task that has a result.

    Returns:
        The results, in the order of the tasks.

    Raises:
        InputError: workers were lost more often than `MOST_LOSSES`.
    """
    results: dict[int, T] = {}
    open_tasks: dict[int, Task] = {}
    rest = enumerate(tasks)

    def numbered() -> Iterator[tuple[int, Task]]:
        yield from list(open_tasks.items())
        for number, task in rest:
            open_tasks[number] = task
            yield number, task

    for attempt in range(MOST_LOSSES + 1):
        try:
            for number, result in _running(function, numbered(), jobs):
                results[number] = result
                open_tasks.pop(number)
                done(number)
            return [results[number] for number in sorted(results)]
        except Exception as error:
            if not _is_loss(error):
                raise
            if attempt == MOST_LOSSES:
                raise InputError(
                    f"jobs {jobs}: worker processes ended by themselves {MOST_LOSSES + 1} times, "
                    "as they do where memory runs out. Run with fewer jobs."
                ) from error
    raise AssertionError


def _running(
    function: Callable[..., T], tasks: Iterator[tuple[int, Task]], jobs: int
) -> Iterator[tuple[int, T]]:
    """Numbers and results of tasks, as they end."""
    from joblib import Parallel, delayed  # only who asks for jobs waits for it

    with _backend():
        runner = Parallel(jobs, return_as="generator_unordered", pre_dispatch="all", batch_size=1)
        yield from runner(delayed(_numbered)(function, number, task) for number, task in tasks)


def _numbered(function: Callable[..., T], number: int, task: Task) -> tuple[int, T]:
    return number, function(*task)


def _backend() -> AbstractContextManager[Any]:
    """The backend that the user has chosen; else processes that take one core each."""
    from joblib import parallel_config
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    if type(backend).__name__ != "LokyBackend":
        return nullcontext()
    chosen: AbstractContextManager[Any] = parallel_config("loky", inner_max_num_threads=1)
    return chosen


def _is_loss(error: BaseException) -> bool:
    """Whether an error says that a worker is gone, not that a task failed."""
    from concurrent.futures.process import BrokenProcessPool

    return isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker"
