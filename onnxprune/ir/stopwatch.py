"""The seam to clocks: onnxruntime times models here, or a timer of the user's does elsewhere.

A timer is a function that an installed package offers under the entry point `onnxprune.timers`, or
that is given in Python. It takes models, for each of them its inputs by name, and about how many
seconds it may run them for, and returns for each model the seconds of single runs, a number or
equally many of them for all, or None where a model does not run there. Models are serialised; only
of one with more than 2 GiB of weights it gets the path. Its attribute `identity`, a text or a
function that gives one, says what its times depend on: device, runtime, versions. What was timed is
kept under its name and identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir import timing
from onnxprune.ir.runtime import Device, Feeds, Session, open_session, run, version
from onnxprune.user_code import guarded, plugin

__all__ = ["Content", "Stopwatch", "TimedModel", "Timer", "timer_of"]

Progress: TypeAlias = Callable[[float], None]
Rounds: TypeAlias = NDArray[np.float64]


#: A model as it is timed: serialised, the path of its file, or open in a session.
Content: TypeAlias = bytes | str | Session


class TimedModel(NamedTuple):
    """A model and what to feed it."""

    model: Content
    feeds: Feeds


@dataclass(frozen=True)
class Timer:
    """A function that times models elsewhere, its name, and what its times depend on."""

    name: str
    identity: str
    function: Callable[..., Any] = field(repr=False, compare=False)


def timer_of(given: object) -> Timer | None:
    """Find the timer that a plug-in offers under a name, or that a function is.

    Raises:
        InputError: there is none, it does not load, or it does not say what its times depend on.
    """
    if given is None or isinstance(given, Timer):
        return given
    name, function = str(getattr(given, "__name__", "timer")), given
    if isinstance(given, str):
        name, function = given, plugin("timers", given)
        if function is None:
            raise InputError(
                f"timer '{given}': no installed package offers it as a plug-in onnxprune.timers. "
                "Install one, or leave the timer out."
            )
    if not callable(function):
        raise InputError(f"timer '{name}': not a function. Give one, or a plug-in's name.")
    identity = getattr(function, "identity", None)
    with guarded(f"timer '{name}'"):
        identity = identity() if callable(identity) else identity
    if not isinstance(identity, str) or not identity:
        raise InputError(
            f"timer '{name}' does not say what its times depend on: give its function an attribute "
            "`identity`, a text such as 'board 3, runtime 1.2'"
        )
    return Timer(name, identity, function)


@dataclass(frozen=True)
class Stopwatch:
    """What times models: onnxruntime on a device of this machine, or a timer elsewhere."""

    device: Device = field(default_factory=Device)
    timer: Timer | None = None

    @property
    def here(self) -> bool:
        """Whether times are those of this machine."""
        return self.timer is None

    def environment(self) -> dict[str, Any]:
        """What times depend on beside the model."""
        if self.timer is None:
            return self.device.environment()
        name, identity = self.timer.name, self.timer.identity
        return {"timer": name, "identity": identity, "onnxruntime": version()}

    def opened(self, models: Sequence[TimedModel], quiet: bool = False) -> list[TimedModel]:
        """Open models once that are timed several times.

        Args:
            models: what to open.
            quiet: whether several threads of one wait asleep, so that they do not disturb others.

        Raises:
            InputError: one of them does not run.
        """
        if self.timer is not None:
            return list(models)
        return [one._replace(model=self._session(one.model, quiet)) for one in models]

    def rounds(
        self,
        models: Sequence[TimedModel],
        seconds: float,
        progress: Progress = lambda _share: None,
        quiet: bool = False,
    ) -> Rounds:
        """Time models in turns, so that the machine's drift hits all alike.

        Args:
            models: what to time.
            seconds: of runs, all together.
            progress: is told the share done.
            quiet: whether to count what a run costs without what others take of the processor.

        Returns:
            (n_rounds, n_models) milliseconds of single runs.

        Raises:
            InputError: a model does not run.
        """
        if self.timer is None:
            clock = timing.clock_of(self.device) if quiet else perf_counter_ns
            runs = [(self._session(one.model, quiet), one.feeds) for one in models]
            return timing.interleaved(runs, seconds, progress, clock)
        found = _asked(self.timer, models, seconds)
        progress(1.0)
        for number in np.flatnonzero(np.isnan(found).any(0)).tolist():
            raise InputError(
                f"timer '{self.timer.name}' does not run model {number + 1} of {len(models)}. "
                "Choose another timer, or leave it out."
            )
        return found

    def attempted(self, models: Sequence[TimedModel], seconds: float) -> Rounds:
        """Time models as `rounds` does, quietly; those that do not run have NaN in their column.

        Args:
            models: what to time; nothing is timed where the first one does not run.
            seconds: of runs for each of them.
        """
        if self.timer is not None:
            return _asked(self.timer, models, seconds * len(models))
        running = {k: one for k, model in enumerate(models) if (one := self._running(model))}
        if 0 not in running or len(running) < 2:
            return np.full((1, len(models)), np.nan)
        times = self.rounds([*running.values()], seconds * len(running), quiet=True)
        found = np.full((len(times), len(models)), np.nan)
        found[:, list(running)] = times
        return found

    def _running(self, model: TimedModel) -> TimedModel | None:
        try:
            (opened,) = self.opened([model], quiet=True)
            run(opened.model, opened.feeds)
        except InputError:  # cut out of its model it makes no sense: nothing is known of it
            return None
        return opened

    def _session(self, model: Content, quiet: bool) -> Session:
        if not isinstance(model, (bytes, str)):
            return model
        return open_session(model, self.device, spin=self.device.threads == 1 or not quiet)

    def on_one_thread(self) -> Stopwatch:
        """The same with one thread of the device."""
        return replace(self, device=Device(self.device.provider, 1))


def _asked(timer: Timer, models: Sequence[TimedModel], seconds: float) -> Rounds:
    """(n_rounds, n_models) milliseconds that a timer gives, NaN where a model does not run."""
    contents, inputs = [one.model for one in models], [dict(one.feeds) for one in models]
    with guarded(f"timer '{timer.name}'"):
        given = timer.function(contents, inputs, seconds)
        given = list(given) if isinstance(given, Iterable) else []
    try:
        columns = [None if one is None else np.atleast_1d(np.array(one, float)) for one in given]
    except (TypeError, ValueError):
        columns = []
    times = [column for column in columns if column is not None]
    lengths = {column.size for column in times} or {1}
    if len(columns) != len(models) or len(lengths) > 1 or not all(map(_possible, times)):
        raise InputError(
            f"timer '{timer.name}' gave no times for {len(models)} models: return for each the "
            "seconds of its runs, above 0 and equally many for all, or None where it does not run"
        )
    empty = np.full(lengths.pop(), np.nan)
    return np.stack([empty if one is None else one.ravel() for one in columns], 1) * 1e3


def _possible(seconds: Rounds) -> bool:
    """Whether numbers may be what runs took."""
    return bool(seconds.size and np.isfinite(seconds).all() and (seconds > 0).all())
