"""Sequences, sound, points and tables: recurrent nets, TCN, Conv-TasNet, DLRM, NeRF."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from corpus import Net, network
from torch import Tensor, nn


class _Recurrent(nn.Module):
    """Embedding, recurrent layers, a head on the last step or on every step."""

    def __init__(self, kind: str, layers: int, both: bool, every: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.rnn = getattr(nn, kind)(32, 48, layers, batch_first=True, bidirectional=both)
        self.head = nn.Sequential(nn.Linear(48 * (1 + both), 64), nn.ReLU(), nn.Linear(64, 5))
        self.every = every

    def forward(self, ids: Tensor) -> Tensor:
        y = self.rnn(self.embed(ids))[0]
        return self.head(y if self.every else y[:, -1])


class _Stateful(nn.Module):
    """One step of a streaming LSTM: states go in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(16, 32, 3, 1, 1), nn.ReLU())
        self.rnn, self.out = nn.LSTM(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(self.front(x).permute(2, 0, 1), (h, c))
        return self.out(y), h, c


class _CRNN(nn.Module):
    """Text lines: convolutions, columns become steps, two bidirectional layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((1, 32), (32, 64), (64, 96)):
            layers += [nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.rnn = nn.LSTM(96 * 4, 48, 2, bidirectional=True)
        self.out = nn.Linear(96, 30)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y.permute(3, 0, 1, 2).flatten(2)
        return self.out(self.rnn(y)[0]).log_softmax(-1)


class _KWS(nn.Module):
    """Depthwise-separable convolutions over a spectrogram."""

    def __init__(self, w: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, w, (10, 4), 2, (5, 1)),
            nn.BatchNorm2d(w),
            nn.ReLU(),
        ]
        for _ in range(4):
            layers += [nn.Conv2d(w, w, 3, 1, 1, groups=w), nn.BatchNorm2d(w), nn.ReLU(),
                       nn.Conv2d(w, w, 1), nn.BatchNorm2d(w), nn.ReLU()]  # fmt: skip
        self.body, self.out = nn.Sequential(*layers), nn.Linear(w, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).mean((2, 3)))


class _TCN(nn.Module):
    """Dilated causal convolutions with cut ends and residual sums."""

    def __init__(self, w: int = 48) -> None:
        super().__init__()
        self.a = nn.ModuleList(nn.Conv1d(w if k else 8, w, 3, padding=2**(k + 1), dilation=2**k)
                               for k in range(4))  # fmt: skip
        self.b = nn.ModuleList(nn.Conv1d(w, w, 1) for _ in range(4))
        self.out = nn.Linear(w, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for k, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            z = b(F.relu(a(y)[..., : -(2 ** (k + 1))]))
            y = z if k == 0 else F.relu(y + z)
        return self.out(y.transpose(1, 2))


class _WaveNet(nn.Module):
    """Gated dilated convolutions; skips are summed."""

    def __init__(self, w: int = 32) -> None:
        super().__init__()
        self.front = nn.Conv1d(1, w, 1)
        self.gate = nn.ModuleList(nn.Conv1d(w, 2 * w, 3, padding=2**k, dilation=2**k)
                                  for k in range(4))  # fmt: skip
        self.res = nn.ModuleList(nn.Conv1d(w, w, 1) for _ in range(4))
        self.skip = nn.ModuleList(nn.Conv1d(w, 48, 1) for _ in range(4))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(48, 48, 1), nn.ReLU(), nn.Conv1d(48, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        y, total = self.front(x), None
        for gate, res, skip in zip(self.gate, self.res, self.skip, strict=True):
            a, b = gate(y).chunk(2, 1)
            z = a.tanh() * b.sigmoid()
            total = skip(z) if total is None else total + skip(z)
            y = y + res(z)
        return self.out(total)


class _TasNet(nn.Module):
    """Learnt filter bank, separable dilated blocks, global normalisation, masks: Conv-TasNet."""

    def __init__(self, n: int = 48, b: int = 32, h: int = 64) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, n, 16, 8), nn.ConvTranspose1d(n, 1, 16, 8)
        self.norm, self.narrow = nn.GroupNorm(1, n), nn.Conv1d(n, b, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv1d(b, h, 1), nn.PReLU(), nn.GroupNorm(1, h),
                          nn.Conv1d(h, h, 3, padding=2**k, dilation=2**k, groups=h), nn.PReLU(),
                          nn.BatchNorm1d(h), nn.Conv1d(h, b, 1)) for k in range(3))  # fmt: skip
        self.mask = nn.Conv1d(b, 2 * n, 1)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(x).relu()
        y = self.narrow(self.norm(code))
        for block in self.blocks:
            y = y + block(y)
        masks = self.mask(y).sigmoid().view(x.shape[0], 2, code.shape[1], -1)
        separate = (masks * code[:, None]).flatten(0, 1)
        return self.decode(separate).view(x.shape[0], 2, -1)


class _DLRM(nn.Module):
    """Tables, a tower for numbers, all pairs of dot products, a tower on top."""

    def __init__(self, d: int = 16) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(50, d) for _ in range(4))
        self.bottom = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, d), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(d + 10, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
                                 nn.Linear(64, 1), nn.Sigmoid())  # fmt: skip
        rows, columns = torch.tril_indices(5, 5, -1)
        self.register_buffer("pairs", rows * 5 + columns)

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        rows = torch.stack([dense, *(t(ids[:, k]) for k, t in enumerate(self.tables))], 1)
        dots = (rows @ rows.transpose(1, 2)).flatten(1)[:, self.pairs]
        return self.top(torch.cat((dense, dots), 1))


class _Towers(nn.Module):
    """Two texts through the same weights, compared by cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.tower = nn.Sequential(nn.Linear(32, 96), nn.ReLU(), nn.Linear(96, 64), nn.Tanh(),
                                   nn.Linear(64, 24))  # fmt: skip

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x, y = (F.normalize(self.tower(self.embed(t).mean(1)), dim=-1) for t in (a, b))
        return (x * y).sum(-1)


class _NeRF(nn.Module):
    """Points in sines and cosines, a deep tower whose input joins again half way."""

    def __init__(self, w: int = 96) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(39, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU())
        self.b = nn.Sequential(nn.Linear(w + 39, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU())
        self.density, self.colour = nn.Linear(w, 1), nn.Sequential(nn.Linear(w, 3), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bands = [f(2.0**k * x) for k in range(6) for f in (torch.sin, torch.cos)]
        code = torch.cat((x, *bands), -1)
        y = self.b(torch.cat((self.a(code), code), -1))
        return self.density(y).relu(), self.colour(y)


class _PointNet(nn.Module):
    """Shared layers per point, the maximum over points, and points with the whole joined."""

    def __init__(self) -> None:
        super().__init__()

        def unit(a: int, b: int) -> nn.Module:
            return nn.Sequential(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU())

        self.a, self.b = nn.Sequential(unit(3, 32), unit(32, 64)), nn.Sequential(unit(64, 128))
        self.c = nn.Sequential(unit(192, 96), nn.Conv1d(96, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        whole = self.b(a).amax(2, keepdim=True).expand(-1, -1, x.shape[2])
        return self.c(torch.cat((a, whole), 1))


class _Mixture(nn.Module):
    """Three experts weighed by a softmax gate, all computed."""

    def __init__(self, d: int = 32) -> None:
        super().__init__()
        self.gate = nn.Linear(d, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 96), nn.GELU(), nn.Linear(96, d)) for _ in range(3)
        )
        self.out = nn.Linear(d, 4)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).softmax(-1)
        rows = torch.stack([e(x) for e in self.experts], -1)
        return self.out(x + (rows * share.unsqueeze(-2)).sum(-1))


class _Graph(nn.Module):
    """Graph convolutions with the adjacency as an input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 64), nn.Linear(64, 64), nn.Linear(64, 5)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        y = (adjacency @ self.a(x)).relu()
        y = (adjacency @ self.b(y)).relu()
        return adjacency @ self.c(y)


class _Seq2Seq(nn.Module):
    """A GRU reads, another writes with attention over what was read."""

    def __init__(self, d: int = 40) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(50, d), nn.Embedding(50, d)
        self.read, self.write = nn.GRU(d, d, batch_first=True), nn.GRU(d, d, batch_first=True)
        self.join, self.out = nn.Linear(2 * d, d), nn.Linear(d, 50)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.read(self.source(source))
        y = self.write(self.target(target), state)[0]
        seen = (y @ memory.transpose(1, 2)).softmax(-1) @ memory
        return self.out(self.join(torch.cat((y, seen), -1)).tanh())


def _ids(length: int = 12) -> Tensor:
    return torch.randint(0, 50, (1, length))


def _add(name: str, family: str, make: Any, **options: Any) -> None:
    network(name, family, "written out", make, **options)


OLD: dict[str, Any] = {"dynamo": False}
RNN = "recurrent"
_add("lstm", RNN, lambda: Net(_Recurrent("LSTM", 1, False), (_ids(),)), **OLD, opset=11)
_add("lstm_stacked", RNN, lambda: Net(_Recurrent("LSTM", 2, True), (_ids(),)), **OLD, opset=13)
_add("gru_both", RNN, lambda: Net(_Recurrent("GRU", 2, True, True), (_ids(),)), **OLD, opset=14,
     dynamic=({0: "batch", 1: "length"},))  # fmt: skip
_add("rnn", RNN, lambda: Net(_Recurrent("RNN", 2, False), (_ids(),)), **OLD, opset=9)
_add("lstm_export", RNN, lambda: Net(_Recurrent("LSTM", 2, False), (_ids(),)))
_add("gru_export", RNN, lambda: Net(_Recurrent("GRU", 1, True), (_ids(),)))
_add("lstm_states", RNN,
     lambda: Net(_Stateful(), (torch.rand(1, 16, 6), torch.zeros(1, 1, 32), torch.zeros(1, 1, 32))),
     **OLD, opset=13)  # fmt: skip
_add("crnn", RNN, lambda: Net(_CRNN(), (torch.rand(1, 1, 32, 64),)), **OLD, opset=13,
     dynamic=({3: "width"},))  # fmt: skip
_add("seq2seq", RNN, lambda: Net(_Seq2Seq(), (_ids(), _ids(6))), **OLD, opset=13)
_add("kws", "audio", lambda: Net(_KWS(), (torch.rand(1, 1, 49, 10),)), **OLD, opset=8)
_add("tcn", "audio", lambda: Net(_TCN(), (torch.rand(1, 8, 32),)), dynamic=({0: "batch"},))
_add("wavenet", "audio", lambda: Net(_WaveNet(), (torch.rand(1, 1, 64),)), **OLD, opset=11,
     dynamic=({2: "length"},))  # fmt: skip
_add("conv_tasnet", "audio", lambda: Net(_TasNet(), (torch.rand(1, 1, 800),)), **OLD, opset=17)
_add("dlrm", "tables", lambda: Net(_DLRM(), (torch.rand(1, 13), torch.randint(0, 50, (1, 4)))))
_add("two_towers", "text", lambda: Net(_Towers(), (_ids(), _ids())), **OLD, opset=13)
_add("nerf", "points", lambda: Net(_NeRF(), (torch.rand(64, 3),)), dynamic=({0: "points"},))
_add("pointnet", "points", lambda: Net(_PointNet(), (torch.rand(1, 3, 64),)), **OLD, opset=13)
_add("soft_mixture", "text", lambda: Net(_Mixture(), (torch.rand(1, 8, 32),)))
_add("graph_convolution", "graph", lambda: Net(_Graph(), (torch.rand(10, 12), torch.rand(10, 10))))
