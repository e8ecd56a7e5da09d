# /// script
# requires-python = ">=3.11"
# dependencies = ["matplotlib", "numpy", "onnx", "onnxruntime", "pillow", "torch==2.13.0"]
# ///
"""Train a small vision transformer on characters that this script renders, and export it.

62 classes: digits, capital and small letters, in the Latin fonts that come with matplotlib. Glyphs
are turned, stretched, shifted and sheared, of any contrast on a slope of grey, with a bar across
and noise, so that no two pictures are alike. Layers are normalised before they read (LayerNorm),
positions are learned, one token gives the class.

The script writes to its output folder:

* ``vit.onnx``: the trained model, 1.2 million parameters;
* ``vit_calib.npz``: unlabelled calibration pictures;
* ``vit_test.npz``: test pictures and their labels.

Training, calibration and test pictures are drawn from generators of their own; training runs a
fixed schedule and looks at no other. It takes about ten minutes of one processor. `--chunk` ends it
after so many seconds, with its state in the folder; the same command goes on from there.

Usage: ``python tools/train_vit.py OUTPUT_FOLDER``
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional

SEED = 20
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SIZE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 128, 6, 4
STEPS, BATCH, WARM_UP = 1150, 64, 100
LEARNING_RATE, BETAS, WEIGHT_DECAY, SMOOTHING = 1e-3, (0.9, 0.98), 0.05, 0.05
CALIBRATION_SAMPLES, TEST_SAMPLES = 1024, 4000
#: Pixels of a glyph, of which pictures are drawn.
GLYPH = 48
#: Fonts whose letters are no Latin ones, or are drawn where others have signs.
OTHER = ("cmex", "cmsy", "cmmi", "NonUni", "SizOneSym", "SizTwoSym", "SizThreeSym", "SizFourSym",
         "SizFiveSym", "DejaVuSansDisplay", "DejaVuSerifDisplay", "LastResort")  # fmt: skip
OPSET = 17

log = logging.getLogger("train_vit")


class Block(nn.Module):
    """Attention and a perceptron, each normalised before and added to the stream."""

    def __init__(self) -> None:
        """Build a block with freshly initialised weights."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map a stream (batch, tokens, width) to the next one."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        shares = (q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        x = x + self.proj((shares @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))
        y: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return y


class ViT(nn.Module):
    """Patches, a class token, learned positions, blocks, and a classifier."""

    def __init__(self) -> None:
        """Build the model with freshly initialised weights."""
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CHARACTERS))

    def forward(self, image: Tensor) -> Tensor:
        """Map images (batch, 1, 32, 32) to logits (batch, 62)."""
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class Pictures(NamedTuple):
    """Pictures (n, 1, 32, 32) and their classes (n,)."""

    images: Tensor
    labels: Tensor


