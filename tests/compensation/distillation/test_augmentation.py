"""Mirrored and shifted samples, and which of them an original does not notice."""

import numpy as np
import pytest

from onnxprune.compensation.distillation.augmentation import (
    Augmentation,
    augmented,
    natural_augmentations,
)

RNG = np.random.default_rng(2)
IMAGES = RNG.standard_normal((12, 3, 16, 16)).astype(np.float32)


def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Class scores that follow from (n, k) features."""
    return {"y": rows @ np.random.default_rng(0).standard_normal((rows.shape[1], 5))}


def test_half_of_the_samples_are_mirrored():
    seen = Augmentation(3).apply(IMAGES, np.random.default_rng(0))
    turned = [np.array_equal(a, b[..., ::-1]) for a, b in zip(seen, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(seen, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert any(turned) and any(same)
    assert seen.dtype == np.float32


def test_shifted_samples_repeat_their_edge():
    seen = Augmentation(2, 2).apply(IMAGES, np.random.default_rng(0))
    found = set()
    for a, b in zip(seen, IMAGES, strict=True):
        moves = {m: b[:, np.clip(np.arange(16) + m, 0, 15)] for m in range(-2, 3)}
        found |= {m for m, moved in moves.items() if np.array_equal(a, moved)}
    assert found == {-2, -1, 0, 1, 2}


def test_augmentations_follow_one_another():
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    seen = augmented({"x": IMAGES}, (Augmentation(3), Augmentation(2, 1)), rng)["x"]
    np.testing.assert_array_equal(
        seen, Augmentation(2, 1).apply(Augmentation(3).apply(IMAGES, again), again)
    )


@pytest.mark.parametrize(
    ("sees", "augmentations"),
    [
        (
            lambda x: x.sum((2, 3)),
            {Augmentation(2), Augmentation(3)},
        ),  # where something is makes no difference
        (lambda x: x[:, :, 8].reshape(len(x), -1), set()),
        (lambda x: x.sum(2).reshape(len(x), -1), {Augmentation(2)}),
        (lambda x: (x[:, :, 4:-4] ** 2).mean((2, 3)) * 20, {Augmentation(2), Augmentation(3)}),
    ],
)
def test_only_what_the_original_does_not_notice(sees, augmentations: set[Augmentation]):
    found = natural_augmentations([{"x": IMAGES}], lambda feeds: scores(sees(feeds["x"])))
    assert {one for one in found if not one.shift} == augmentations


def test_shifts_of_what_fades_to_the_edge():
    smooth = np.zeros((12, 2, 16, 16), np.float32)
    smooth[:, :, 6:10, 6:10] = RNG.standard_normal((12, 2, 1, 1))
    found = natural_augmentations([{"x": smooth}], lambda feeds: scores(feeds["x"].mean((2, 3))))
    assert {one for one in found if one.shift} == {Augmentation(2, 2), Augmentation(3, 2)}


@pytest.mark.parametrize(
    "feeds",
    [
        {"ids": np.arange(64).reshape(2, 4, 8)},
        {"x": np.ones((4, 8), np.float32)},
        {"x": np.ones((1, 1, 8, 8), np.float32)},
        {"x": np.ones((4, 3, 4, 4), np.float32)},
        {"a": np.ones((4, 1, 8, 8), np.float32), "b": np.ones((4, 1, 8, 8), np.float32)},
    ],
)
def test_what_has_no_places_or_company_is_left_alone(feeds: dict[str, np.ndarray]):
    assert natural_augmentations([feeds], lambda given: scores(np.ones((4, 3)))) == ()
