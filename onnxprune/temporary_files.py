"""Temporary files and folders, and those that killed processes left behind.

Their names begin with `.onnxprune-`, and the process that made one holds a lock on it for as long
as it is in use. Whoever gets that lock has found something that nobody uses any more: `sweep`
removes it. Where the system or the file system has no such locks nothing is swept.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

__all__ = ["PREFIX", "TemporaryFile", "TemporaryFolder", "sweep", "temporary_file"]

#: How names begin that no user gave.
PREFIX = ".onnxprune-"


class TemporaryFile:
    """A file beside the one whose place it is to take."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file

    def write(self, blocks: Iterable[bytes]) -> None:
        """Write the content, down to the system."""
        for block in blocks:
            self._file.write(block)
        self._file.flush()

    def move(self, target: Path) -> None:
        """Take the place of `target`, and its mode if it is there."""
        with suppress(FileNotFoundError):
            self.path.chmod(stat.S_IMODE(target.stat().st_mode))
        if sys.platform == "win32":  # what is open cannot be renamed there
            self._file.close()
        os.replace(self.path, target)


@contextmanager
def temporary_file(folder: Path) -> Iterator[TemporaryFile]:
    """A file in `folder` that is removed in the end, unless it was moved.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(4)}"
        file = open(path, "xb")  # noqa: SIM115
        if _hold(file.fileno(), path):
            break
        file.close()  # swept before it was held
    try:
        yield TemporaryFile(path, file)
    finally:
        if sys.platform == "win32":
            file.close()
        path.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written then is not wanted any more
            file.close()


class TemporaryFolder:
    """A private folder, removed with the last reference to this, or by `close`."""

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        """Make the folder inside `parent`, None: the system's temporary folder.

        Raises:
            OSError: it cannot be made; `filename` is that of the parent.
        """
        home = Path(tempfile.gettempdir() if parent is None else parent)
        sweep(home)
        while True:
            try:
                self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home))
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(home)) from error
            handle = None if sys.platform == "win32" else os.open(self.path, os.O_RDONLY)
            if handle is None or _hold(handle, self.path):
                break
            os.close(handle)
        self.close = weakref.finalize(self, _remove, self.path, handle)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(folder: Path, handle: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if handle is not None:
        os.close(handle)


def _hold(handle: int, path: Path) -> bool:
    """Lock what was just made; False if somebody has removed it before."""
    if sys.platform == "win32":
        return True
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    return path.exists()


def sweep(folder: Path) -> None:
    """Remove what killed processes of the same user left in a folder."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    """Remove a file or folder that no process holds."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)
