"""Files are written whole or not at all, and processes that share a folder lose nothing."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from onnxprune.atomic_files import Store, digest_of, replace_together, update_file, write_whole
from onnxprune.errors import InputError

PREFIX = "import json, os, sys\nfrom pathlib import Path\nfrom onnxprune.atomic_files import *\n"


def started(code: str, *words: object) -> subprocess.Popen[bytes]:
    """Another process that runs code with the names of `atomic_files` at hand."""
    return subprocess.Popen([sys.executable, "-c", PREFIX + code, *map(str, words)])


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path):
    path = tmp_path / "a"
    write_whole(path, b"one", b" two")
    assert path.read_bytes() == b"one two"
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays(tmp_path: Path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_as_it_is(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo() and hidden(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("stop"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: Exception, existed: bool):
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise error

    a, b = tmp_path / "a", tmp_path / "b"
    if existed:
        a.write_bytes(b"old a")
        b.write_bytes(b"old b")
    with pytest.raises(type(error)) as caught:
        replace_together({a: [b"new"], b: blocks()})
    if isinstance(error, OSError):
        assert isinstance(caught.value, OSError)
        assert (caught.value.filename, caught.value.errno) == (str(b), 28)
    assert [path.read_bytes() for path in (a, b) if existed] == [b"old a", b"old b"][: 2 * existed]
    assert a.exists() == b.exists() == existed and hidden(tmp_path) == []


def test_the_first_file_goes_back_if_the_second_finds_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a, b, real = tmp_path / "a", tmp_path / "b", os.replace
    a.write_bytes(b"old")

    def failing(source: Path, target: Path) -> None:
        if target == b:
            assert a.read_bytes() == b"new"
            raise PermissionError(13, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(PermissionError) as caught:
        replace_together({a: [b"new"], b: [b"new"]})
    assert caught.value.filename == str(b)
    assert a.read_bytes() == b"old" and not b.exists() and hidden(tmp_path) == []


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    code = """
def blocks():
    yield b"new" * 10**6
    os._exit(9)
replace_together({Path(sys.argv[1]): blocks()})
"""
    assert started(code, path).wait() == 9
    assert path.read_bytes() == b"old"


def test_updates_of_several_processes_all_arrive(tmp_path: Path):
    path = tmp_path / "a"
    code = """
for k in range(40):
    def added(content):
        return json.dumps([*json.loads(content or b"[]"), f"{sys.argv[2]}-{k}"]).encode()
    update_file(Path(sys.argv[1]), added)
"""
    processes = [started(code, path, name) for name in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert sorted(json.loads(path.read_bytes())) == sorted(
        f"{name}-{k}" for name in range(4) for k in range(40)
    )
    assert hidden(tmp_path) == []


def test_a_change_of_nothing_leaves_the_file(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"foreign")
    before = path.stat().st_ino
    assert update_file(path, lambda content: None if content == b"foreign" else b"") is False
    assert path.stat().st_ino == before
    assert update_file(path, lambda content: content + b"!") is True
    assert path.read_bytes() == b"foreign!"
    with pytest.raises(OSError, match="No such file"):
        update_file(tmp_path / "no" / "a", lambda _: b"")


def value_of(store: Store, key: str) -> object:
    return store.get(key, lambda _path, value: value)


def keep(store: Store, key: str, value: object) -> None:
    def make(path: Path) -> object:
        path.with_name(f"{path.name}.bin").write_bytes(repr(value).encode())
        return value

    store.put(key, make)


def test_a_store_gives_what_it_was_given(tmp_path: Path):
    store = Store(tmp_path / "store")
    assert value_of(store, "a") is None
    keep(store, "a", {"x": [1, 2.5, None]})
    assert value_of(store, "a") == {"x": [1, 2.5, None]} and value_of(store, "b") is None
    keep(store, "a", 3)
    assert value_of(store, "a") == 3


@pytest.mark.parametrize(
    "error", [OSError(), InputError(), ValueError(), KeyError("x"), TypeError()]
)
def test_a_damaged_entry_counts_as_none(tmp_path: Path, error: Exception):
    store = Store(tmp_path)
    keep(store, "a", [1])

    def refused(_path: Path, _value: object) -> None:
        raise error

    assert store.get("a", refused) is None
    (tmp_path / "a.json").write_text("[1")
    assert value_of(store, "a") is None


def test_a_wrong_reader_is_not_taken_for_damage(tmp_path: Path):
    store = Store(tmp_path)
    keep(store, "a", [1])
    with pytest.raises(ZeroDivisionError):
        store.get("a", lambda _path, value: 1 / 0)


def test_the_oldest_entries_go_with_their_files(tmp_path: Path):
    store = Store(tmp_path, entries=2)
    for age, key in enumerate(("b", "a", "c-1", "c-10")):
        keep(store, key, age)
        os.utime(tmp_path / f"{key}.json", ns=(age, age))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"c-1.json", "c-1.bin", "c-10.json", "c-10.bin"}


def test_an_entry_that_fails_is_none(tmp_path: Path):
    def failing(_path: Path) -> None:
        raise InputError("no")

    with pytest.raises(InputError):
        Store(tmp_path).put("a", failing)
    assert value_of(Store(tmp_path), "a") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        keep(Store(tmp_path / "file"), "a", 1)


def test_processes_share_a_store(tmp_path: Path):
    """Keys of their own all arrive; of one that both write, value and file belong together."""
    code = """
store, name = Store(Path(sys.argv[1])), sys.argv[2]
for k in range(30):
    for key in (f"{name}-{k}", "both"):
        def make(path):
            path.with_name(path.name + ".bin").write_text(f"{name} {k}")
            return f"{name} {k}"
        store.put(key, make)
        fits = store.get(key, lambda path, v: path.with_name(path.name + ".bin").read_text() == v)
        assert fits, (key, fits)
"""
    processes = [started(code, tmp_path, name) for name in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    for name in range(3):
        for k in range(30):
            assert value_of(Store(tmp_path), f"{name}-{k}") == f"{name} {k}"


def test_without_locks_files_are_still_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on a network file system that knows none."""

    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refused)
    assert update_file(tmp_path / "a", lambda _: b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@dataclass(frozen=True)
class Point:
    x: int
    y: int


DIFFERENT = [
    1, 1.5, True, None, "1", "", b"1", [1], [1, 2], [[1], 2], {"a": 1}, {"a": 2}, {"b": 1}, {},
    Path("a"), Point(1, 2), Point(2, 1), np.arange(3), np.arange(3.0), np.arange(3)[None],
    np.array([0, 1, 3]),
]  # fmt: skip


def test_digests_tell_values_apart():
    digests = [digest_of(value) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert digest_of(1, 2) != digest_of([1, 2]) and digest_of("a", "b") != digest_of("ab")


def test_digests_of_equal_values_are_equal_in_every_process(tmp_path: Path):
    value = {"b": (1, 2), "a": Point(1, 2), "c": np.arange(4)[::2], "d": {"y": 1, "x": 2.5}}
    same = {"d": {"x": 2.5, "y": 1}, "c": np.array([0, 2]), "a": Point(1, 2), "b": [1, 2]}
    assert digest_of(value) == digest_of(same)
    plain = {"b": [1, 2], "d": {"y": 1, "x": 2.5}}
    code = f"Path(sys.argv[1]).write_text(digest_of({plain!r}))"
    assert started(code, tmp_path / "digest").wait() == 0
    assert (tmp_path / "digest").read_text() == digest_of(plain)
