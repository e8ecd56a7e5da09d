"""The real models that are mutated, each with samples that fit it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

__all__ = ["ROOT", "Seed", "seeds"]

#: Small graphs of the tests.
NETWORKS = (
    "chain residual_spine inverted_residual squeeze_and_excite grouped_convolutions unet "
    "spatial_reshape channel_shuffle two_inputs half_precision constant_nodes_as_weights lstm "
    "stacked_bidirectional_lstm gru_linear_before_reset lstm_over_an_embedding "
    "branches_with_weights loop_with_a_hidden_state scanned_cell functions_of_its_own "
    "sparse_weights weights_as_inputs constants_of_every_kind layer_normalised "
    "group_normalised vision_transformer llama t5_with_relative_bias "
    "bert_as_onnxruntime_fuses_it tied_convolutions batch_normalised"
).split()
#: Models of a folder beside the repository, where there is one.
SHARED = ("dscnn_kws", "resnet8_cifar10")
#: Those that the short run takes.
FEW = ("chain", "lstm", "branches_with_weights", "vision_transformer", "squeeze_and_excite")
#: Samples that each file holds.
COUNT = 6


@dataclass(frozen=True)
class Seed:
    """A model file, files beside it by name, and samples by input name."""

    name: str
    model: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def calib(self) -> bytes:
        """The samples as an .npz."""
        held = io.BytesIO()
        np.savez(held, **self.arrays)  # type: ignore[arg-type]
        return held.getvalue()


def seeds(folder: Path, few: bool) -> list[Seed]:
    """All models to mutate, in a fixed order; `folder` takes what is made on the way."""
    # these add their networks to the table
    import nested_networks  # noqa: F401
    import networks
    import operator_networks  # noqa: F401
    import quantised_models
    import transformer_networks  # noqa: F401

    made: list[tuple[str, Callable[[], onnx.ModelProto]]] = [
        (name, networks.NETWORKS[name]) for name in (FEW if few else NETWORKS)
    ]
    chain = networks.NETWORKS["chain"]
    made.append(("quantised", lambda: quantised_models.static(chain(), folder)))
    if not few:
        made += [
            (
                "perceptron dynamic",
                lambda: quantised_models.dynamic(quantised_models.mlp(), folder),
            ),
            ("digits", lambda: onnx.load(ROOT / "models/digits.onnx")),
        ]
        shared = ROOT.parent / "shared/models"
        files = [shared / f"{name}.onnx" for name in SHARED]
        made += [(file.stem, lambda f=file: onnx.load(f)) for file in files if file.exists()]
    found = [_seed(name, make()) for name, make in made]
    return found + list(_external(found[:1] if few else found[:6], folder))


def _seed(name: str, model: onnx.ModelProto) -> Seed:
    stored = {tensor.name for tensor in model.graph.initializer}
    rng, arrays = np.random.default_rng(0), {}
    for value in model.graph.input:
        if value.name not in stored:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            dims = value.type.tensor_type.shape.dim
            shape = [COUNT, *(d.dim_value or 16 for d in dims[1:])][: max(len(dims), 1)]
            drawn = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
            arrays[value.name] = drawn.astype(kind)
    return Seed(name, model.SerializeToString(), arrays=arrays)


def _external(seeds: list[Seed], folder: Path) -> Iterator[Seed]:
    """The same models with their weights in another file."""
    for seed in seeds:
        path, data = folder / "model.onnx", folder / "weights.bin"
        data.unlink(missing_ok=True)
        onnx.save(
            onnx.ModelProto.FromString(seed.model),
            path,
            save_as_external_data=True,
            location=data.name,
            size_threshold=0,
        )
        beside = {data.name: data.read_bytes()} if data.exists() else {}
        yield Seed(f"{seed.name} external", path.read_bytes(), beside, seed.arrays)
