"""How to prune: frozen settings by stage, and the digest of all that a kept result depends on.

The settings of a stage include those of the stages that it builds on, as the folders do:

    InputSettings        ir: what a model is fed
    AnalysisSettings     groups: what is left alone, rules for operators
    RunSettings          surgery: where cut weights lie, what runs the model, who is told
    CalibrationSettings  calibration, compensation
    ImportanceSettings   importance
    DeviceSettings       whatever takes time
    SelectionSettings    allocation
    ScoreSettings        what a result is judged by
    Settings             all of them, which is what users write

A function takes the settings of its own stage, and mypy proves that it reads no others; what it
gets is a `Settings`. A field says about itself whether it can change a result, and where a recipe
may give it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from numpy.typing import NDArray

from onnxprune.atomic_files import digest_of
from onnxprune.errors import InputError, check_kinds
from onnxprune.ir.runtime import CPU, Device
from onnxprune.ir.stopwatch import Stopwatch, Timer, timer_of
from onnxprune.user_code import content_of
from onnxprune.version import __version__

__all__ = [
    "AUTO",
    "AnalysisSettings",
    "CalibrationSettings",
    "DeviceSettings",
    "ImportanceSettings",
    "InputSettings",
    "Progress",
    "RunSettings",
    "ScoreSettings",
    "SelectionSettings",
    "Settings",
    "SettingsChanges",
    "analysis_settings",
    "names_of",
    "settings_key",
    "settings_of",
]

Progress: TypeAlias = Callable[[str, float], None]
#: Where a recipe gives a setting: in a stage, once for all stages, or nowhere.
Place: TypeAlias = Literal["stage", "recipe", "nowhere"]
#: Of the criterion what suits: `l2`, or without data what `datafree` believes. Of widths steps.
AUTO = "auto"
#: More steps or rounds than these would never end.
MOST_STEPS, MOST_ROUNDS = 1000, 100_000


def _about(
    place: Place = "stage", measure_only: bool = False, time_only: bool = False, file: bool = False
) -> dict[str, Any]:
    """Say about a field what `settings_key` and recipes must know.

    Args:
        place: where a recipe gives it.
        measure_only: it changes no result, only what is measured of it, shown, or kept where.
        time_only: it changes a result only where time is a target.
        file: it may name a file, whose content then counts.
    """
    return {"place": place, "measure_only": measure_only, "time_only": time_only, "file": file}


_RECIPE, _FILE = _about("recipe"), _about("recipe", file=True)
_KEPT = _about("nowhere", measure_only=True)


def _silent(_stage: str, _share: float) -> None:
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """What a model is fed where no samples are given.

    Attributes:
        input_shapes: sample sizes of inputs that vary.
        seed: for the inputs of the proof and of timings, and for random scores.
    """

    input_shapes: Mapping[str, Sequence[int]] | None = field(default=None, metadata=_RECIPE)
    seed: int = field(default=0, metadata=_RECIPE)

    def __post_init__(self) -> None:
        """Raise InputError for a value that cannot be, as all stages do of their own fields."""
        check_kinds(self)
        _at_least(0, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(InputSettings):
    """What may be pruned.

    Attributes:
        exclude: regular expressions for nodes and weights to leave alone.
        rules: what operators of your own do to axes: a TOML file, or its tables as a mapping.
        allow_inexact: also take channels whose removal changes what others compute (softmax, LRN).
    """

    exclude: Sequence[str] = ()
    rules: str | Path | Mapping[str, Mapping[str, Any]] | None = field(default=None, metadata=_FILE)
    allow_inexact: bool = False


@dataclass(frozen=True, kw_only=True)
class RunSettings(InputSettings):
    """What a run takes place on: folder, device, and whom it tells how far it is.

    Attributes:
        scratch: folder for cut external weights until they are written, None: the system's.
        progress: called with a stage's name and the share done.
        device: what runs the model, but for the proof; its threads are those that latency is
            measured with.
    """

    scratch: str | Path | None = field(default=None, metadata=_KEPT)
    progress: Progress = field(default=_silent, metadata=_KEPT)
    device: Device = field(default_factory=Device, metadata=_about("nowhere", time_only=True))

    @property
    def folder(self) -> Path | None:
        """The scratch folder as a path."""
        return None if self.scratch is None else Path(self.scratch)


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(AnalysisSettings, RunSettings):
    """What to calibrate on, and how what stays makes up for what goes.

    Attributes:
        calib: unlabelled samples to calibrate on: a file or folder, `file.py:function`, `random`;
            in Python also arrays by input name, a CalibrationDataReader or an iterable.
        calib_samples: at most so many of them are used.
        more: further inputs of any kind in such forms, at most as many, for distillation alone.
        cache: file that keeps what was measured on them from run to run; finished steps lie in a
            folder beside it. A dict keeps measurements in memory.
        compensate: False promises that every kept weight stays bit-identical: nothing is folded
            or refitted.
        distill: tune all layers to the original's values, for so many rounds; True: as many as pay.
        steps: prune in so many steps, measuring anew between them.
        jobs: processes that measure sensitivities at once; the result does not depend on it.
    """

    calib: Any = field(default=None, metadata=_FILE)
    calib_samples: int = field(default=1024, metadata=_RECIPE)
    more: Any = field(default=None, metadata=_FILE)
    cache: str | Path | MutableMapping[str, Any] | None = field(default=None, metadata=_KEPT)
    compensate: bool = True
    distill: bool | int = True
    steps: int = 1
    jobs: int = field(default=1, metadata=_KEPT)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, jobs=self.jobs)
        if self.calib_samples < 1 or self.steps < 1:
            raise InputError("calib_samples and steps must be at least 1")
        if self.steps > MOST_STEPS:
            raise InputError(f"steps {self.steps}: give at most {MOST_STEPS}")
        if not 0 <= int(self.distill) <= MOST_ROUNDS:
            raise InputError(f"distill: give True, False or a number of rounds up to {MOST_ROUNDS}")


@dataclass(frozen=True, kw_only=True)
class ImportanceSettings(AnalysisSettings):
    """How channels are ranked.

    Attributes:
        importance: name of a criterion in `onnxprune.CRITERIA`; `auto` takes what suits.
    """

    importance: str = AUTO

    @property
    def criterion(self) -> str:
        """The criterion where nothing but the weights themselves is looked at."""
        return "l2" if self.importance == AUTO else self.importance


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(RunSettings):
    """What is timed, and on what.

    Attributes:
        batch: samples per timed run, where the model's batch may vary.
        latency: whether to measure it of the result.
        timer: plug-in or function that times models elsewhere: `onnxprune.ir.stopwatch`.
    """

    batch: int = field(default=1, metadata=_about("recipe", time_only=True))
    latency: bool = field(default=True, metadata=_KEPT)
    timer: str | Timer | Callable[..., Any] | None = field(
        default=None, metadata=_about("nowhere", time_only=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, batch=self.batch)

    @property
    def stopwatch(self) -> Stopwatch:
        """What times models."""
        return Stopwatch(self.device, timer_of(self.timer))

    def environment(self) -> dict[str, Any]:
        """What times depend on: provider, threads, batch, onnxruntime's version, the processor.

        Of a timer elsewhere its name and identity stand first, in place of what is here.
        """
        known = self.stopwatch.environment()
        begin = dict(list(known.items())[:2])
        return {**begin, "batch": self.batch, **known}


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(AnalysisSettings, DeviceSettings):
    """How much goes of every group.

    Attributes:
        scope: `global` lets groups compete, `layer` keeps the same share of each.
        min_channels: fewest channels a group keeps.
        round_to: widths are multiples of this, or untouched; `auto` takes steps of the runtime's
            kernels: blocks of channels, for a latency target what is measured of each layer.
        layer_ratio: regular expression for group names → share of channels to keep.
        blocks: remove so many whole blocks in place of channels; the target `blocks` sets it.
        lossless: first remove what provably contributes nothing.
        spatial: also let the model look at less of its input, a crop or a smaller size, where that
            loses less than channels do; only with calibration data.
        rotate: with calib, turn residual streams to principal directions where that loses less.
    """

    scope: str = "global"
    min_channels: int = 1
    round_to: int | str = AUTO
    layer_ratio: Mapping[str, float] | None = None
    blocks: int = 0
    lossless: bool = False
    spatial: bool = False
    rotate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 < share <= 1 for share in (self.layer_ratio or {}).values()):
            raise InputError("layer_ratio: the share to keep lies above 0, up to 1")
        if self.scope not in ("global", "layer"):
            raise InputError(f"unknown scope '{self.scope}'. There are: global, layer")
        _at_least(1, min_channels=self.min_channels)
        step = self.round_to
        if step != AUTO and (not isinstance(step, int) or isinstance(step, bool) or step < 1):
            raise InputError(f"round_to {step!r}: give a whole number, at least 1, or '{AUTO}'")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(DeviceSettings):
    """What a result is judged by.

    Attributes:
        data: .npz or arrays by input name, with `labels` if known, to measure drift on.
        evaluate: `file.py:function` or a callable, from a session to a number; higher is better.
        max_drop: find the smallest model that loses no more than this.
    """

    data: str | Path | Mapping[str, NDArray[Any]] | None = field(
        default=None, metadata=_about("recipe", measure_only=True, file=True)
    )
    evaluate: str | Callable[[Any], float] | None = field(default=None, metadata=_FILE)
    max_drop: float | None = field(default=None, metadata=_about("nowhere"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_drop is None:
            return
        if not self.max_drop >= 0:
            raise InputError(f"max_drop {self.max_drop}: give the largest drop, at least 0")
        if self.evaluate is None:
            raise InputError("max_drop needs evaluate: a function that scores a session")


@dataclass(frozen=True, kw_only=True)
class Settings(ImportanceSettings, SelectionSettings, CalibrationSettings, ScoreSettings):
    """How to prune: the settings of all stages; every field is a keyword of `prune`."""


class SettingsChanges(TypedDict, total=False):
    """The fields of `Settings` as keywords of `prune` and its like; a test keeps them the same."""

    importance: str
    scope: str
    min_channels: int
    round_to: int | str
    exclude: Sequence[str]
    rules: str | Path | Mapping[str, Mapping[str, Any]] | None
    layer_ratio: Mapping[str, float] | None
    seed: int
    allow_inexact: bool
    lossless: bool
    spatial: bool
    rotate: bool
    compensate: bool
    data: str | Path | Mapping[str, NDArray[Any]] | None
    calib: Any
    distill: bool | int
    calib_samples: int
    more: Any
    cache: str | Path | MutableMapping[str, Any] | None
    blocks: int
    steps: int
    jobs: int
    evaluate: str | Callable[[Any], float] | None
    max_drop: float | None
    input_shapes: Mapping[str, Sequence[int]] | None
    device: Device
    batch: int
    latency: bool
    timer: str | Timer | Callable[..., Any] | None
    scratch: str | Path | None
    progress: Progress


def analysis_settings(settings: AnalysisSettings) -> AnalysisSettings:
    """Only those settings that `analyze` reads, which other processes can be sent."""
    return AnalysisSettings(
        **{own.name: getattr(settings, own.name) for own in fields(AnalysisSettings)}
    )


def names_of(stage: type[InputSettings], *places: Place) -> tuple[str, ...]:
    """List the names of a stage's fields; with `places` those that a recipe gives there."""
    every = fields(stage)
    return tuple(f.name for f in every if not places or f.metadata.get("place", "stage") in places)


