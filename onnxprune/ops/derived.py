"""What stages ask of operators, derived from the facts that families state."""

from __future__ import annotations

from onnxprune.ops.facets import (
    ARITHMETIC,
    CASTS,
    CHOICES,
    COPIES,
    DECIDING,
    DECODERS,
    ENCODERS,
    EQUIVARIANT,
    FILLS,
    FUNCTIONS,
    INTEGER_RESULTS,
    LAYERS,
    MOVES,
    NORMALISATIONS,
    PAIRS,
    RANDOM,
    SIZES,
)
from onnxprune.types import Pairs, Quantized, Traits

__all__ = [
    "adds",
    "byte_products",
    "chooses",
    "convolves",
    "encodes",
    "is_activation",
    "keeps_encoding",
    "multiplies",
    "passes",
    "rearranges",
    "rectifies",
    "traits",
    "treats_alike",
]


def adds(op: str) -> bool:
    """Say whether the result is the sum of all inputs."""
    return ARITHMETIC.get(op) == "+"


def multiplies(op: str) -> bool:
    """Say whether the first input is multiplied with the second, or divided by it."""
    return ARITHMETIC.get(op) in ("*", "/")


def passes(op: str) -> bool:
    """Say whether the result is the first input."""
    return COPIES.get(op) == "passes"


def chooses(op: str) -> bool:
    """Say whether the result holds elements of two inputs, as a third one says."""
    return op in CHOICES


def rearranges(op: str) -> bool:
    """Say whether the result holds elements of the first input, none of them twice."""
    return COPIES.get(op) in ("passes", "permutes", "reshapes", "picks")


def is_activation(op: str) -> bool:
    """Say whether networks have the operator as the non-linearity behind a layer."""
    return op in FUNCTIONS and FUNCTIONS[op].activation


def rectifies(op: str) -> bool:
    """Say whether the operator makes zero of everything below zero."""
    return op in FUNCTIONS and FUNCTIONS[op].rectifies


def convolves(op: str) -> bool:
    """Say whether the operator slides a stored window over its data."""
    return op in LAYERS and LAYERS[op].kind == "convolution"


def treats_alike(op: str) -> bool:
    """Say whether a channel of one number becomes another, beside constants for each channel."""
    return op in FUNCTIONS or op in ARITHMETIC or op in NORMALISATIONS or passes(op)


def encodes(op: str) -> bool:
    """Say whether the result holds integers that stand for reals."""
    return op in ENCODERS or op in INTEGER_RESULTS


def keeps_encoding(op: str) -> bool:
    """Say whether the operator does to such integers what it does to the reals."""
    return op in EQUIVARIANT or op in COPIES


def byte_products() -> dict[str, tuple[Pairs, ...]]:
    """Products of bytes, with what onnxruntime makes such of when it optimises a graph."""
    return {**PAIRS, **dict.fromkeys(DECODERS, ((Quantized(0, 1, 2), None),))}


def traits() -> Traits:
    """Gather what a graph must be told of operators to be looked into."""
    moving = {*MOVES, *CHOICES, *COPIES, *CASTS, *ENCODERS, *DECODERS, *FILLS, *SIZES}
    biases = {op: form.bias for op, form in LAYERS.items() if form.bias is not None}
    return Traits(dict(DECIDING), frozenset(RANDOM), frozenset(moving), frozenset(FILLS), biases)
