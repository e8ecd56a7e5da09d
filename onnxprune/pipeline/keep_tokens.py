"""Keep some tokens of a vocabulary: their rows, their scores, and a map of numbers.

What stays computes what it did, which is proved by running both models on tokens that stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.atomic_files import write_whole
from onnxprune.errors import InputError, one_line
from onnxprune.groups.analysis import analyze
from onnxprune.ir import save
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import Model, read_model
from onnxprune.report.parts import Fact, Part, plain
from onnxprune.report.text import amount
from onnxprune.settings import Settings
from onnxprune.surgery.proof import Proof
from onnxprune.surgery.vocabulary import (
    Vocabulary,
    find_vocabulary,
    mapping,
    prove_tokens,
    with_tokens,
)
from onnxprune.types import Ints

__all__ = ["TokensResult", "keep_tokens", "read_tokens"]


@dataclass(frozen=True)
class TokensResult:
    """A model for fewer tokens.

    Attributes:
        made: the model.
        kept: old numbers of the tokens that stay, in the order of their new ones.
        vocabulary: where the original has tokens.
        proof: that both give the same for tokens that stay.
        bytes: size of the file before and after.
    """

    made: Model
    kept: Ints
    vocabulary: Vocabulary
    proof: Proof
    bytes: tuple[int, int]

    @property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return self.made.whole

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, and the map of numbers beside it as `NAME.tokens.json`."""
        beside = map_path(Path(path))
        try:  # the model last: if anything fails, none is there that asks for other numbers
            write_whole(beside, self.map_json.encode())
        except OSError as error:
            raise InputError(
                f"{beside}: cannot be written: {error.strerror}. Choose another folder."
            ) from error
        return [*self.made.save(path, external_data), beside]

    @property
    def map_json(self) -> str:
        """The map of numbers: entry n of `kept` is the old number of token n."""
        return json.dumps(mapping(self.vocabulary, self.kept)) + "\n"

    def parts(self) -> Iterator[Part]:
        """What people read."""
        known = self.vocabulary
        yield Fact("tokens", f"{len(self.kept)} of {known.size} kept, of {_names(known.inputs)}")
        yield Fact("scores", f"as many in {_names(known.outputs)}")
        yield Fact("file", " → ".join(amount(size, "bytes") for size in self.bytes))
        error = f"relative error {self.proof.max_relative_error:.1e}"
        yield Fact("proof", f"equal to the original on tokens that stay, {error}")

    def text(self) -> str:
        """Say in a few lines what was done."""
        return plain(self.parts())


def map_path(model: Path) -> Path:
    """Where the map of numbers lies that belongs to a model."""
    return model.with_suffix(".tokens.json")


def keep_tokens(
    model: Source,
    tokens: str | os.PathLike[str] | Sequence[int] | NDArray[Any],
    settings: Settings | None = None,
) -> TokensResult:
    """Remove the tokens that are not named from a model, and number the others anew in their order.

    Args:
        model: path or ModelProto; it is not changed.
        tokens: numbers of those that stay, or a file that holds them.
        settings: sizes of inputs, the seed.

    Raises:
        InputError: the model or the numbers cannot be used.
        ProofError: the result does not compute what the original does.
    """
    options = settings or Settings()
    read = read_model(model)
    analysis = analyze(read.proto, options)
    vocabulary = find_vocabulary(analysis)
    kept = _checked(read_tokens(tokens), vocabulary)
    made = with_tokens(analysis, vocabulary, kept)
    proof = prove_tokens(analysis, vocabulary, kept, made, options.seed)
    sizes = save.file_bytes(read.proto), save.file_bytes(made)
    return TokensResult(Model(made, made, read.scratch), kept, vocabulary, proof, sizes)


def read_tokens(tokens: str | os.PathLike[str] | Sequence[int] | NDArray[Any]) -> Ints:
    """Read numbers of tokens, ascending, each once.

    Raises:
        InputError: there are none.
    """
    numbers: Any
    if not isinstance(tokens, (str, os.PathLike)):
        numbers, name = tokens, "tokens"
    else:
        name = os.fspath(tokens)
        try:
            text = Path(tokens).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise InputError(
                f"{name}: cannot be read: {why}. Give numbers, or a JSON list of them."
            ) from error
        try:
            numbers = json.loads(text) if text.lstrip().startswith("[") else text.split()
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{name}: {one_line(error)}. Give numbers, or a JSON list of them."
            ) from error
    try:
        numbers = list(numbers)
        found = [int(number) for number in numbers]
        if any(isinstance(n, bool) or (isinstance(n, float) and n != int(n)) for n in numbers):
            raise ValueError
        kept = np.unique(np.array(found, np.int64))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{name}: holds something else than whole numbers. "
            "Give numbers, or a JSON list of them."
        ) from error
    if not len(kept):
        raise InputError(f"{name}: holds no numbers. Give numbers, or a JSON list of them.")
    return kept


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "no output"


def _checked(kept: Ints, vocabulary: Vocabulary) -> Ints:
    if kept[0] < 0 or kept[-1] >= vocabulary.size:
        wrong = int(kept[0] if kept[0] < 0 else kept[-1])
        raise InputError(
            f"token {wrong}: the model has tokens 0 to {vocabulary.size - 1}. Give others."
        )
    return kept
