"""The threads that numpy multiplies with: one inside, what was there before outside."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from onnxprune.ir.blas import one_thread, threads


def test_numpys_library_is_found():
    """Of numpy as PyPI has it; one that was built with another library may have none to find."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if "openblas" not in built:
        pytest.skip(f"numpy was built with {built}")
    assert threads()


def test_what_was_set_before_is_set_again():
    count = len(threads())
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert threads() == [1] * count
            with one_thread():
                assert threads() == [1] * count
            assert threads() == [1] * count
        assert threads() == [2] * count
        with pytest.raises(ValueError), one_thread():
            raise ValueError
        assert threads() == [2] * count


def test_two_threads_of_python_share_it():
    """The first to leave must not give the second its threads back."""
    before, inside, go, seen = threads(), threading.Event(), threading.Event(), list[list[int]]()

    def other() -> None:
        with one_thread():
            inside.set()
            go.wait(10)
            seen.append(threads())

    worker = threading.Thread(target=other)
    with one_thread():
        worker.start()
        assert inside.wait(10)
    go.set()
    worker.join()
    assert seen == [[1] * len(before)]
    assert threads() == before
