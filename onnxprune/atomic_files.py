"""Write files whole or not at all, and keep results in folders that several processes share.

A file is written under another name in the same folder and then renamed, so that readers see its
old content or its new one, also where the writing process ends early. Nothing is flushed to the
disk: a machine that loses power may lose what it wrote last. A file that is read, changed and
written again is changed under a lock on its folder, where the system has `flock`; elsewhere
processes that write at the same moment may lose an entry, but damage none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from onnxprune.errors import InputError
from onnxprune.temporary_files import TemporaryFile, sweep, temporary_file

if sys.platform != "win32":
    import fcntl

__all__ = [
    "DAMAGED",
    "Store",
    "digest_of",
    "update_file",
    "write_blocks",
    "write_whole",
    "write_with_data",
]

T = TypeVar("T")
#: Bytes that are copied at once.
_BLOCK = 2**23
#: Keys that are digests, perhaps numbered; other names in a folder are somebody else's.
_KEY = re.compile(r"[0-9a-f]{32}(-\d+)?")
#: What reading values out of a file raises where they are not those that were written.
DAMAGED = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def write_whole(path: Path, *blocks: bytes) -> None:
    """Write one file; a link stays and what it points to is replaced. See `write_blocks`."""
    write_blocks(Path(os.path.realpath(path)), blocks)


def write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """Write one file, a piece at a time.

    What is no regular file, such as `/dev/null`, is opened and written as it is.

    Raises:
        OSError: it cannot be written, and is as it was; `filename` names it.
    """
    with _naming(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.writelines(blocks)
            return
        sweep(path.parent)
        with temporary_file(path.parent) as new:
            new.write(blocks)
            new.move(path)


def write_with_data(
    path: Path, data: Path, blocks: Iterable[bytes], content: Callable[[str], bytes]
) -> None:
    """Write a file and the data file beside it that it refers to: both, or none.

    Two files cannot take their places at one moment, so that old data would belong to a new file,
    or the other way round, where the process ends in between. So the new data first get a second
    name, which a new file refers to; when that is in its place, the old data are replaced, and
    then the file by one that refers to them by their own name. At every moment the file and the
    data that it names belong together. Meanwhile the new data take their space twice.

    Args:
        path: the file.
        data: the data file, in the same folder.
        blocks: content of the data file.
        content: the file's content, given the name of the data file that it refers to.

    Raises:
        OSError: one cannot be written, and all are as they were; `filename` names it.
    """
    sweep(path.parent)
    with ExitStack() as stack:
        with _naming(data):
            new = stack.enter_context(temporary_file(data.parent))
            new.write(blocks)
        with _naming(path):
            if path.exists() and not path.is_file():
                new.move(data)
                path.write_bytes(content(data.name))
                return
            second = data.with_name(f"{path.name}.{secrets.token_hex(4)}.data")
            first, last = (stack.enter_context(temporary_file(path.parent)) for _ in range(2))
            first.write([content(second.name)])
            last.write([content(data.name)])
        with _locked(path.parent):
            if os.path.lexists(data):
                with _naming(data):
                    again = stack.enter_context(temporary_file(data.parent))
                    again.write(_blocks_of(new.path))
                _replace_both(path, data, (new, again), _TwoFiles(second, first, last))
            else:
                _place_both(path, data, new, last)
            _sweep_second_names(path)


class _TwoFiles(NamedTuple):
    """Data under a `second` name, the `first` file, which refers to it, and the `last` one."""

    second: Path
    first: TemporaryFile
    last: TemporaryFile


def _blocks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _place_both(path: Path, data: Path, new: TemporaryFile, file: TemporaryFile) -> None:
    """Put data where there are none yet, then the file."""
    with _naming(data):
        new.move(data)
    try:
        with _naming(path):
            file.move(path)
    except BaseException:
        if file.path.exists():  # so that it was not moved
            data.unlink(missing_ok=True)
        raise


def _replace_both(
    path: Path, data: Path, news: tuple[TemporaryFile, TemporaryFile], files: _TwoFiles
) -> None:
    """Replace data by way of a second name and a file that refers to it.

    The data are there twice, in `news`, and not under two names of one file: such files are taken
    for an attack by some readers.
    """
    (new, again), second = news, files.second
    with _kept(path) as old:
        try:
            with _naming(data):
                new.move(second)
            with _naming(path):
                files.first.move(path)
            with _naming(data):
                again.move(data)
        except BaseException:
            if again.path.exists():  # so that the old data are still in their place
                if old is not None:
                    os.replace(old, path)
                elif not files.first.path.exists():
                    path.unlink(missing_ok=True)
                second.unlink(missing_ok=True)
            raise
        with _naming(path):
            files.last.move(path)


@contextmanager
def _kept(path: Path) -> Iterator[Path | None]:
    """A second name of a file for the time being, None if there is no file."""
    if not path.exists():
        yield None
        return
    with temporary_file(path.parent) as place:
        place.path.unlink()
        _same_content(path, place.path)
        yield place.path


def _same_content(path: Path, other: Path) -> None:
    """Give a file a second name, or where the file system has no links copy it."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _sweep_second_names(path: Path) -> None:
    """Remove data under second names, which a file that is in its place does not refer to."""
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}\.data")
    for other in path.parent.iterdir():
        if name.fullmatch(other.name):
            with suppress(OSError):
                other.unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the system say which file they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def update_file(path: Path, change: Callable[[bytes], bytes | None]) -> bool:
    """Replace a file by what `change` makes of its content, while other processes wait.

    A file that is missing counts as empty. Where `change` gives None the file stays as it is, and
    the result is False.

    Raises:
        OSError: it cannot be read or written, and is as it was.
    """
    with _locked(path.parent):
        new = change(path.read_bytes() if path.exists() else b"")
        if new is not None:
            write_whole(path, new)
        return new is not None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the folder, and hold it; within that it is held already."""
    held: set[str] = _HELD.__dict__.setdefault("folders", set())
    name = os.path.realpath(folder)
    if sys.platform == "win32" or name in held:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        held.add(name)
        yield
    finally:
        held.discard(name)
        os.close(handle)


#: The folders that each thread holds.
_HELD = threading.local()


@dataclass(frozen=True)
class Store:
    """Results under keys: `<key>.json`, and files beside it whose names begin with the key.

    Attributes:
        folder: where they lie; made with the first of them.
        entries: how many are kept, None for all; the oldest go first.
    """

    folder: Path
    entries: int | None = None

    @staticmethod
    def at(folder: str | os.PathLike[str]) -> Store:
        """Name the folder of a store that work will fill: refused before the work if it cannot be.

        Raises:
            InputError: it is a file, or the folder that it would lie in is missing.
        """
        place = Path(folder)
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is no folder. Choose another one.")
        if not place.parent.is_dir():
            raise InputError(f"{place}: the folder {place.parent} does not exist. Create it first.")
        return Store(place)

    def get(self, key: str, use: Callable[[Path, Any], T]) -> T | None:
        """Read an entry: what `use` makes of its path without ending and its value.

        None where there is no such entry, or it is damaged: not JSON, or `use` refuses it.
        """
        path = self.folder / key
        damage = suppress(OSError, InputError, *DAMAGED)
        with damage, _locked(self.folder):
            text = path.with_name(f"{key}.json").read_text(encoding="utf-8")
            return use(path, json.loads(text))
        return None

    def put(self, key: str, make: Callable[[Path], Any]) -> None:
        """Keep the value that `make` returns, once it has written what lies beside it.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.folder.mkdir(exist_ok=True)
        with _locked(self.folder):
            try:
                text = json.dumps(make(self.folder / key), default=str)
                write_whole(self.folder / f"{key}.json", text.encode())
            except BaseException:
                self._remove(key)
                raise
            self._forget()

    def _forget(self) -> None:
        """Remove all but the newest entries, and what a killed process wrote of an entry."""
        known = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        gone = 0 if self.entries is None else max(len(known) - self.entries, 0)
        for path in known[:gone]:
            self._remove(path.stem)
        whole = {path.stem for path in known[gone:]}
        begun = {path.name.partition(".")[0] for path in self.folder.iterdir()} - whole
        for key in filter(_KEY.fullmatch, begun):
            self._remove(key)

    def _remove(self, key: str) -> None:
        """Remove an entry with the files beside it, the one that makes it an entry first."""
        (self.folder / f"{key}.json").unlink(missing_ok=True)
        for file in self.folder.glob(f"{key}.*"):
            file.unlink(missing_ok=True)


def digest_of(*facts: object) -> str:
    """Digest values by SHA-256: mappings in any order, arrays and dataclasses by content."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: object) -> object:
    """Turn a value that JSON does not know into one that it does."""
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return [str(value.dtype), value.shape, content]
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        return [type(value).__name__, own]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return list(value)
    return [type(value).__name__, repr(value)]
