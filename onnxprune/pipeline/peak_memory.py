"""Memory of a model: `python -m onnxprune.pipeline.peak_memory MODEL INPUTS PROVIDER THREADS`.

Prints how many bytes the process grew at most by opening the model and running it twice.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from onnxprune.ir import runtime

__all__ = ["main"]


def main(model: str, inputs: str, provider: str, threads: str) -> None:
    """Open, run, print."""
    with np.load(inputs) as stored:
        feeds = dict(stored)
    before = _peak()
    session = runtime.open_session(model, runtime.Device(provider, int(threads)))
    for _ in range(2):
        runtime.run(session, feeds)
    sys.stdout.write(f"{_peak() - before}\n")


def _peak() -> int:
    """The most bytes that were resident at a time, as Linux counts them."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("the system does not count memory")
    return 1024 * int(found[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
