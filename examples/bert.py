"""Prune heads and hidden units of a BERT classifier, then store its weights as 8-bit integers.

    python examples/bert.py MODEL.onnx SENTENCES.npz [SHARE_OF_PARAMETERS]

SENTENCES.npz holds token numbers and masks (n, length): `calib_ids` and `calib_mask` calibrate,
`test_ids` and `test_mask` with `test_labels` (n,) measure. The model's inputs are `input_ids` and
`attention_mask`. Writes MODEL_pruned.onnx and MODEL_pruned_int8.onnx.
"""

import sys
from pathlib import Path

import numpy as np

import onnxprune

source, sentences, share = (*sys.argv[1:], "0.5")[:3]
with np.load(sentences) as file:
    held = dict(file)


def feeds(part, count=None):
    """The model's inputs from one part of the data."""
    return {
        "input_ids": held[f"{part}_ids"][:count],
        "attention_mask": held[f"{part}_mask"][:count],
    }


calib, data = feeds("calib", 512), {**feeds("test"), "labels": held["test_labels"]}
small, integers = (f"{Path(source).stem}_pruned{end}.onnx" for end in ("", "_int8"))
result = onnxprune.prune(source, {"params": float(share)}, calib=calib, data=data)
result.save(small)
print(result.report.text())
recipe = onnxprune.recipe({"stage": [{"kind": "quantise", "mode": "dynamic"}]})
onnxprune.run(recipe, small, calib=calib).save(integers)
print(onnxprune.check(source, integers, data=data).text())
