"""Prune the export of a PyTorch model, cut the model itself alike, and go on training it.

    python examples/pytorch_finetune.py

Trains a small network on the handwritten digits of scikit-learn for some seconds. The cut module
starts from the refitted weights of the pruned file; what it is exported to at the end has that
file's shapes. Writes digits_torch.onnx, digits_small.onnx and digits_tuned.onnx.
Needs torch, onnxscript and scikit-learn.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import onnxprune
from onnxprune.torch import prune_module

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
images, test, labels, test_labels = train_test_split(images, labels, random_state=0)
x, y = torch.from_numpy(images), torch.from_numpy(labels)


def train(model, epochs, rate):
    """Train on the images that are not held back."""
    optimizer = torch.optim.AdamW(model.train().parameters(), rate)
    for batch in (b for _ in range(epochs) for b in torch.randperm(len(x)).split(64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def export(model, path):
    """Write a model that takes any number of images."""
    names = {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch"}}}
    torch.onnx.export(model.eval(), (x[:1],), path, dynamo=False, **names)


torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
)  # fmt: skip
train(model, epochs=15, rate=3e-3)
export(model, "digits_torch.onnx")

result = onnxprune.prune("digits_torch.onnx", {"macs": 0.15}, calib={"image": images[:512]})
result.save("digits_small.onnx")
print(prune_module(model, result, x[:1], model="digits_torch.onnx", carry_weights=True))
train(model, epochs=15, rate=1e-3)
export(model, "digits_tuned.onnx")

data = {"image": test, "labels": test_labels.astype(np.int64)}
for path in ("digits_small.onnx", "digits_tuned.onnx"):
    print(onnxprune.check("digits_torch.onnx", path, data=data).text())
