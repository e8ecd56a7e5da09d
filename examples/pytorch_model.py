"""Export a model from PyTorch, prune it on unlabelled images, and check what that costs.

    python examples/pytorch_model.py

Trains a small network on the handwritten digits of scikit-learn for some seconds; the images that
measure are neither trained nor calibrated on. Writes digits_torch.onnx and digits_torch_small.onnx.
Needs torch, onnxscript and scikit-learn.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import onnxprune

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
train, test, train_labels, test_labels = train_test_split(images, labels, random_state=0)

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
x, y = torch.from_numpy(train), torch.from_numpy(train_labels)
for _ in range(15):
    for batch in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()

torch.onnx.export(
    model.eval(), (x[:2],), "digits_torch.onnx", input_names=["image"], output_names=["logits"],
    dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False,
)  # fmt: skip

result = onnxprune.prune("digits_torch.onnx", {"macs": 0.5}, calib={"image": train[:512]})
result.save("digits_torch_small.onnx")
print(result.report.text())
data = {"image": test, "labels": test_labels.astype(np.int64)}
print(onnxprune.check("digits_torch.onnx", "digits_torch_small.onnx", data=data).text())
