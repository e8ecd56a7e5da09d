"""Prune a YOLOv8 detector on pictures without labels, and count boxes that both models find.

    python examples/yolo.py MODEL.onnx FOLDER_OF_PICTURES [SHARE_OF_MACS]

Every second picture calibrates, the others compare: boxes with one of the same class in the other
model's result, at IoU 0.5. Such a model is nudenet/320n.onnx in nudenet 3.4.2. Needs Pillow.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import onnxprune

SIZE, SCORE, SAME = (320, 320), 0.1, 0.5


def picture(path):
    """Read a picture as (3, height, width) of 0 to 1."""
    shown = Image.open(path).convert("RGB").resize(SIZE)
    return np.asarray(shown, np.float32).transpose(2, 0, 1) / 255


def overlap(a, b):
    """Intersection over union of two boxes: centre, width, height."""
    low, high = (np.array([box[:2] + side * box[2:4] / 2 for box in (a, b)]) for side in (-1, 1))
    common = (high.min(0) - low.max(0)).clip(0).prod()
    return common / (a[2:4].prod() + b[2:4].prod() - common)


def same(a, b):
    """Whether two rows (box, scores) tell of the same thing."""
    return a[4:].argmax() == b[4:].argmax() and overlap(a, b) >= SAME


def boxes(session, image):
    """Rows (box, scores) of a picture, the best first, each thing once."""
    (output,) = session.run(None, {session.get_inputs()[0].name: image[None]})
    found = []
    for row in sorted(output[0].T, key=lambda row: -row[4:].max()):
        if row[4:].max() > SCORE and not any(same(row, other) for other in found):
            found.append(row)
    return found


source, folder, share = (*sys.argv[1:], "0.8")[:3]
original = onnxruntime.InferenceSession(source)
images = np.stack([picture(path) for path in sorted(Path(folder).iterdir())])
calib = {original.get_inputs()[0].name: images[::2]}
result = onnxprune.prune(source, {"macs": share}, calib=calib)
result.save(Path(source).stem + "_pruned.onnx")
print(result.report.text())
pairs = [[boxes(s, image) for s in (original, result.pruned.session())] for image in images[1::2]]
both = [pair for a, b in pairs for pair in ((a, b), (b, a))]
hits = sum(any(same(row, other) for other in others) for own, others in both for row in own)
print(f"boxes that both find: {hits} of {sum(len(own) for own, _ in both)}")
