"""A training step in onnxruntime beside PyTorch's on the same network, and whether gradients agree.

Networks are made in PyTorch, without batch normalisation, as it is folded in exported files, and
exported; both sides get the same weights, samples and soft targets. A step is forward and backward
pass and an update with momentum of all numbers. Seconds are those of the processor, and steps of
both sides take turns, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from onnxprune.compensation.distillation.backward import TARGET, Differentiated, differentiated
from onnxprune.compensation.distillation.losses import output_seeds
from onnxprune.groups.analysis import analyze
from onnxprune.ir.runtime import Device

__all__ = ["HEADER", "NETWORKS", "NOTE", "measured"]

HEADER = (
    *("network", "numbers", "PyTorch ms", "onnxruntime ms", "ratio", "of which update ms"),
    "largest difference of a gradient",
)
NOTE = (
    "Processor milliseconds of a step, medians; ratio: median over pairs of steps. Differences are "
    "those of single numbers, in shares of the largest number of the same gradient."
)
BATCH = 32
RATE, MOMENTUM = 1e-3, 0.9
#: Gradients that are smaller than this share of the largest one are rounding: those of biases of
#: keys, which shares do not depend on.
LEAST = 1e-4
Array = NDArray[Any]


class Block(nn.Module):
    """Two convolutions and what they are added to."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        self.past = nn.Conv2d(before, width, 1, stride) if before != width else nn.Identity()

    def forward(self, x: Any) -> Any:
        """Add, and cut below zero."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.past(x))


def residual(blocks: int) -> nn.Module:
    """ResNets for images of 32 × 32: 6 · blocks + 2 layers."""
    widths = [16] * blocks + [32] * blocks + [64] * blocks
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()]
    for before, width in zip([16, *widths], widths, strict=False):
        layers.append(Block(before, width, 1 + (before != width)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def separable() -> nn.Module:
    """MobileNet, a quarter of its width, for images of 128 × 128."""
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()]
    before = 8
    for width, stride in [*plan, (256, 1)]:
        layers += [nn.Conv2d(before, before, 3, stride, 1, groups=before), nn.ReLU()]
        layers += [nn.Conv2d(before, width, 1), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 100))


class Encoder(nn.Module):
    """A transformer of three layers on tokens, as exporters write it."""

    def __init__(self, width: int = 128, heads: int = 2) -> None:
        super().__init__()
        self.table, self.heads = nn.Embedding(1000, width), heads
        self.layers = nn.ModuleList()
        for _ in range(3):
            parts = {
                **{name: nn.Linear(width, width) for name in ("q", "k", "v", "out")},
                "up": nn.Linear(width, 4 * width),
                "down": nn.Linear(4 * width, width),
                "first": nn.LayerNorm(width),
                "second": nn.LayerNorm(width),
            }
            self.layers.append(nn.ModuleDict(parts))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Any) -> Any:
        """Attention and a perceptron, three times."""
        x = self.table(tokens)
        batch, length, width = x.shape
        for layer in self.layers:
            q, k, v = (
                layer[name](x).view(batch, length, self.heads, -1).transpose(1, 2)
                for name in ("q", "k", "v")
            )
            shares = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, -1)
            seen = (shares @ v).transpose(1, 2).reshape(batch, length, width)
            x = layer["first"](x + layer["out"](seen))
            inner = nn.functional.gelu(layer["up"](x))
            x = layer["second"](x + layer["down"](inner))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """An LSTM and a GRU, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(20, 64, batch_first=False, bidirectional=True)
        self.second = nn.GRU(128, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """The last state of the second."""
        return self.head(self.second(self.first(x)[0])[0][-1])


def _images(size: int) -> Any:
    return torch.randn(BATCH, 3, size, size)


#: By name how a network and its samples are made.
NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "ResNet-20": (lambda: residual(3), lambda: _images(32)),
    "ResNet-56": (lambda: residual(9), lambda: _images(32)),
    "MobileNet 0.25": (separable, lambda: _images(128)),
    "transformer": (Encoder, lambda: torch.randint(0, 1000, (BATCH, 64))),
    "LSTM and GRU": (Recurrent, lambda: torch.randn(30, BATCH, 20)),
}


class _Times(NamedTuple):
    """Milliseconds of a step of PyTorch, of ours, and of the update in ours."""

    theirs: float
    ours: float
    update: float


