"""Two values of every setting for a small network: that of a first run, and another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from onnxprune.ir.runtime import Device

__all__ = ["Pair", "setting_values"]


class Pair(NamedTuple):
    """The value of a first run, and that of a second one."""

    first: Any
    second: Any


def one(_session: Any) -> float:
    return 1.0


def two(_session: Any) -> float:
    return 0.5


def by_size(models: list[bytes], _inputs: object, _seconds: float) -> list[float]:
    """A timer's answer: models take as long as they are large."""
    return [1e-5 + 1e-8 * len(model) for model in models]


by_size.identity = "their size"  # type: ignore[attr-defined]


def setting_values(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, Pair]:
    """A pair for each field of `Settings`: a field without one fails the tests that ask for it."""
    (conv, *_), name = (n.name for n in model.graph.node if n.op_type == "Conv"), next(iter(feeds))
    size = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    others = {name: np.roll(array, 1, axis=-1) for name, array in feeds.items()}
    return {
        "importance": Pair("auto", "l1"),
        "scope": Pair("global", "layer"),
        "min_channels": Pair(1, 2),
        "round_to": Pair("auto", 2),
        "exclude": Pair((), (f"^{conv}$",)),
        "rules": Pair(None, {"com.acme:Swoosh": {"kind": "elementwise"}}),
        "layer_ratio": Pair(None, {"c": 0.9}),
        "seed": Pair(0, 1),
        "allow_inexact": Pair(False, True),
        "lossless": Pair(False, True),
        "spatial": Pair(False, True),
        "rotate": Pair(True, False),
        "compensate": Pair(True, False),
        "data": Pair(None, others),
        "calib": Pair(feeds, others),
        "distill": Pair(False, 1),
        "calib_samples": Pair(16, 8),
        "more": Pair(None, others),
        "cache": Pair(None, {}),
        "blocks": Pair(0, 1),
        "steps": Pair(2, 3),
        "jobs": Pair(1, 2),
        "evaluate": Pair(one, two),
        "max_drop": Pair(None, 0.5),
        "input_shapes": Pair(None, {name: (2, *size[1:])}),
        "device": Pair(Device(threads=1), Device(threads=2)),
        "batch": Pair(1, 2),
        "latency": Pair(False, True),
        "timer": Pair(None, by_size),
        "scratch": Pair(None, Path()),
        "progress": Pair(lambda stage, share: None, lambda stage, share: None),
    }