def fonts() -> list[Path]:
    """List the files of the Latin fonts that matplotlib brings along.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise SystemExit("matplotlib is not installed, whose fonts are drawn: pip install it")
    folder = Path(found.origin).parent / "mpl-data/fonts/ttf"
    return [path for path in sorted(folder.glob("*.ttf")) if not path.name.startswith(OTHER)
            and not any(part in path.name for part in OTHER)]  # fmt: skip


def glyphs() -> Tensor:
    """Draw every character of every font, (fonts, 62, 48, 48), on one base line."""
    found = []
    for path in fonts():
        font = ImageFont.truetype(str(path), 34)
        row = []
        for character in CHARACTERS:
            image = Image.new("L", (GLYPH, GLYPH))
            ImageDraw.Draw(image).text((GLYPH // 2, 35), character, 255, font, anchor="ms")
            row.append(np.asarray(image, np.float32) / 255)
        found.append(np.stack(row))
    return torch.from_numpy(np.stack(found))


def drawn(bank: Tensor, count: int, rng: torch.Generator) -> Pictures:
    """Draw random characters as pictures that are hard to read."""

    def number(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=rng)

    labels = torch.randint(bank.shape[1], (count,), generator=rng)
    chosen = bank[torch.randint(bank.shape[0], (count,), generator=rng), labels]
    angle, shear, stretch = number(-0.2, 0.2), number(-0.1, 0.1), number(0.9, 1.1)
    scale = number(0.75, 0.9)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [
        cos * stretch,
        -sin + shear,
        number(-0.07, 0.07),
        sin * stretch,
        cos,
        number(-0.07, 0.07),
    ]
    grid = functional.affine_grid(
        torch.stack(rows, 1).view(count, 2, 3), [count, 1, SIZE, SIZE], align_corners=False
    )
    shape = functional.grid_sample(chosen[:, None], grid, align_corners=False)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    turn, offset, width = (
        t[:, None, None] for t in (number(0, 3.2), number(-1, 1), number(0, 0.04))
    )
    bar = ((x * turn.cos() + y * turn.sin() - offset).abs() < width)[:, None]
    slope = (x * turn.sin() + y * turn.cos())[:, None] * number(-0.2, 0.2)[:, None, None, None]
    contrast = number(0.65, 1.0)[:, None, None, None]
    image = contrast * torch.maximum(shape, 0.8 * bar) + slope
    noise = torch.randn(image.shape, generator=rng) * number(0.03, 0.1)[:, None, None, None]
    return Pictures(image + noise, labels)


def train(model: nn.Module, bank: Tensor, state: Path, seconds: float) -> bool:
    """Fit the model in place, from the state of a run before; whether it is finished.

    The pictures of a step depend on its number alone, so that parts make the same run.
    """
    optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    first, begin = 0, time.monotonic()
    if state.exists():
        saved: dict[str, Any] = torch.load(state)
        first = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    model.train()
    for step in range(first, STEPS):
        if time.monotonic() - begin > seconds:
            parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({"step": step, **parts}, state)
            log.info("stopped at step %d of %d: run again to go on", step, STEPS)
            return False
        fall = 0.5 * (1 + np.cos(np.pi * (step - WARM_UP) / (STEPS - WARM_UP)))
        rate = LEARNING_RATE * float(min(step / WARM_UP, fall if step > WARM_UP else 1.0))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pictures = drawn(bank, BATCH, torch.Generator().manual_seed(SEED + 10 + step))
        loss = criterion(model(pictures.images), pictures.labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            log.info("step %4d  training loss %.4f", step, loss.item())
    state.unlink(missing_ok=True)
    return True


def export(model: nn.Module, path: Path) -> None:
    """Write the model as ONNX, for any number of pictures."""
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, SIZE, SIZE),),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(onnx.load(path), full_check=True)


def accuracy(path: Path, pictures: Pictures) -> float:
    """Share of pictures that the exported model names right."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    images: NDArray[np.float32] = pictures.images.numpy()
    (logits,) = session.run(["logits"], {"image": images})
    return float(np.mean(np.argmax(logits, axis=1) == pictures.labels.numpy()))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train and export a small vision transformer.")
    parser.add_argument("output", type=Path, help="output folder")
    parser.add_argument("--chunk", type=float, default=1e9, help="seconds of one run at most")
    return parser.parse_args()


def main() -> None:
    """Train, export, and save the data that belong to the model."""
    arguments = parse_arguments()
    output: Path = arguments.output
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    model, bank = ViT(), glyphs()
    log.info("%d fonts, %d parameters", len(bank), sum(p.numel() for p in model.parameters()))
    if not train(model, bank, output / "vit_state.pt", arguments.chunk):
        return
    export(model, output / "vit.onnx")
    calib = drawn(bank, CALIBRATION_SAMPLES, torch.Generator().manual_seed(SEED + 1))
    test = drawn(bank, TEST_SAMPLES, torch.Generator().manual_seed(SEED + 2))
    np.savez_compressed(output / "vit_calib.npz", image=calib.images.numpy())
    np.savez_compressed(
        output / "vit_test.npz", image=test.images.numpy(), labels=test.labels.numpy()
    )
    right = accuracy(output / "vit.onnx", test)
    log.info("test accuracy: %.2f %% of %d", 100 * right, TEST_SAMPLES)


if __name__ == "__main__":
    main()
