"""Epochs: the best weights are taken, a run that was stopped ends as if it had not been."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lessons import batch_of, classifier, lesson_arrays, opened, samples_in

from onnxprune.atomic_files import Store
from onnxprune.groups.analysis import analyze
from onnxprune.training import loop
from onnxprune.training.checkpoint import Checkpoint, Epoch
from onnxprune.training.loop import Run, train
from onnxprune.training.moments import with_scales
from onnxprune.training.options import Training
from onnxprune.training.order import held_batches, split

ARRAYS = lesson_arrays(200)
KEY = "0123456789abcdef" * 2


def run_of(tmp_path: Path | None = None, noise: float = 0.5, **options: float) -> Run:
    student, batch = classifier(noise), batch_of(ARRAYS)
    training = Training(**{"epochs": 4, "rate": 0.05, **options})  # type: ignore[arg-type]
    found = opened(student, batch, classifier())
    scaled = with_scales(analyze(student), found.bare, found.parameters, [batch], None)
    parts = split([samples_in(ARRAYS)], 0.2, 0)
    place = None if tmp_path is None else Checkpoint(Store(tmp_path), KEY)
    ready = replace(found, parameters=scaled)
    held = list(held_batches(parts.held, 32))
    return Run(ready, parts, held, training, 0, 16, (), True, place, lambda share, text: None)


def test_the_loss_falls():
    trained = train(run_of())
    losses = [epoch.loss for epoch in trained.history]
    assert len(losses) == 5 and trained.best > 0
    assert losses[trained.best] < 0.6 * losses[0]
    assert set(trained.weights) == {"a", "b", "c", "d"}


def test_what_does_not_help_is_not_taken():
    trained = train(run_of(noise=0.0, rate=1.0, epochs=1))
    assert trained.best == 0 and trained.weights == {}


class StoppedError(Exception):
    pass


def test_a_stopped_run_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped in the middle of an epoch, and at the end of another."""
    monkeypatch.setattr(loop, "KEPT_EVERY", 2)
    whole = train(run_of())
    for stop in (0.4, 0.9):

        def end(share: float, text: str, stop: float = stop) -> None:
            if share > stop:
                raise StoppedError

        with pytest.raises(StoppedError):
            train(replace(run_of(tmp_path), progress=end))
    again = train(run_of(tmp_path))
    assert again.resumed == 4 and whole.resumed == 0
    assert again.history == whole.history and again.best == whole.best
    for name, array in whole.weights.items():
        assert again.weights[name].tobytes() == array.tobytes()


def test_patience_ends_a_run():
    trained = train(run_of(noise=0.0, rate=1.0, epochs=50, patience=2))
    assert len(trained.history) == trained.best + 3


def test_a_loss_that_is_no_number_is_not_the_best():
    assert loop._best([Epoch(np.nan, None), Epoch(2.0, None), Epoch(np.inf, None)]) == 1


def test_the_last_epoch_is_taken_where_it_is_as_good():
    """As good: no worse than the best by a standard error, better than before, and the last."""
    history = [Epoch(2.0, None), Epoch(1.0, None, 0.2), Epoch(1.1, None)]
    assert loop._taken(history, 2) == 2
    assert loop._taken(history, 3) == 1  # patience ended the run
    assert loop._taken([*history[:2], Epoch(1.3, None)], 2) == 1
    assert loop._taken([Epoch(1.05, None), *history[1:]], 2) == 1
    assert loop._taken([Epoch(0.9, None, 1.0), *history[1:]], 2) == 0


def test_steps_are_as_long_as_the_schedule_says():
    run = run_of(warmup=0.1, rate=0.1)
    shares = [len(run.opened.parameters) * loop._share(run, k, 100) for k in range(100)]
    assert max(shares) == pytest.approx(0.1) and shares.index(max(shares)) == 10
    assert shares[:10] == sorted(shares[:10]) and shares[10:] == sorted(shares[10:])[::-1]
    assert shares[-1] < 1e-4 < shares[0]
