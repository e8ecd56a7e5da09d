"""Images to images, written out: UNet, FPN, super-resolution, style, GAN, diffusion, coders."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from corpus import Net, network
from torch import Tensor, nn


def _conv(a: int, b: int, s: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())


class _UNet(nn.Module):
    """Three levels; up by transposed convolution or by resizing."""

    def __init__(self, transposed: bool, w: int = 24) -> None:
        super().__init__()
        widths = (w, 2 * w, 4 * w, 8 * w)
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b), _conv(b, b))
            for a, b in zip((3, *widths), widths, strict=False)
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.lift = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, 2) if transposed else nn.Conv2d(a, b, 1) for a, b in pairs
        )
        self.up = nn.ModuleList(nn.Sequential(_conv(2 * b, b), _conv(b, b)) for _, b in pairs)
        self.out, self.transposed = nn.Conv2d(w, 2, 1), transposed

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for k, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for lift, block, skip in zip(self.lift, self.up, kept[-2::-1], strict=True):
            if not self.transposed:
                x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
            x = block(torch.cat((lift(x), skip), 1))
        return self.out(x)


class _UNet3d(nn.Module):
    """Volumes, instance normalisation, leaky units: medical segmentation."""

    def __init__(self) -> None:
        super().__init__()

        def block(a: int, b: int, s: int = 1) -> nn.Module:
            return nn.Sequential(
                nn.Conv3d(a, b, 3, s, 1), nn.InstanceNorm3d(b, affine=True), nn.LeakyReLU(0.01)
            )

        self.a, self.b, self.c = block(1, 16), block(16, 32, 2), block(32, 64, 2)
        self.up_c, self.up_b = nn.ConvTranspose3d(64, 32, 2, 2), nn.ConvTranspose3d(32, 16, 2, 2)
        self.d, self.e, self.out = block(64, 32), block(32, 16), nn.Conv3d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        y = self.d(torch.cat((self.up_c(self.c(b)), b), 1))
        return self.out(self.e(torch.cat((self.up_b(y), a), 1)))


class _FPN(nn.Module):
    """Residual stages, lateral sums, one output per level."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(a, b, 2), _conv(b, b))
            for a, b in zip((3, *widths), widths, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, 64, 1) for c in widths)
        self.smooth = nn.ModuleList(_conv(64, 64) for _ in widths)
        self.head = nn.Conv2d(64, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for k in (1, 0):
            levels[k] = levels[k] + F.interpolate(levels[k + 1], scale_factor=2.0)
        return tuple(self.head(s(y)) for s, y in zip(self.smooth, levels, strict=True))


class _ESPCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 64, 5, 1, 2), nn.Tanh(), nn.Conv2d(64, 32, 3, 1, 1), nn.Tanh(),
            nn.Conv2d(32, 9, 3, 1, 1), nn.PixelShuffle(3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).sigmoid()


