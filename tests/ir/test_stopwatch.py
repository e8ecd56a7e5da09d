"""Times from one place: of this machine, or what a timer elsewhere answers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import NETWORKS, samples_of

from onnxprune.errors import InputError
from onnxprune.ir import graph, timing
from onnxprune.ir.runtime import CPU, Device
from onnxprune.ir.stopwatch import Stopwatch, TimedModel, Timer, timer_of

MODEL = NETWORKS["pooled_classifier"]()
FEEDS = {name: array[:1] for name, array in samples_of(MODEL, np.random.default_rng(0)).items()}
GOOD, BAD = TimedModel(graph.model_bytes(MODEL), FEEDS), TimedModel(b"no model", {})


def answering(answer: object) -> Stopwatch:
    return Stopwatch(timer=Timer("far", "made up", lambda *_: answer))


def test_here_sessions_run_in_turns() -> None:
    watch = Stopwatch()
    opened = watch.opened([GOOD, GOOD])
    told = list[float]()
    times = watch.rounds([*opened, GOOD], 0.01, told.append)
    assert times.shape == (len(told), 3) and len(times) >= timing.LEAST_RUNS
    assert (times > 0).all()
    assert watch.environment()["provider"] == CPU and watch.here


def test_here_what_does_not_run_has_no_time() -> None:
    found = Stopwatch().attempted([GOOD, BAD, GOOD], 0.01)
    assert np.isnan(found[:, 1]).all() and (found[:, [0, 2]] > 0).all()
    assert np.isnan(Stopwatch().attempted([BAD, GOOD], 0.01)).all()
    with pytest.raises(InputError, match="cannot load the model"):
        Stopwatch().rounds([GOOD, BAD], 0.01)


def test_elsewhere_the_answer_counts_and_nothing_runs_here() -> None:
    watch = answering([[0.25, 0.5], None, (0.125, 0.25)])
    found = watch.attempted([BAD, BAD, BAD], 0.01)
    assert found[:, [0, 2]].tolist() == [[250.0, 125.0], [500.0, 250.0]]
    assert np.isnan(found[:, 1]).all()
    assert watch.opened([BAD]) == [BAD] and not watch.here
    assert answering([2, 0.5]).rounds([BAD, BAD], 1).tolist() == [[2000.0, 500.0]]
    with pytest.raises(InputError, match="timer 'far' does not run model 2 of 3"):
        watch.rounds([BAD, BAD, BAD], 1)


def test_a_timer_gets_models_inputs_and_seconds() -> None:
    asked: list[Any] = []

    def far(*given: Any) -> list[float]:
        asked.extend(given)
        return [1.0]

    Stopwatch(timer=Timer("far", "", far)).rounds([GOOD], 0.5)
    assert asked == [[GOOD.model], [FEEDS], 0.5]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        3,
        "ab",
        [],
        [1.0],
        [1.0, 0.0],
        [1.0, -1.0],
        [1.0, math.nan],
        [[1.0], [1.0, 2.0]],
        [[], []],
    ],
)
def test_answers_that_cannot_be_are_refused(answer: object) -> None:
    with pytest.raises(InputError, match="timer 'far' gave no times for 2 models: return for each"):
        answering(answer).rounds([GOOD, GOOD], 1)


def test_what_a_timer_raises_names_it() -> None:
    def far(*_: object) -> float:
        return 1 / 0

    with pytest.raises(InputError, match="timer 'far': ZeroDivisionError"):
        Stopwatch(timer=Timer("far", "", far)).rounds([GOOD], 1)


def named(identity: object) -> Callable[..., list[float]]:
    def far(*_: object) -> list[float]:
        return [1.0]

    far.identity = identity  # type: ignore[attr-defined]
    return far


def test_a_function_is_a_timer_if_it_says_what_its_times_depend_on() -> None:
    assert timer_of(None) is None
    assert timer_of(named("board 3")) == Timer("far", "board 3", print)
    timer = timer_of(named(lambda: "board 4"))
    assert timer is not None and timer.identity == "board 4" and timer_of(timer) is timer
    environment = Stopwatch(Device(threads=3), timer).environment()
    assert environment["timer"] == "far" and environment["identity"] == "board 4"
    assert "cpu" not in environment


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nobody's", "no installed package offers it as a plug-in onnxprune.timers. Install"),
        (3, "not a function. Give one"),
        (named(""), "give its function an attribute `identity`"),
        (named(lambda: 1 / 0), "timer 'far': ZeroDivisionError"),
    ],
)
def test_what_is_no_timer_is_refused(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        timer_of(given)
