"""Who is held out, and in what order steps see the others."""

import numpy as np
import pytest
from lessons import lesson_arrays, samples_in

from onnxprune.training.order import held_batches, order_of, split, step_batches
from onnxprune.training.samples import Batch, SampleSet

ARRAYS = {**lesson_arrays(100), "x": np.arange(400, dtype=np.float32).reshape(100, 4)}
LABELLED = samples_in(ARRAYS)
OTHERS = samples_in({"x": -ARRAYS["x"][:40]})


def seen(steps: list[Batch]) -> list[float]:
    return [float(row[0]) for batch in steps for row in batch.feeds["x"]]


def test_labelled_samples_are_held_out():
    parts = split([LABELLED, OTHERS], 0.1, 0)
    assert (parts.samples, parts.held_samples) == (130, 10)
    held = seen(list(held_batches(parts.held, 4)))
    fit = seen(list(held_batches(parts.fit, 64)))
    assert sorted(held + fit) == sorted([*ARRAYS["x"][:, 0], *-ARRAYS["x"][:40, 0]])
    assert all(batch.labels for batch in held_batches(parts.held, 4))
    assert split([LABELLED, OTHERS], 0.1, 0) == parts != split([LABELLED, OTHERS], 0.1, 1)


def test_samples_that_pruning_has_seen_are_not_held_out():
    """They count once, with their labels, and judge only where there are no others."""
    known = samples_in({"x": ARRAYS["x"][:60]})
    parts = split([LABELLED, known], 0.1, 0)
    assert (parts.samples, parts.held_samples) == (90, 10)
    assert min(seen(list(held_batches(parts.held, 64)))) >= ARRAYS["x"][60, 0]
    nearly = split([LABELLED, samples_in({"x": ARRAYS["x"][:90]})], 0.1, 0)
    assert (nearly.samples, nearly.held_samples) == (95, 5)
    every = split([LABELLED, samples_in({"x": ARRAYS["x"]})], 0.1, 0)
    assert (every.samples, every.held_samples) == (90, 10)


def test_others_are_held_out_where_nothing_has_labels():
    parts = split([OTHERS], 0.001, 0)
    assert (parts.samples, parts.held_samples) == (39, 1)


def test_an_epoch_sees_every_sample_once():
    parts = split([LABELLED, OTHERS], 0.1, 0)
    steps = order_of(parts, 32, 0, 3)
    assert sorted(map(len, steps)) == [30, 30, 30, 40]
    batches = [batch for step in steps for batch in step_batches(step, 16)]
    assert max(batch.size for batch in batches) <= 16
    assert sorted(seen(batches)) == sorted(seen(list(held_batches(parts.fit, 64))))
    for batch in batches:  # labels go with their samples
        for row, label in zip(batch.feeds["x"], batch.labels.get("p", ()), strict=False):
            assert label == ARRAYS["labels"][int(row[0]) // 4]
    again, other = order_of(parts, 32, 0, 3), order_of(parts, 32, 0, 4)
    assert again == steps != other


def test_batches_that_cannot_be_divided_stay_whole():
    batches = [Batch({"x": np.full((8, 4), k, np.float32)}, {}, 8) for k in range(6)]
    parts = split([SampleSet(batches, "", "", True)], 0.2, 0)
    assert (parts.samples, parts.held_samples) == (40, 8)
    steps = order_of(parts, 16, 0, 0)
    assert [len(step) for step in steps] == [3, 2] or [len(step) for step in steps] == [2, 3]
    assert all(batch.size == 8 for step in steps for batch in step_batches(step, 4))


@pytest.mark.parametrize("size", [np.float32(1), np.float32(2)])
def test_what_has_no_axes_belongs_to_all(size: np.float32):
    feeds = {"x": ARRAYS["x"], "rate": np.asarray(size)}
    parts = split([SampleSet([Batch(feeds, {}, 100)], "", "", False)], 0.1, 0)
    (batch, *_) = held_batches(parts.fit, 64)
    assert batch.feeds["rate"] == size and batch.feeds["rate"].ndim == 0
