"""How to prune: one frozen value with every option."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir.runtime import Device

__all__ = ["AUTO", "Progress", "Settings", "settings_of"]

Progress: TypeAlias = Callable[[str, float], None]
#: Of the criterion what suits: `l2`, or without data what `datafree` believes. Of widths steps.
AUTO = "auto"


def _silent(_stage: str, _share: float) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Settings:
    """How to prune; every field is a keyword of `prune`.

    Attributes:
        importance: name of a criterion in `onnxprune.CRITERIA`; `auto` takes what suits.
        scope: `global` lets groups compete, `layer` keeps the same share of each.
        min_channels: fewest channels a group keeps.
        round_to: widths are multiples of this, or untouched; `auto` takes steps of the runtime's
            kernels, measured for a latency target, elsewhere where that costs next to nothing.
        exclude: regular expressions for nodes and weights to leave alone.
        rules: what operators of your own do to axes: a TOML file, or its tables as a mapping.
        layer_ratio: regular expression for group names → share of channels to keep.
        seed: for random scores and the inputs of the proof.
        allow_inexact: also take channels whose removal changes what a normalisation computes for
            those that stay.
        lossless: first remove what provably contributes nothing.
        compensate: False promises that every kept weight stays bit-identical: nothing is folded
            or refitted.
        data: .npz or arrays by input name, with `labels` if known, to measure drift on.
        calib: unlabelled samples to calibrate on: a file or folder, `file.py:function`, `random`;
            in Python also arrays by input name, a CalibrationDataReader or an iterable.
        distill: tune all layers together to the original's values after calibrated pruning, for
            so many rounds over the samples; True: for as many as the work allows, if any.
        calib_samples: at most so many of them are used.
        cache: file that keeps what was measured on them from run to run; finished steps lie in a
            folder beside it. A dict keeps measurements in memory.
        blocks: remove so many whole blocks in place of channels; the target `blocks` sets it.
        steps: prune in so many steps, measuring anew between them.
        evaluate: `file.py:function` or a callable, from a session to a number; higher is better.
        max_drop: find the smallest model that loses no more than this.
        input_shapes: sample sizes of inputs that vary.
        device: what measures latency.
        batch: samples per timed run, where the model's batch may vary.
        latency: whether to measure it.
        scratch: folder for cut external weights until they are written, None: the system's.
        progress: called with a stage's name and the share done.
    """

    importance: str = AUTO
    scope: str = "global"
    min_channels: int = 1
    round_to: int | str = AUTO
    exclude: Sequence[str] = ()
    rules: str | Path | Mapping[str, Mapping[str, Any]] | None = None
    layer_ratio: Mapping[str, float] | None = None
    seed: int = 0
    allow_inexact: bool = False
    lossless: bool = False
    compensate: bool = True
    data: str | Path | Mapping[str, NDArray[Any]] | None = None
    calib: Any = None
    distill: bool | int = True
    calib_samples: int = 1024
    cache: str | Path | MutableMapping[str, Any] | None = None
    blocks: int = 0
    steps: int = 1
    evaluate: str | Callable[[Any], float] | None = None
    max_drop: float | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    device: Device = field(default_factory=Device)
    batch: int = 1
    latency: bool = True
    scratch: str | Path | None = None
    progress: Progress = _silent

    @property
    def criterion(self) -> str:
        """The criterion where nothing but the weights themselves is looked at."""
        return "l2" if self.importance == AUTO else self.importance

    @property
    def folder(self) -> Path | None:
        """The scratch folder as a path."""
        return None if self.scratch is None else Path(self.scratch)


def settings_of(settings: Settings | None, changes: Mapping[str, Any]) -> Settings:
    """`settings` with `changes` made, checked.

    Raises:
        InputError: an unknown field, or a value that cannot be.
    """
    names = [f.name for f in fields(Settings)]
    if unknown := changes.keys() - set(names):
        raise InputError(f"unknown setting '{min(unknown)}'. There are: {', '.join(names)}")
    options = replace(settings or Settings(), **changes)
    for name in ("input_shapes", "layer_ratio"):
        if isinstance(getattr(options, name), str):
            raise InputError(f"{name} {getattr(options, name)!r}: give a mapping")
    if isinstance(options.exclude, str):
        options = replace(options, exclude=(options.exclude,))
    if isinstance(options.device, str):
        options = replace(options, device=Device(options.device))
    if not all(0 < share <= 1 for share in (options.layer_ratio or {}).values()):
        raise InputError("layer_ratio: the share to keep lies above 0, up to 1")
    if options.seed < 0 or options.batch < 1:
        raise InputError("seed must be at least 0 and batch at least 1")
    _check_calibrated(options)
    if options.scope not in ("global", "layer"):
        raise InputError(f"unknown scope '{options.scope}'. There are: global, layer")
    _check_widths(options)
    return options


def _check_widths(options: Settings) -> None:
    if options.min_channels < 1:
        raise InputError("min_channels must be at least 1")
    step = options.round_to
    if step != AUTO and (not isinstance(step, int) or isinstance(step, bool) or step < 1):
        raise InputError(f"round_to {step!r}: give a whole number, at least 1, or '{AUTO}'")


def _check_calibrated(options: Settings) -> None:
    if options.calib_samples < 1 or options.steps < 1:
        raise InputError("calib_samples and steps must be at least 1")
    if int(options.distill) < 0:
        raise InputError("distill: give True, False or a number of rounds")
    if options.max_drop is None:
        return
    if not options.max_drop >= 0:
        raise InputError(f"max_drop {options.max_drop}: give the largest drop, at least 0")
    if options.evaluate is None:
        raise InputError("max_drop needs evaluate: a function that scores a session")
