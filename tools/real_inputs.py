"""What real models are fed: photographs, lines of text, sentences, files; sound is synthesised.

Photographs, lines, sentences and files come from ../shared. Of each kind the first samples
calibrate, and those behind them are compared.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_packages import MissingError

__all__ = [
    "files", "letters", "lines", "notes", "pages", "photographs", "scores_of_speech", "sentences",
    "voices", "windows",
]  # fmt: skip

Array = NDArray[Any]
Feeds = list[dict[str, Array]]
DATA = Path(__file__).resolve().parents[2] / "shared/data"
RATE = 16000


def stored(name: str) -> Any:
    """Data beside the repository."""
    if not (DATA / name).exists():
        raise MissingError(f"{DATA / name} is not there")
    return np.load(DATA / name)


def photographs(
    input_name: str, height: int, width: int, to_input: Callable[[Array], Array]
) -> Callable[[int], Feeds]:
    """Photographs of ImageNet's validation set, resized; `to_input` takes (h, w, 3) of 0 to 255."""

    def made(count: int) -> Feeds:
        if importlib.util.find_spec("PIL") is None:
            raise MissingError("Pillow is not installed: pip install -e '.[bench]'")
        from PIL import Image

        held = stored("imagenet128_test.npz")
        jpeg, offsets = held["jpeg"], held["offsets"]
        feeds = []
        for k in range(count):
            image = Image.open(io.BytesIO(jpeg[offsets[k] : offsets[k + 1]].tobytes()))
            small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            feeds.append({input_name: to_input(np.asarray(small, np.float32))[None]})
        return feeds

    return made


def lines(
    input_name: str, height: int, width: int, to_input: Callable[[Array], Array]
) -> Callable[[int], Feeds]:
    """Rendered lines of text, upright; `to_input` takes (3, h, w) of 0 to 255."""

    def made(count: int) -> Feeds:
        shown = _upright(count)
        rows = np.arange(height) * shown.shape[2] // height
        columns = np.arange(width) * shown.shape[3] // width
        resized = shown[:, :, rows][..., columns].astype(np.float32)
        return [{input_name: to_input(image)[None]} for image in resized]

    return made


def _upright(count: int) -> Array:
    """(count, 3, 48, 192) bytes of lines; those that lie upside down are turned."""
    held = stored("ppocr_cls.npz")
    images, labels = held["x"][:count], held["labels"][:count]
    if len(images) < count:
        raise MissingError(f"ppocr_cls.npz holds {len(images)} lines")
    return np.where(labels[:, None, None, None] == 1, images[:, :, ::-1, ::-1], images)


def pages(
    input_name: str, height: int, width: int, to_input: Callable[[Array], Array]
) -> Callable[[int], Feeds]:
    """Pages of rendered lines at random places; `to_input` takes (3, h, w) of 0 to 255."""

    def made(count: int) -> Feeds:
        rng, shown, feeds = np.random.default_rng(0), _upright(400), []
        for _ in range(count):
            page = np.full((3, height, width), 255, np.float32)
            for top in range(8, height - 56, 64):
                left = int(rng.integers(0, width - 192))
                line = shown[rng.integers(len(shown))]
                page[:, top : top + 48, left : left + 192] = line
            feeds.append({input_name: to_input(page)[None]})
        return feeds

    return made


def sentences(length: int, vocabulary: bytes) -> Callable[[int], Feeds]:
    """Sentences of SST-2 in the word pieces of a BERT vocabulary."""
    pieces = {word: k for k, word in enumerate(vocabulary.decode().split("\n"))}

    def split(word: str) -> list[int]:
        """Greedy word pieces, longest first."""
        found, start = list[int](), 0
        while start < len(word):
            begin = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if begin + word[start:e] in pieces), 0)
            if not end:
                return [pieces["[UNK]"]]
            found.append(pieces[begin + word[start:end]])
            start = end
        return found

    def made(count: int) -> Feeds:
        held = stored("sst2.npz")
        words, feeds = held["vocab"].tolist(), []
        for row, mask in zip(held["test_ids"][:count], held["test_mask"][:count], strict=True):
            text = [words[k] for k, used in zip(row, mask, strict=True) if used]
            text = [word for word in text if not word.startswith("[")]
            joined = " ".join(text).replace(" ##", "")
            inner = [k for word in joined.split() for k in split(word)][: length - 2]
            ids = np.zeros((1, length), np.int64)
            own = [pieces["[CLS]"], *inner, pieces["[SEP]"]]
            ids[0, : len(own)] = own
            feeds.append(
                {
                    "input_ids": ids,
                    "attention_mask": (ids > 0).astype(np.int64),
                    "token_type_ids": np.zeros_like(ids),
                }
            )
        return feeds

    return made


def files(count: int) -> Feeds:
    """The first and last bytes of real files of many types, as Magika reads them."""
    held = stored("magika_basic.npz")["x"]
    order = np.random.default_rng(0).permutation(len(held))[:count]
    return [{"bytes": held[k : k + 1]} for k in order]


def letters(
    input_name: str, highest: int, length: int, kind: type[np.generic] = np.int64
) -> Callable[[int], Feeds]:
    """Seeded sequences of letters: there is no text of these languages beside the repository."""

    def made(count: int) -> Feeds:
        rng = np.random.default_rng(0)
        rows = rng.integers(1, highest + 1, (count, 1, length)).astype(kind)
        return [{input_name: row} for row in rows]

    return made


def tone(seconds: float, rng: np.random.Generator, rate: int = RATE) -> Array:
    """A voice-like tone: a gliding pitch with ten harmonics, between silences, on some noise."""
    time = np.arange(round(seconds * rate)) / rate
    low, glide = rng.uniform(90, 400), rng.uniform(-0.3, 0.3)
    pitch = low * 2 ** (glide * time / seconds + 0.02 * np.sin(2 * np.pi * 5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    shares = rng.uniform(0.2, 1, 10) / np.arange(1, 11)
    sound = sum(share * np.sin((k + 1) * phase) for k, share in enumerate(shares))
    heard = (np.sin(2 * np.pi * time / seconds * rng.integers(1, 4) + rng.uniform(0, 6)) > -0.5) * 1
    noise = 0.02 * rng.standard_normal(len(time))
    return (0.3 * sound * heard + noise).astype(np.float32)


def voices(count: int) -> Feeds:
    """Half a second of sound each, with the range of pitches to look for."""
    rng = np.random.default_rng(0)
    limits = {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
    return [{"audio": tone(0.5, rng)[None], **limits} for _ in range(count)]


def windows(state: dict[str, tuple[int, ...]]) -> Callable[[int], Feeds]:
    """Windows of 576 samples of sound, with a state of zeros."""

    def made(count: int) -> Feeds:
        rng = np.random.default_rng(0)
        zeros = {name: np.zeros(shape, np.float32) for name, shape in state.items()}
        return [{"input": tone(0.036, rng)[None, :576], **zeros} for _ in range(count)]

    return made


def notes(count: int) -> Feeds:
    """Two seconds of sound at 22,050 Hz, as Basic Pitch reads it."""
    rng = np.random.default_rng(0)
    return [
        {"serving_default_input_2:0": tone(2, rng, 22050)[None, :43844, None]} for _ in range(count)
    ]


def scores_of_speech(count: int) -> Feeds:
    """Nine seconds of sound, as DNSMOS reads it."""
    rng = np.random.default_rng(0)
    return [{"input_1": tone(9.02, rng)[None, :144160]} for _ in range(count)]
