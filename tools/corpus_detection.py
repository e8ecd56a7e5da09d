"""Detectors and their parts, written out: YOLO v3, v5 and v8, SSD, DETR, CenterNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from corpus import Net, network
from torch import Tensor, nn


def _unit(c1: int, c2: int, k: int = 1, s: int = 1, act: Any = None) -> nn.Module:
    """Convolution, normalisation, activation."""
    conv = nn.Conv2d(c1, c2, k, s, (k - 1) // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c2), act or nn.SiLU())


class _Bottleneck(nn.Module):
    def __init__(self, c1: int, c2: int, shortcut: bool = True, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.a, self.b = _unit(c1, hidden, 3), _unit(hidden, c2, 3)
        self.shortcut = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return x + y if self.shortcut else y


class _C3(nn.Module):
    """Two branches, one through bottlenecks, joined: YOLO v5."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        hidden = c2 // 2
        self.a, self.b, self.c = _unit(c1, hidden), _unit(c1, hidden), _unit(2 * hidden, c2)
        self.m = nn.Sequential(*(_Bottleneck(hidden, hidden, shortcut, 1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat((self.m(self.a(x)), self.b(x)), 1))


class _C2f(nn.Module):
    """One convolution split in halves, every bottleneck's result joined: YOLO v8."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        self.hidden = c2 // 2
        self.a, self.b = _unit(c1, 2 * self.hidden), _unit((2 + n) * self.hidden, c2)
        self.m = nn.ModuleList(
            _Bottleneck(self.hidden, self.hidden, shortcut, 1.0) for _ in range(n)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.a(x).split((self.hidden, self.hidden), 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.b(torch.cat(y, 1))


class _SPPF(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.a, self.b = _unit(c1, c1 // 2), _unit(c1 * 2, c2)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.a(x)]
        for _ in range(3):
            y.append(self.pool(y[-1]))
        return self.b(torch.cat(y, 1))


class _Pyramid(nn.Module):
    """Backbone and path aggregation neck of YOLO; `block` is C3 or C2f. Three levels."""

    def __init__(self, block: Callable[..., nn.Module], w: int = 16) -> None:
        super().__init__()
        down = [_unit(3, w, 6 if block is _C3 else 3, 2)]
        self.stem = nn.Sequential(down[0], _unit(w, 2 * w, 3, 2), block(2 * w, 2 * w, 1))
        self.p3 = nn.Sequential(_unit(2 * w, 4 * w, 3, 2), block(4 * w, 4 * w, 2))
        self.p4 = nn.Sequential(_unit(4 * w, 8 * w, 3, 2), block(8 * w, 8 * w, 2))
        self.p5 = nn.Sequential(
            _unit(8 * w, 16 * w, 3, 2), block(16 * w, 16 * w, 1), _SPPF(16 * w, 16 * w)
        )
        self.up4, self.up3 = block(24 * w, 8 * w, 1, False), block(12 * w, 4 * w, 1, False)
        self.d3, self.d4 = _unit(4 * w, 4 * w, 3, 2), _unit(8 * w, 8 * w, 3, 2)
        self.n4, self.n5 = block(12 * w, 8 * w, 1, False), block(24 * w, 16 * w, 1, False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.up4(torch.cat((F.interpolate(p5, scale_factor=2.0), p4), 1))
        n3 = self.up3(torch.cat((F.interpolate(n4, scale_factor=2.0), p3), 1))
        n4 = self.n4(torch.cat((self.d3(n3), n4), 1))
        return n3, n4, self.n5(torch.cat((self.d4(n4), p5), 1))


class _YoloV5(nn.Module):
    """Anchors and sigmoid boxes, decoded as the export does."""

    def __init__(self, classes: int = 8, w: int = 16) -> None:
        super().__init__()
        self.body, self.n = _Pyramid(_C3, w), classes + 5
        self.head = nn.ModuleList(nn.Conv2d(k * w, 3 * self.n, 1) for k in (4, 8, 16))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for level, head in zip(self.body(x), self.head, strict=True):
            b, _, h, w = (y := head(level)).shape
            y = y.view(b, 3, self.n, h, w).permute(0, 1, 3, 4, 2).sigmoid()
            xy, wh, rest = y.split((2, 2, self.n - 4), 4)
            y = torch.cat((xy * 2 - 0.5, (wh * 2) ** 2, rest), 4)
            found.append(y.reshape(b, 3 * h * w, self.n))
        return torch.cat(found, 1)


class _YoloV8(nn.Module):
    """Separate heads for boxes and classes; boxes are expectations over 16 bins."""

    def __init__(self, classes: int = 8, w: int = 16) -> None:
        super().__init__()
        self.body, self.classes = _Pyramid(_C2f, w), classes
        self.box = nn.ModuleList(self._head(k * w, 64) for k in (4, 8, 16))
        self.cls = nn.ModuleList(self._head(k * w, classes) for k in (4, 8, 16))
        self.bins = nn.Conv2d(16, 1, 1, bias=False)
        self.bins.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)

    @staticmethod
    def _head(c: int, out: int) -> nn.Module:
        return nn.Sequential(_unit(c, 64, 3), _unit(64, 64, 3), nn.Conv2d(64, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        levels = self.body(x)
        parts = [
            torch.cat((b(y), c(y)), 1).flatten(2)
            for y, b, c in zip(levels, self.box, self.cls, strict=True)
        ]
        box, cls = torch.cat(parts, 2).split((64, self.classes), 1)
        box = box.view(box.shape[0], 4, 16, -1).transpose(1, 2).softmax(1)
        box = self.bins(box).view(box.shape[0], 4, -1)
        return torch.cat((box, cls.sigmoid()), 1)


class _YoloV3Tiny(nn.Module):
    """Leaky chain with two raw outputs, as Darknet converters write it."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.LeakyReLU(0.1)
        self.low = nn.Sequential(
            *(nn.Sequential(_unit(a, b, 3, 1, act), nn.MaxPool2d(2)) for a, b in
              ((3, 16), (16, 32), (32, 64), (64, 128))), _unit(128, 256, 3, 1, act))  # fmt: skip
        self.high = nn.Sequential(nn.MaxPool2d(2), _unit(256, 256, 3, 1, act),
                                  _unit(256, 128, 1, 1, act))  # fmt: skip
        self.big = nn.Sequential(_unit(128, 256, 3, 1, act), nn.Conv2d(256, 39, 1))
        self.lateral = _unit(128, 64, 1, 1, act)
        self.small = nn.Sequential(_unit(320, 128, 3, 1, act), nn.Conv2d(128, 39, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        high = self.high(low)
        up = F.interpolate(self.lateral(high), scale_factor=2.0)
        return self.big(high), self.small(torch.cat((up, low), 1))


class _SSD(nn.Module):
    """Depthwise backbone; boxes and softmaxed scores of all levels behind one another."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        act = nn.ReLU6()

        def step(a: int, b: int, s: int) -> nn.Module:
            depth = nn.Conv2d(a, a, 3, s, 1, groups=a, bias=False)
            return nn.Sequential(depth, nn.BatchNorm2d(a), act, _unit(a, b, 1, 1, act))

        self.stem = nn.Sequential(_unit(3, 16, 3, 2, act), step(16, 32, 2), step(32, 64, 2))
        self.levels = nn.ModuleList((step(64, 96, 1), step(96, 128, 2), step(128, 128, 2)))
        self.box = nn.ModuleList(nn.Conv2d(c, 4 * 4, 3, 1, 1) for c in (96, 128, 128))
        self.cls = nn.ModuleList(nn.Conv2d(c, 4 * classes, 3, 1, 1) for c in (96, 128, 128))
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, boxes, scores = self.stem(x), [], []
        for level, box, cls in zip(self.levels, self.box, self.cls, strict=True):
            y = level(y)
            boxes.append(box(y).permute(0, 2, 3, 1).reshape(y.shape[0], -1, 4))
            scores.append(cls(y).permute(0, 2, 3, 1).reshape(y.shape[0], -1, self.classes))
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


class _Detr(nn.Module):
    """Convolutional backbone, encoder and decoder with learnt queries."""

    def __init__(self, d: int = 64, classes: int = 6) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.body = nn.Sequential(
            _unit(3, 16, 3, 2, relu), _unit(16, 32, 3, 2, relu), _Bottleneck(32, 32),
            _unit(32, 64, 3, 2, relu), _Bottleneck(64, 64), _unit(64, 128, 3, 2, relu),
        )  # fmt: skip
        self.project = nn.Conv2d(128, d, 1)
        self.position = nn.Parameter(torch.randn(1, 16, d) * 0.1)
        self.queries = nn.Parameter(torch.randn(1, 10, d))
        self.transformer = nn.Transformer(d, 4, 2, 2, 256, 0.0, batch_first=True)
        self.cls = nn.Linear(d, classes + 1)
        self.box = nn.Sequential(nn.Linear(d, d), relu, nn.Linear(d, d), relu, nn.Linear(d, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.project(self.body(x)).flatten(2).transpose(1, 2) + self.position
        y = self.transformer(tokens, self.queries.expand(x.shape[0], -1, -1))
        return self.cls(y), self.box(y).sigmoid()


class _CenterNet(nn.Module):
    """Transposed convolutions up to a heat map, its peaks kept by a pool; three outputs."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.body = nn.Sequential(
            _unit(3, 32, 3, 2, relu), _Bottleneck(32, 32), _unit(32, 64, 3, 2, relu),
            _Bottleneck(64, 64), _unit(64, 128, 3, 2, relu),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), relu
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 32, 3, 1, 1), relu, nn.Conv2d(32, n, 1)) for n in (5, 2, 2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.up(self.body(x))
        heat, size, shift = (head(y) for head in self.heads)
        heat = heat.sigmoid()
        return heat * (F.max_pool2d(heat, 3, 1, 1) == heat), size, shift


def _add(name: str, module: type[nn.Module], size: int = 64, **options: Any) -> None:
    network(name, "detection", "written out",
            lambda: Net(module(), (torch.rand(1, 3, size, size),)), **options)  # fmt: skip


_add("yolov5", _YoloV5, dynamo=False, opset=12)
_add("yolov8", _YoloV8, dynamo=False, opset=17)
_add("yolov8_export", _YoloV8, dynamic=({0: "batch"},))
_add("yolov3_tiny", _YoloV3Tiny, dynamo=False, opset=11)
_add("ssd_mobile", _SSD, dynamo=False, opset=9)
_add("detr", _Detr, dynamo=False, opset=17)
_add("centernet", _CenterNet)
