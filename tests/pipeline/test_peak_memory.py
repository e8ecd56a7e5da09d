"""Memory of a model in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Net


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read where Linux counts it")
def test_weights_and_activations_take_memory(tmp_path: Path):
    """64 MB of weights, and 16 MB of activations."""
    net = Net(x=("N", 2048))
    wide = net.op("MatMul", "x", net.weight(2048, 4096))
    onnx.save(net.model(net.op("MatMul", wide, net.weight(4096, 2048))), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.zeros((1024, 2048), np.float32))
    words = ["-m", "onnxprune.pipeline.peak_memory", "m.onnx", "x.npz", "cpu", "1"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, check=True)
    assert 80e6 < int(done.stdout) < 1e9
