# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy",
#     "onnx",
#     "onnxruntime",
#     "onnxscript",
#     "scikit-learn",
#     "torch==2.13.0",
# ]
# ///
"""Train the demonstration model: a small residual network for 8x8 handwritten digits.

The network is deliberately varied rather than minimal. Plain residual blocks, inverted
residual blocks with depthwise convolutions, identity and projection shortcuts, batch
normalisation and a hidden fully connected layer all occur, so that pruning it exercises
every kind of channel coupling.

The script writes three files to the output folder:

* ``digits.onnx``: the trained network, batch normalisation not folded;
* ``digits_calib.npz``: unlabelled calibration images, drawn from the training split;
* ``digits_test.npz``: the held-out test images and their labels.

Training runs a fixed schedule and never looks at the test split. It is seeded and
single-threaded, so a second run on the same software and processor repeats the first.

Usage: ``python tools/train_digits.py [OUTPUT_FOLDER]``
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 20
TEST_SAMPLES = 500
CALIBRATION_SAMPLES = 512
EPOCHS = 80
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.05
OPSET = 17

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

log = logging.getLogger("train_digits")


class PlainBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, activated after the addition (ResNet)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Build a block whose shortcut is projected when it cannot be the identity."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = make_shortcut(inputs, outputs, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum of the residual branch and the shortcut."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        total: Tensor = self.relu2(y + self.shortcut(x))
        return total


class InvertedBlock(nn.Module):
    """Expand, filter each channel by itself, project; linear at its end (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 4) -> None:
        """Build a block whose shortcut is projected when it cannot be the identity."""
        super().__init__()
        width = inputs * expansion
        self.expand = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.depthwise = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.project = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = make_shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the residual branch and the shortcut, not activated."""
        y = self.relu1(self.bn1(self.expand(x)))
        y = self.relu2(self.bn2(self.depthwise(y)))
        total: Tensor = self.bn3(self.project(y)) + self.shortcut(x)
        return total


class DigitNet(nn.Module):
    """Stem, three residual stages, global average pool and a two-layer classifier."""

    def __init__(self) -> None:
        """Build the network with freshly initialised weights."""
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.add_module("conv", nn.Conv2d(1, 24, 3, padding=1, bias=False))
        self.stem.add_module("bn", nn.BatchNorm2d(24))
        self.stem.add_module("relu", nn.ReLU())
        self.stage1 = nn.Sequential(PlainBlock(24, 24), PlainBlock(24, 24))
        self.stage2 = nn.Sequential(InvertedBlock(24, 40, stride=2), InvertedBlock(40, 40))
        self.stage3 = nn.Sequential(PlainBlock(40, 48, stride=2), InvertedBlock(48, 48))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(48, 64)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Map images ``[batch, 1, 8, 8]`` to logits ``[batch, 10]``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(image))))
        x = self.flatten(self.pool(x))
        logits: Tensor = self.fc2(self.relu(self.fc1(x)))
        return logits


def make_shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the identity when shapes agree, otherwise a 1x1 projection with BN."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    projection = nn.Sequential()
    projection.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
    projection.add_module("bn", nn.BatchNorm2d(outputs))
    return projection


@dataclass(frozen=True)
class Digits:
    """The data set, split; ``calibration`` is a subset of ``train_images``."""

    train_images: Images
    train_labels: Labels
    calibration: Images
    test_images: Images
    test_labels: Labels


def load_splits() -> Digits:
    """Load the digits, scale them to [0, 1] and split them, stratified by class."""
    raw, targets = load_digits(return_X_y=True)
    images = (raw.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    labels = targets.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_SAMPLES, stratify=labels, random_state=SEED
    )
    calibration, _ = train_test_split(
        train_images,
        train_size=CALIBRATION_SAMPLES,
        stratify=train_labels,
        random_state=SEED,
    )
    return Digits(train_images, train_labels, calibration, test_images, test_labels)


def make_deterministic() -> None:
    """Seed PyTorch and make it run reproducibly on one thread."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def shift_randomly(images: Tensor) -> Tensor:
    """Move every image by -1, 0 or 1 pixel along each axis, filling with background."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (1, 1, 1, 1))
    rows = torch.randint(0, 3, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 3, (count, 1)) + torch.arange(width)
    sample = torch.arange(count)[:, None, None]
    return padded[sample, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def train(model: nn.Module, images: Images, labels: Labels) -> None:
    """Fit the model in place with AdamW on a one-cycle schedule; leave it in eval mode."""
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    steps = len(inputs) // BATCH_SIZE
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=EPOCHS * steps
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    model.train()
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for batch in torch.randperm(len(inputs))[: steps * BATCH_SIZE].view(steps, BATCH_SIZE):
            loss = criterion(model(shift_randomly(inputs[batch])), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if epoch % 10 == 0:
            log.info("epoch %3d  training loss %.4f", epoch, total / steps)
    model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Write the model as ONNX with its BatchNormalization nodes and names intact.

    The TorchScript exporter keeps module paths as tensor names. Its ``PRESERVE`` mode skips
    the fusion of convolution and batch normalisation, while the model being in eval mode
    makes it export batch normalisation in its inference form.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, 8, 8),),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    proto = onnx.load(path)
    untie_initializers(proto)
    strip_provenance(proto)
    onnx.save(proto, path)


def untie_initializers(proto: onnx.ModelProto) -> None:
    """Give every parameter its own initializer again, in place.

    The last normalisation of a residual branch and that of a projection shortcut receive the
    same gradient for their biases, so these end up equal. The exporter stores equal values
    once and derives the second name with an ``Identity`` node, which is undone here.
    """
    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in tensors:
            copy = graph.initializer.add()
            copy.CopyFrom(tensors[node.input[0]])
            copy.name = node.output[0]
            graph.node.remove(node)


def strip_provenance(proto: onnx.ModelProto) -> None:
    """Remove, in place, doc strings and metadata, which may hold stack traces and paths."""
    graph = proto.graph
    tensors = (*graph.initializer, *graph.value_info, *graph.input, *graph.output)
    for item in (proto, graph, *graph.node, *tensors):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def verify(path: Path, images: Images, labels: Labels) -> float:
    """Check the exported model's validity and return its accuracy under ONNX Runtime."""
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images})
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    default = Path(__file__).resolve().parent.parent / "models"
    parser = argparse.ArgumentParser(description="Train and export the digits model.")
    parser.add_argument(
        "output",
        type=Path,
        nargs="?",
        default=default,
        help="output folder (default: the repository's models folder)",
    )
    return parser.parse_args()


def main() -> None:
    """Train, export, verify, and save the data that belong to the model."""
    output: Path = parse_arguments().output
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_deterministic()
    digits = load_splits()
    model = DigitNet()
    train(model, digits.train_images, digits.train_labels)

    output.mkdir(parents=True, exist_ok=True)
    path = output / "digits.onnx"
    export(model, path)
    np.savez_compressed(output / "digits_calib.npz", image=digits.calibration)
    np.savez_compressed(
        output / "digits_test.npz", image=digits.test_images, labels=digits.test_labels
    )
    accuracy = verify(path, digits.test_images, digits.test_labels)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log.info("trainable parameters: %d", parameters)
    log.info("test accuracy: %.2f %% of %d", 100 * accuracy, len(digits.test_labels))


if __name__ == "__main__":
    main()
