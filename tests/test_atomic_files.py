"""Files are written whole or not at all, and processes that share a folder lose nothing."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.atomic_files import (
    Store,
    digest_of,
    update_file,
    write_blocks,
    write_whole,
    write_with_data,
)
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


def content(name: str) -> bytes:
    """What a file says of the file that its data lie in."""
    return f"new, see {name}".encode()


def write_pair(folder: Path, blocks: Iterable[bytes] = (b"new data",)) -> None:
    write_with_data(folder / "a", folder / "a.data", blocks, content)


def paired(folder: Path) -> str:
    """`old`, `new` or `none`; whatever a file names must be there and belong to it."""
    if not (folder / "a").exists():
        return "none"
    age, _, name = (folder / "a").read_text().partition(", see ")
    assert (folder / name).read_text() == f"{age} data"
    return age


@pytest.fixture(params=["nothing", "a file", "both"])
def earlier(request, tmp_path: Path) -> str:
    """What was in the folder before."""
    if request.param == "a file":
        (tmp_path / "own.data").write_text("old data")
        (tmp_path / "a").write_text("old, see own.data")
    if request.param == "both":
        (tmp_path / "a.data").write_text("old data")
        (tmp_path / "a").write_text("old, see a.data")
    return paired(tmp_path)


@pytest.mark.parametrize("error", [ValueError("stop"), OSError(28, "No space left on device")])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, earlier: str, error: Exception):
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise error

    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(type(error)) as caught:
        write_pair(tmp_path, blocks())
    if isinstance(error, OSError):
        assert isinstance(caught.value, OSError)
        assert (caught.value.filename, caught.value.errno) == (str(tmp_path / "a.data"), 28)
    assert paired(tmp_path) == earlier
    with pytest.raises(type(error)):
        write_blocks(tmp_path / "a", blocks())
    assert paired(tmp_path) == earlier
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def places(folder: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[str], None]) -> None:
    """Call `end` with what happens before anything takes a place, gets a name or loses it."""
    for name in ("replace", "link", "unlink"):
        real = getattr(os, name)

        def spied(*args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
            end(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, spied)


def test_a_file_and_its_data_belong_together_wherever_the_process_ends(
    tmp_path: Path, earlier: str, monkeypatch: pytest.MonkeyPatch
):
    """A copy of the folder at every moment is what a killed process would leave."""
    seen: list[str] = []

    def looked(_what: str) -> None:
        seen.append(paired(tmp_path))

    with monkeypatch.context() as patch:
        places(tmp_path, patch, looked)
        write_pair(tmp_path)
    assert len(seen) > 2 and seen[0] == earlier and seen == sorted(seen, key=seen.index)
    assert paired(tmp_path) == "new" and (tmp_path / "a").read_bytes() == content("a.data")
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "a.data", "own.data"}


@pytest.mark.parametrize("number", range(8))
def test_what_cannot_take_its_place_leaves_a_pair(
    tmp_path: Path, earlier: str, number: int, monkeypatch: pytest.MonkeyPatch
):
    left = [number]

    def failing(what: str) -> None:
        left[0] -= what == "replace"
        if left[0] < 0 and what == "replace":
            left[0] = 99
            raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        places(tmp_path, patch, failing)
        try:
            write_pair(tmp_path)
        except PermissionError as error:
            assert error.filename in (str(tmp_path / "a"), str(tmp_path / "a.data"))
    assert paired(tmp_path) in ("new", earlier)
    write_pair(tmp_path)
    assert paired(tmp_path) == "new"
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "a.data", "own.data"}


def test_without_links_data_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on file systems of memory cards."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for _ in range(2):
        write_pair(tmp_path)
        assert paired(tmp_path) == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.data"}


KILLED = """
def blocks():
    yield b"new" * 10**6
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "write",
    [
        "write_blocks(path, blocks())",
        "write_with_data(path, path.with_name('a.data'), blocks(), str.encode)",
        "update_file(path, lambda _: list(blocks()))",
    ],
)
def test_a_killed_process_leaves_the_old_file_and_the_next_one_cleans_up(
    tmp_path: Path, write: str
):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    assert started(f"path = Path(sys.argv[1])\n{KILLED}{write}", path).wait() == -9
    assert path.read_bytes() == b"old"
    write_whole(tmp_path / "other", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other"]


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


def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: is no folder\. Choose another one"):
        Store.at(tmp_path / "file")
    with pytest.raises(InputError, match=r"b: the folder .*a does not exist\. Create it"):
        Store.at(tmp_path / "a" / "b")
    assert Store.at(tmp_path / "new") == Store(tmp_path / "new")
    assert not (tmp_path / "new").exists()


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


def test_what_was_begun_of_an_entry_goes_with_the_next_one(tmp_path: Path):
    """As a killed process leaves it; what has other names is not ours."""
    for name in (f"{'a' * 32}.onnx", f"{'b' * 32}-1.onnx.data", "mine.onnx", f"{'c' * 31}.onnx"):
        (tmp_path / name).write_text("half")
    keep(Store(tmp_path), "d" * 32, 1)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.onnx", f"{'c' * 31}.onnx", f"{'d' * 32}.json", f"{'d' * 32}.bin"}


def test_an_entry_may_be_written_with_data(tmp_path: Path):
    """Which needs the folder that is held already."""
    store = Store(tmp_path / "store")
    store.put("a" * 32, lambda path: write_pair(path.parent))
    assert paired(tmp_path / "store") == "new"


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