def settings_of(settings: Settings | None, changes: Mapping[str, Any]) -> Settings:
    """Make `changes` to `settings`.

    Raises:
        InputError: an unknown field, or a value that cannot be.
    """
    names = SettingsChanges.__annotations__
    if unknown := changes.keys() - names.keys():
        raise InputError(f"unknown setting '{min(unknown)}'. There are: {', '.join(names)}")
    options = replace(settings or Settings(), **changes)
    if isinstance(options.exclude, str):
        options = replace(options, exclude=(options.exclude,))
    if isinstance(options.device, str):
        options = replace(options, device=Device(options.device))
    return replace(options, timer=timer_of(options.timer))


def settings_key(
    settings: InputSettings,
    *facts: object,
    stage: type[InputSettings] = Settings,
    samples: str = "",
    timed: bool = False,
) -> str:
    """Digest everything that a kept result depends on.

    Args:
        settings: what it was made with; the fields of `stage` count that can change a result.
        facts: what else it depends on: digests of the model and of groups, budgets.
        stage: the settings that the result is made from, all where it is a model.
        samples: digest of the calibration samples, in place of where they come from.
        timed: time is a target, so that device, batch, runtime and processor count.
    """
    known: dict[str, Any] = {"onnxprune": __version__, "calib": samples}
    for each in fields(stage):
        about, value = each.metadata, getattr(settings, each.name)
        counts = not about.get("measure_only") and (timed or not about.get("time_only"))
        if counts and each.name not in ("calib", "timer"):  # the environment tells of a timer
            digest = getattr(value, "digest", None)  # of samples that were read
            known[each.name] = digest or (content_of(value) if about.get("file") else value)
    if isinstance(settings, RunSettings) and (provider := settings.device.resolve()) != CPU:
        known["provider"] = provider  # numbers differ in the last bits, on some in more
    if timed:
        assert isinstance(settings, DeviceSettings), "nothing is known of what was timed on"
        known |= settings.environment()
    return digest_of(known, facts)[:32]


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise InputError(f"{name} must be at least {least}")
