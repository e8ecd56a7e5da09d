"""Prune a keyword spotter (DS-CNN of MLPerf Tiny) to a share of its latency on this machine.

    python examples/keyword_spotting.py MODEL.onnx WORDS.npz [SHARE_OF_TIME]

WORDS.npz holds features `x` (n, 1, 49, 10) of spoken words and `labels` (n,): the first fifth
calibrates, without labels, the others measure. Writes MODEL_pruned.onnx.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

import onnxprune

source, words, share = (*sys.argv[1:], "0.7")[:3]
with np.load(words) as file:
    held = dict(file)
few = len(held["x"]) // 5
(name,) = {i.name for i in onnx.load(source).graph.input}
result = onnxprune.prune(
    source,
    {"latency": float(share)},
    calib={name: held["x"][:few]},
    data={name: held["x"][few:], "labels": held["labels"][few:]},
)
result.save(Path(source).stem + "_pruned.onnx")
print(result.report.text())
