"""How layers are tuned: what counts how much in the loss, what steps see, how long they are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TUNING", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """Numbers that the tuning of all models shares; decision 44 has what others gave.

    Attributes:
        inside: how much the error of tensors inside counts, against that of the outputs.
        last: share of it that falls to those right before the outputs, as the maps that are pooled;
            all have the same part of the rest.
        rate: share by which all layers' results together change in the first step, since changes
            add up along the depth: per root of the relative error before, for what is nearly right
            must not move far. It falls to zero along a cosine.
        batch: samples of a step.
        mixed: share of steps that see mixtures of samples.
        temperature: by which scores are divided before they become probabilities (Hinton and
            others, 2015).
        seed: of what is drawn.
    """

    inside: float = 30.0
    last: float = 0.8
    rate: float = 0.16
    batch: int = 32
    mixed: float = 0.5
    temperature: float = 4.0
    seed: int = 0


TUNING = Tuning()
