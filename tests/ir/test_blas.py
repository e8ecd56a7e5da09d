"""The threads that numpy multiplies with: one inside, what was there before outside."""

import threading

import numpy as np
import pytest

from onnxprune.ir import blas
from onnxprune.ir.blas import libraries, one_thread


def counts() -> list[int]:
    return [library.told() for library in libraries()]


def test_numpys_library_is_found():
    """Of numpy as PyPI has it; one that was built with another library has none to find."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if "openblas" not in built:
        pytest.skip(f"numpy was built with {built}")
    assert libraries()


def test_what_was_set_before_is_set_again():
    before = counts()
    for library in libraries():
        library.put(2)
    try:
        with one_thread():
            assert counts() == [1] * len(before)
            with one_thread():
                assert counts() == [1] * len(before)
            assert counts() == [1] * len(before)
        assert counts() == [2] * len(before)
        with pytest.raises(ValueError), one_thread():
            raise ValueError
        assert counts() == [2] * len(before)
    finally:
        for library, threads in zip(libraries(), before, strict=True):
            library.put(threads)


def test_two_threads_of_python_share_it():
    """The first to leave must not give the second its threads back."""
    before, inside, go, seen = counts(), threading.Event(), threading.Event(), list[list[int]]()

    def other() -> None:
        with one_thread():
            inside.set()
            go.wait(10)
            seen.append(counts())

    worker = threading.Thread(target=other)
    with one_thread():
        worker.start()
        assert inside.wait(10)
    go.set()
    worker.join()
    assert seen == [[1] * len(before)]
    assert counts() == before


def test_files_of_other_names_are_no_libraries(tmp_path):
    path = tmp_path / "libopenblas.so"
    path.write_bytes(b"nothing")
    assert blas._functions(str(path)) is None
