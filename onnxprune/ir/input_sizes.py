"""Sizes of inputs that vary, where the user states none: those of samples, or ones that run.

What a size may be is often not written in a model: a reader of text lines takes images 48 high, a
voice detector at least so many samples of sound. The sizes of calibration data or other samples
are right. Without any, usual sizes are tried in turn until onnxruntime runs the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from onnxprune.errors import InputError, OperatorError
from onnxprune.ir import graph, inputs, segmented_run, shape_inference, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds

__all__ = ["FoundShapes", "running_shapes", "shapes_of_samples"]

#: Sizes that are tried for all axes that vary but batches: images, text and its lines, sound.
TRIED = (224, 32, 48, 64, 320, 640, 16000)
#: Elements of an input that is tried.
MOST = 2**23


class FoundShapes(dict[str, tuple[int, ...]]):
    """Shapes by input name that the user did not state; first axes may still be chosen.

    `feeds` are samples of the user's, if the shapes are theirs.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], feeds: Feeds | None = None) -> None:
        super().__init__(shapes)
        self.feeds = feeds


def shapes_of_samples(feeds: Feeds, whole: bool) -> FoundShapes:
    """The shapes of one run on samples.

    Args:
        feeds: a batch, of which the first samples are kept.
        whole: whether it cannot be given to the model in parts.
    """
    first = feeds if whole else inputs.rows(feeds, slice(2))
    shapes = {name: array.shape for name, array in first.items()}
    if not whole:
        shapes = {name: (1, *shape[1:]) if shape else () for name, shape in shapes.items()}
    return FoundShapes(shapes, {name: array.copy() for name, array in first.items()})


def running_shapes(
    model: ModelProto, bounds: Callable[[str], int], seed: int
) -> FoundShapes | None:
    """Shapes on which onnxruntime runs the model; None if the first guess is among them.

    Nothing is tried where sizes do not vary, nor with models whose weights do not fit into memory.

    Args:
        model: in one scope.
        bounds: gives one more than the largest integer that an input may hold, by its name.
        seed: of the random numbers that are fed.

    Raises:
        InputError: it runs on none of them.
    """
    guess = shape_inference.sample_shapes(model)
    others = list(_candidates(model, guess))
    if not others or graph.stored_bytes(model) > graph.LARGE:
        return None
    try:
        bare = skeleton.skeleton(model)
        names = skeleton.fed_names(model, bare)
        runner = segmented_run.Runner(bare, names, graph.sizes(model))
    except InputError:  # it runs on no input, which whoever needs that finds out
        return None
    errors = []
    for shapes in (guess, *others):
        try:
            runner.run(inputs.seeded(model, bounds, shapes, seed), graph.reader(model))
        except OperatorError:
            return None
        except InputError as error:
            errors.append(str(error))
        else:
            return FoundShapes(shapes) if errors else None
    tried = ", ".join(map(str, TRIED))
    raise InputError(
        f"the model runs on none of the input sizes that were tried ({tried}). The first: "
        f"{errors[0]} Or give samples with --calib: their sizes are taken."
    )


def _candidates(
    model: ModelProto, guess: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes beside the first guess; none where nothing but batches varies."""
    seen = [dict(guess)]
    tried = [shapes for size in TRIED if (shapes := _shapes_at(model, size)) is not None]
    for shapes in (*tried, *(_of_one_state(model, shapes) for shapes in tried)):
        small = all(math.prod(shape) <= MOST for shape in shapes.values())
        if shapes not in seen and small:
            seen.append(shapes)
            yield shapes


def _shapes_at(model: ModelProto, size: int) -> dict[str, tuple[int, ...]] | None:
    """Shapes with one size for all axes that vary but batches; None where nothing holds them."""
    try:
        return shape_inference.sample_shapes(model, usual=size)
    except InputError:
        return None


def _of_one_state(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shapes with sizes of one where the first axis is fixed: the batch of a state has no name.

    Those of a model are left as they are if all of its inputs begin so.
    """
    sizes = {value.name: graph.declared_sizes(value) for value in graph.graph_inputs(model)}
    states = {name for name, own in sizes.items() if own and own[0] is not None}
    if len(states) == len(sizes):
        return dict(shapes)
    return {
        name: tuple(fixed or 1 for fixed in sizes[name]) if name in states else shape
        for name, shape in shapes.items()
    }
