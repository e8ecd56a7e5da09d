"""How a model is fine-tuned: the options, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from onnxprune.errors import InputError, check_kinds
from onnxprune.user_code import is_function

__all__ = [
    "FIELDS",
    "GRAINS",
    "INSIDE",
    "LABEL_LOSSES",
    "LOSSES",
    "TEACHER",
    "Training",
    "parse_loss",
]

Loss: TypeAlias = "str | Callable[..., Any]"
#: Losses that compare outputs with labels: cross-entropy, binary cross-entropy, squared error.
LABEL_LOSSES = ("ce", "bce", "mse")
#: The loss that compares outputs with a teacher's, and the one that compares tensors inside.
TEACHER = "kl"
INSIDE = "inside"
#: All losses that have a name; others are `file.py:function`.
LOSSES = (*LABEL_LOSSES, TEACHER, INSIDE)
#: What may have a scale of its own where weights are rounded.
GRAINS = ("tensor", "channel")
#: More would never end.
MOST_EPOCHS = 100_000


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to fine-tune.

    Attributes:
        loss: by name of a loss, or `file.py:function`, how much it counts; None: what labels and
            teacher allow, each as 1.
        epochs: rounds over the samples.
        rate: share by which all layers' results together change in a step, after the warm-up. It
            falls to zero along a cosine.
        warmup: share of all steps in which the rate rises from zero.
        batch_size: samples of a step.
        held_out: share of the samples that are not trained on: they judge every epoch. Those that
            are among the samples without labels are not held out, since pruning may have seen them.
        patience: end after so many epochs that did not improve on the best, None: go on.
        qat: round weights to eight bits in the forward pass, with a scale for each `tensor` or
            `channel`, so that they lose little when the model is quantised; None: leave them.
        augment: also train on mirrored, shifted and mixed samples, where they are natural.
    """

    loss: Mapping[str, float] | None = None
    epochs: int = 30
    rate: float = 0.01
    warmup: float = 0.05
    batch_size: int = 32
    held_out: float = 0.1
    patience: int | None = None
    augment: bool = True
    qat: str | None = None

    def __post_init__(self) -> None:
        """Raise InputError for a value that cannot be."""
        check_kinds(self)
        if not 1 <= self.epochs <= MOST_EPOCHS:
            raise InputError(f"epochs {self.epochs}: give a number from 1 to {MOST_EPOCHS}")
        if self.batch_size < 1 or (self.patience is not None and self.patience < 1):
            raise InputError("batch_size and patience must be at least 1")
        if not 0 < self.rate <= 1:
            raise InputError(f"rate {self.rate}: give a share above 0, up to 1, such as 0.05")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup {self.warmup}: give a share of all steps, from 0 to below 1")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out {self.held_out}: give a share between 0 and 1, such as 0.1")
        if self.qat not in (None, *GRAINS):
            raise InputError(f"unknown qat '{self.qat}'. There are: {', '.join(GRAINS)}")
        for name, weight in (self.loss or {}).items():
            _check_loss(name, weight)
        if self.loss is not None and len(self.losses_of_labels) > 1:
            raise InputError(f"loss: give one of {', '.join(LABEL_LOSSES)}, not several")

    @property
    def losses_of_labels(self) -> dict[str, float]:
        """Those of the named losses that compare with labels."""
        return {name: w for name, w in (self.loss or {}).items() if name in LABEL_LOSSES}

    @property
    def own_losses(self) -> dict[str, float]:
        """Those that are functions of the user's."""
        return {name: w for name, w in (self.loss or {}).items() if name not in LOSSES}


#: Names of the options.
FIELDS = tuple(f.name for f in fields(Training))


def _check_loss(name: str, weight: float) -> None:
    if name not in LOSSES and not is_function(name):
        raise InputError(
            f"unknown loss '{name}'. There are: {', '.join(LOSSES)}; name one, or FILE.py:FUNCTION"
        )
    if not 0 < weight < float("inf"):
        raise InputError(f"loss {name}={weight}: give a weight above 0, or leave the loss out")


def parse_loss(text: str) -> tuple[str, float]:
    """`ce=0.5` as the name of a loss and its weight; without a weight it counts as 1.

    Raises:
        InputError: the weight is no number.
    """
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else 1.0
    except ValueError as error:
        raise InputError(f"loss '{text}': write NAME=WEIGHT, as ce=0.5") from error
