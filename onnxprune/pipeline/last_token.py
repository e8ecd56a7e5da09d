"""Make a generating model give scores of the last place alone, and tell of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxprune.groups.analysis import analyze
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import Model, read_model
from onnxprune.report.parts import Fact, Part, plain
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.last_token import heads, last_place, prove_last
from onnxprune.surgery.proof import Proof

__all__ = ["LastTokenResult", "last_token"]


@dataclass(frozen=True)
class LastTokenResult:
    """A model that gives scores of the last place.

    Attributes:
        made: the model.
        outputs: which have one place now.
        macs: multiply-accumulates of a sample run, before and after.
        proof: that these are the original's.
    """

    made: Model
    outputs: Sequence[str]
    macs: tuple[float, float]
    proof: Proof

    @property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return self.made.whole

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.model.Model.save`."""
        return self.made.save(path, external_data)

    def parts(self) -> Iterator[Part]:
        """What people read."""
        names = ", ".join(f"'{name}'" for name in self.outputs)
        yield Fact("scores", f"of the last place alone: {names}")
        before, after = self.macs
        yield Fact("MACs", f"{before:.4g} → {after:.4g} with inputs of the sample run")
        error = f"relative error {self.proof.max_relative_error:.1e}"
        yield Fact("proof", f"equal to the {self.proof.reference}, {error}")

    def text(self) -> str:
        """Say in a few lines what was done."""
        return plain(self.parts())


def last_token(model: Source, settings: Settings | None = None) -> LastTokenResult:
    """Give scores of the last place alone, (samples, 1, tokens).

    Args:
        model: path or ModelProto; it is not changed.
        settings: sizes of inputs, the seed.

    Raises:
        InputError: no output holds scores of places.
        ProofError: the result does not compute what the original does.
    """
    options = settings or Settings()
    read = read_model(model)
    analysis = analyze(read.proto, options)
    found = heads(analysis)
    made = last_place(analysis, found)
    with running(analysis, options) as original:
        proof = prove_last(found, made, original)
    macs = float(analysis.cost.full[0]), float(analyze(made, options).cost.full[0])
    return LastTokenResult(Model(made, made, read.scratch), list(found), macs, proof)
