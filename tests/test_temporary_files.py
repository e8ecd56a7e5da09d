"""Temporary files and folders go in the end, and those of killed processes with the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnxprune.temporary_files import PREFIX, TemporaryFolder, sweep, temporary_file

HOLDING = """
import sys
from pathlib import Path
from onnxprune.temporary_files import *
folder = TemporaryFolder(sys.argv[1])
(folder.path / "weights").write_text("half")
with temporary_file(Path(sys.argv[1])) as file:
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_goes_unless_it_is_moved(tmp_path: Path):
    with temporary_file(tmp_path) as file:
        file.write([b"one", b"two"])
        assert file.path.read_bytes() == b"onetwo" and file.path.name.startswith(PREFIX)
    assert list(tmp_path.iterdir()) == []
    with temporary_file(tmp_path) as file:
        file.write([b"one"])
        file.move(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(ValueError, match="stop"), temporary_file(tmp_path):
        raise ValueError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_goes_with_what_is_in_it(tmp_path: Path):
    with TemporaryFolder(tmp_path) as folder:
        (folder / "deep").mkdir()
        assert folder.parent == tmp_path and folder.name.startswith(PREFIX)
    assert list(tmp_path.iterdir()) == []
    kept = TemporaryFolder(tmp_path)
    assert kept.path.is_dir()
    del kept
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="nowhere"):
        TemporaryFolder(tmp_path / "nowhere")


def test_folders_close_their_files(tmp_path: Path):
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        with TemporaryFolder(tmp_path), temporary_file(tmp_path):
            pass
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("own", [True, False])
def test_only_what_no_process_holds_is_swept(tmp_path: Path, own: bool):
    """What lives stays, also that of the sweeping process; names that are not ours stay as well."""
    (tmp_path / ".hidden").write_text("")
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        if own:
            with TemporaryFolder(tmp_path), temporary_file(tmp_path):
                sweep(tmp_path)
                assert len(list(tmp_path.iterdir())) == 5
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
        process.kill()
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_links_are_not_followed(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / f"{PREFIX}00000000").symlink_to(tmp_path / "mine")
    sweep(tmp_path)
    assert (tmp_path / "mine").is_dir()
    sweep(tmp_path / "nowhere")