@dataclass
class _Sides:
    """Both sides of a comparison, between two steps."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    x: Any
    target: Any
    opened: Differentiated
    weights: dict[str, Array]
    momentum: dict[str, Array]

    def loss(self) -> Any:
        """Kullback-Leibler divergence of soft targets, mean over samples."""
        shares = (torch.log_softmax(scores, 1) for scores in (self.network(self.x), self.target))
        return nn.functional.kl_div(*shares, reduction="batchmean", log_target=True)

    def their_gradients(self) -> list[Array]:
        """Gradients as PyTorch has them."""
        self.optimizer.zero_grad()
        self.loss().backward()
        grads = (p.grad for p in self.network.parameters())
        return [grad.numpy().copy() for grad in grads if grad is not None]

    def our_gradients(self) -> dict[str, Array]:
        """Gradients by name of a stored tensor."""
        feeds = {"x": self.x.numpy(), f"{TARGET}y": self.target.numpy()}
        return self.opened.run({**feeds, **self.weights})

    def step(self) -> _Times:
        """A step of each."""
        stamps = [time.process_time()]
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        stamps.append(time.process_time())
        grads = self.our_gradients()
        stamps.append(time.process_time())
        for name, grad in grads.items():
            self.momentum[name] = MOMENTUM * self.momentum[name] + grad
            self.weights[name] = self.weights[name] - RATE * self.momentum[name]
        stamps.append(time.process_time())
        theirs, run, update = (1e3 * (b - a) for a, b in pairwise(stamps))
        return _Times(theirs, run + update, update)


def measured(name: str, steps: int, threads: int) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    make, samples = NETWORKS[name]
    network, x = make(), samples()
    target = torch.randn(BATCH, network(x).shape[1])
    opened, weights = _opened(network, x, Device(threads=threads))
    optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM)
    momentum = {k: np.zeros_like(v) for k, v in weights.items()}
    sides = _Sides(network, optimizer, x, target, opened, weights, momentum)
    gap = _difference(sides.our_gradients(), sides.their_gradients())
    times = [sides.step() for _ in range(steps + 2)][2:]
    medians = _Times(*(median(column) for column in zip(*times, strict=True)))
    ratio = median(each.ours / each.theirs for each in times)
    numbers = sum(w.size for w in weights.values())
    figures = (medians.theirs, medians.ours, medians.update)
    theirs, ours, update = (f"{ms:.1f}" for ms in figures)
    return [name, f"{numbers:,}", theirs, ours, f"{ratio:.2f}", update, f"{gap:.0e}"]


def _opened(network: nn.Module, x: Any, device: Device) -> tuple[Differentiated, dict[str, Array]]:
    """The exported network's gradients, and its weights."""
    buffer, axis = io.BytesIO(), 1 if x.dim() == 3 else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (x,), buffer, input_names=["x"], output_names=["y"], opset_version=17,
            dynamo=False, dynamic_axes={"x": {axis: "samples"}},
        )  # fmt: skip
    analysis = analyze(onnx.load_from_string(buffer.getvalue()))
    read = {name: analysis.read(name) for name in analysis.parameters}
    weights = {name: v for name, v in read.items() if v is not None and v.size > 1}
    with torch.no_grad():
        seeds = output_seeds(["y"], {}, {"y": network(x).numpy()})
    made = differentiated(analysis, weights, seeds, np.dtype(np.float32), device)
    assert made is not None and not made.blocked, made
    return made, {name: v.copy() for name, v in weights.items()}


def _difference(ours: Mapping[str, Array], theirs: list[Array]) -> float:
    """The largest difference between gradients, each of ours with the nearest of its numbers.

    Exporters turn weights of products and reorder gates, so numbers are compared in their order.
    """
    worst, largest = 0.0, max(float(np.abs(grad).max()) for grad in theirs)
    for grad in ours.values():
        own = np.sort(grad.ravel())
        scale = max(float(np.abs(own).max()), LEAST * largest)
        gaps = [np.abs(own - np.sort(g, None)).max() / scale for g in _forms(theirs, grad.size)]
        worst = max(worst, float(min(gaps)))
    return worst


def _forms(grads: list[Array], size: int) -> list[Array]:
    """Gradients of a size, alone or joined as exporters join directions and biases of a layer."""
    found = []
    for start in range(len(grads)):
        for places in ((0,), (0, 1), (0, 4), (0, 1, 4, 5)):
            part = [grads[start + k].ravel() for k in places if start + k < len(grads)]
            if sum(map(len, part)) == size:
                found.append(np.concatenate(part))
    return found