class _EDSR(nn.Module):
    """Residual blocks with a scale, two pixel shuffles."""

    def __init__(self, w: int = 48, n: int = 4) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, w, 3, 1, 1), nn.Conv2d(w, 3, 3, 1, 1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w, 3, 1, 1), nn.ReLU(), nn.Conv2d(w, w, 3, 1, 1))
            for _ in range(n)
        )
        self.up = nn.Sequential(
            *(
                layer
                for _ in range(2)
                for layer in (nn.Conv2d(w, 4 * w, 3, 1, 1), nn.PixelShuffle(2))
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.head(x)
        for block in self.body:
            y = y + 0.1 * block(y)
        return self.tail(self.up(y + first))


class _RRDB(nn.Module):
    """Residual in residual dense blocks: ESRGAN."""

    def __init__(self, w: int = 32, g: int = 16) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, w, 3, 1, 1), nn.Conv2d(w, 3, 3, 1, 1)
        self.dense = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(w + k * g, g if k < 4 else w, 3, 1, 1) for k in range(5))
            for _ in range(3)
        )
        self.up = nn.Conv2d(w, w, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.head(x)
        for block in self.dense:
            seen = [y]
            for conv in block:
                seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
            y = y + 0.2 * seen[-1]
        y = F.interpolate(y * 0.2 + first, scale_factor=2.0)
        return self.tail(F.leaky_relu(self.up(y), 0.2))


class _Style(nn.Module):
    """Reflection padding and instance normalisation: fast style transfer."""

    def __init__(self) -> None:
        super().__init__()

        def unit(a: int, b: int, k: int, s: int) -> nn.Module:
            return nn.Sequential(nn.ReflectionPad2d(k // 2), nn.Conv2d(a, b, k, s),
                                 nn.InstanceNorm2d(b, affine=True), nn.ReLU())  # fmt: skip

        self.down = nn.Sequential(unit(3, 16, 9, 1), unit(16, 32, 3, 2), unit(32, 64, 3, 2))
        self.residual = nn.ModuleList(
            nn.Sequential(unit(64, 64, 3, 1), unit(64, 64, 3, 1)) for _ in range(2)
        )
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), unit(64, 32, 3, 1),
                                nn.Upsample(scale_factor=2), unit(32, 16, 3, 1))  # fmt: skip
        self.out = nn.Sequential(nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        for block in self.residual:
            y = y + block(y)
        return self.out(self.up(y))


class _Generator(nn.Module):
    """A vector to an image: DCGAN."""

    def __init__(self, w: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, s in ((32, 8 * w, 1), (8 * w, 4 * w, 2), (4 * w, 2 * w, 2), (2 * w, w, 2)):
            layers += [nn.ConvTranspose2d(a, b, 4, s, int(s > 1), bias=False),
                       nn.BatchNorm2d(b), nn.ReLU()]  # fmt: skip
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(w, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z[:, :, None, None])


class _VAE(nn.Module):
    """Convolutions, a flat code of mean and spread, and back; the noise is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(_conv(1, 32, 2), _conv(32, 64, 2), nn.Flatten(),
                                    nn.Linear(64 * 49, 128), nn.ReLU())  # fmt: skip
        self.mean, self.spread = nn.Linear(128, 16), nn.Linear(128, 16)
        self.lift = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 64 * 49))
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)
        )

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.encode(x)
        mean, spread = self.mean(code), self.spread(code)
        z = self.lift(mean + noise * (0.5 * spread).exp())
        return self.decode(z.view(-1, 64, 7, 7)).sigmoid(), mean, spread


class _ResBlock(nn.Module):
    """Group normalisation and a shift by the embedded time."""

    def __init__(self, a: int, b: int, t: int) -> None:
        super().__init__()
        self.n1, self.c1 = nn.GroupNorm(8, a), nn.Conv2d(a, b, 3, 1, 1)
        self.n2, self.c2 = nn.GroupNorm(8, b), nn.Conv2d(b, b, 3, 1, 1)
        self.time, self.skip = nn.Linear(t, b), nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.c1(F.silu(self.n1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.c2(F.silu(self.n2(y)))


class _Diffusion(nn.Module):
    """A small denoising UNet: sinusoidal time, group normalisation, attention in the middle."""

    def __init__(self, w: int = 32) -> None:
        super().__init__()
        t = 4 * w
        self.time = nn.Sequential(nn.Linear(w, t), nn.SiLU(), nn.Linear(t, t))
        self.stem, self.w = nn.Conv2d(3, w, 3, 1, 1), w
        self.a, self.b, self.c = (
            _ResBlock(w, w, t),
            _ResBlock(w, 2 * w, t),
            _ResBlock(2 * w, 2 * w, t),
        )
        self.norm, self.qkv = nn.GroupNorm(8, 2 * w), nn.Conv2d(2 * w, 6 * w, 1)
        self.project = nn.Conv2d(2 * w, 2 * w, 1)
        self.d, self.e = _ResBlock(4 * w, 2 * w, t), _ResBlock(3 * w, w, t)
        self.last, self.out = nn.GroupNorm(8, w), nn.Conv2d(w, 3, 3, 1, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        rates = torch.exp(-torch.arange(self.w // 2) / self.w * 9.0)
        angles = step[:, None] * rates[None]
        t = self.time(torch.cat((angles.sin(), angles.cos()), 1))
        a = self.a(self.stem(x), t)
        b = self.b(F.avg_pool2d(a, 2), t)
        y = self.c(F.avg_pool2d(b, 2), t)
        n, c, h, w = y.shape
        q, k, v = self.qkv(self.norm(y)).view(n, 3, 4, c // 4, h * w).unbind(1)
        weights = (q.transpose(-1, -2) @ k * (c // 4) ** -0.5).softmax(-1)
        y = y + self.project((v @ weights.transpose(-1, -2)).reshape(n, c, h, w))
        y = self.d(torch.cat((F.interpolate(y, scale_factor=2.0), b), 1), t)
        y = self.e(torch.cat((F.interpolate(y, scale_factor=2.0), a), 1), t)
        return self.out(F.silu(self.last(y)))


def _image(channels: int = 3, size: int = 64) -> Tensor:
    return torch.rand(1, channels, size, size)


def _add(name: str, family: str, make: Any, **options: Any) -> None:
    network(name, family, "written out", make, **options)


OLD: dict[str, Any] = {"dynamo": False}
SR = "super-resolution"
_add("unet", "segmentation", lambda: Net(_UNet(True), (_image(),)), **OLD, opset=11,
     dynamic=({0: "n", 2: "h", 3: "w"},))  # fmt: skip
_add("unet_resized", "segmentation", lambda: Net(_UNet(False), (_image(),)))
_add("unet_3d", "segmentation", lambda: Net(_UNet3d(), (torch.rand(1, 1, 8, 16, 16),)), **OLD,
     opset=13)  # fmt: skip
_add("fpn", "segmentation", lambda: Net(_FPN(), (_image(),)), dynamic=({0: "batch"},))
_add("espcn", SR, lambda: Net(_ESPCN(), (_image(1, 32),)), **OLD, opset=11,
     dynamic=({2: "h", 3: "w"},))  # fmt: skip
_add("edsr", SR, lambda: Net(_EDSR(), (_image(3, 24),)))
_add("rrdb", SR, lambda: Net(_RRDB(), (_image(3, 24),)), **OLD, opset=13)
_add("style", "image to image", lambda: Net(_Style(), (_image(),)), **OLD, opset=9)
_add("dcgan", "GAN", lambda: Net(_Generator(), (torch.randn(1, 32),)))
_add(
    "vae", "autoencoder", lambda: Net(_VAE(), (_image(1, 28), torch.randn(1, 16))), **OLD, opset=13
)
_add("diffusion", "diffusion", lambda: Net(_Diffusion(), (_image(3, 32), torch.tensor([5.0]))),
     **OLD,
     opset=17)  # fmt: skip
_add("diffusion_export", "diffusion",
     lambda: Net(_Diffusion(), (_image(3, 32), torch.tensor([5.0]))))  # fmt: skip
