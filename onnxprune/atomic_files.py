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
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnxprune.errors import InputError

if sys.platform != "win32":
    import fcntl

__all__ = ["DAMAGED", "Store", "digest_of", "replace_together", "update_file", "write_whole"]

T = TypeVar("T")
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
    """Write one file; a link stays and what it points to is replaced.

    Raises:
        OSError: it cannot be written, and is as it was; `filename` names it.
    """
    replace_together({Path(os.path.realpath(path)): blocks})


def replace_together(files: Mapping[Path, Iterable[bytes]]) -> None:
    """Write several files, the last of which refers to the others: all of them, or none.

    All content is written before the first file takes its place, in the order given. What is no
    regular file, such as `/dev/null`, is opened and written as it is.

    Raises:
        OSError: one cannot be written, and all are as they were; `filename` names it.
    """
    moves: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, blocks in files.items():
            place = path
            if path.is_file() or not path.exists():
                place = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                moves.append((place, path))
            with open(place, "wb" if place == path else "xb") as file:
                for block in blocks:
                    file.write(block)
        for temporary, path in moves:
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        _move(moves)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        for temporary, _ in moves:
            temporary.unlink(missing_ok=True)


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename each file to its place; if one fails, the first ones get their old content back."""
    if not moves:
        return
    (temporary, path), rest = moves[0], moves[1:]
    backup = temporary.with_name(f"{temporary.name}.old")
    if rest and path.exists():
        os.replace(path, backup)
    try:
        os.replace(temporary, path)
        _move(rest)
    except BaseException:
        if backup.exists():
            os.replace(backup, path)
        elif rest:
            path.unlink(missing_ok=True)
        raise
    backup.unlink(missing_ok=True)


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
    """Wait until no other process holds the folder, and hold it."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Store:
    """Results under keys: `<key>.json`, and files beside it whose names begin with the key.

    Attributes:
        folder: where they lie; made with the first of them.
        entries: how many are kept, None for all; the oldest go first.
    """

    folder: Path
    entries: int | None = None

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
            text = json.dumps(make(self.folder / key), default=str)
            write_whole(self.folder / f"{key}.json", text.encode())
            if self.entries is not None:
                self._forget(self.entries)

    def _forget(self, entries: int) -> None:
        """Remove all but the newest entries, each with the files beside it."""
        known = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in known[: max(len(known) - entries, 0)]:
            path.unlink(missing_ok=True)
            for file in self.folder.glob(f"{path.stem}.*"):
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
