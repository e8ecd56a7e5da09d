"""Measure the memory of a model: `python -m onnxprune.pipeline.peak_memory` in a fresh process.

Its arguments are MODEL INPUTS PROVIDER THREADS; INPUTS is an .npz keyed by input name. It prints by
how many bytes the peak of the process grew when the model was opened and run twice.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from onnxprune.ir import runtime

__all__ = ["main"]


def main(model: str, inputs: str, provider: str, threads: str) -> None:
    """Open a model, run it twice, and print by how many bytes the peak grew.

    Args:
        model: path.
        inputs: path of an .npz keyed by input name.
        provider: onnxruntime's name of it.
        threads: how many, 0 for all.
    """
    with np.load(inputs, allow_pickle=False) as stored:
        feeds = dict(stored)
    before = _peak()
    session = runtime.open_session(model, runtime.Device(provider, int(threads)))
    for _ in range(2):
        runtime.run(session, feeds)
    sys.stdout.write(f"{_peak() - before}\n")


def _peak() -> int:
    """The most bytes of the process that were resident at a time, as Linux counts them.

    Raises:
        OSError: the system does not count them.
    """
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("the system does not count memory")
    return 1024 * int(found[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
