"""Weights of a pruned file come back: what is exported again is that file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from exported_networks import (
    EPSILON,
    State,
    convolutional,
    exported_convolutional,
    exported_normalised,
    exported_recurrent,
    normalised,
    recurrent,
)
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_text import stored

import onnxprune
from onnxprune.errors import InputError
from onnxprune.torch.carry import Carried, carried
from onnxprune.torch.cuts import Cut, Cuts, cuts_of, sliced
from onnxprune.torch.origins import Match
from onnxprune.torch.planned import Planned, planned, read_plan
from onnxprune.torch.state import arrays_of, matched, with_times

NETWORKS = {
    "folded": (convolutional, exported_convolutional),
    "normalised": (normalised, exported_normalised),
    "recurrent": (recurrent, exported_recurrent),
}
EPSILONS = {"bn1": EPSILON, "bn2": EPSILON}


def halved(model: onnx.ModelProto) -> Planned:
    result = onnxprune.prune(
        model, {"ratio": 0.5}, latency=False, compensate=False, round_to=1, importance="l1"
    )
    return planned(model, read_plan(result))


def refitted(model: onnx.ModelProto, only: str = "") -> onnx.ModelProto:
    """The same with other weights."""
    rng, new = np.random.default_rng(8), onnx.ModelProto()
    new.CopyFrom(model)
    for tensor in new.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and only in tensor.name:
            other = values + 0.1 * rng.standard_normal(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(other.astype(np.float32), tensor.name))
    return new


def known(done: Planned, state: State) -> tuple[dict[str, Match], Cuts]:
    matches = matched(done, state, arrays_of(state))
    return matches, with_times(cuts_of(done.plan, matches, state), done, matches)


def cut(weights: Carried, cuts: Mapping[str, Cut], state: State) -> dict[str, NDArray[Any]]:
    return {
        n: sliced(weights.entries.get(n, v), cuts.get(n, Cut()), n.endswith("running_var"))
        for n, v in state.items()
    }


@pytest.mark.parametrize("only", ["", "MatMul"], ids=["all refitted", "the head only"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_exported_again_is_the_pruned_file(name: str, only: str) -> None:
    make, export = NETWORKS[name]
    state = make()
    done = halved(export(state))
    pruned = refitted(done.model, only)
    matches, cuts = known(done, state)
    weights = carried(done, matches, cuts, pruned, (state, EPSILONS))
    found = stored(export(cut(weights, cuts.entries, state)))
    for n, values in stored(pruned).items():
        if values.dtype == np.float32:
            np.testing.assert_allclose(found[n], values, rtol=1e-5, atol=1e-6, err_msg=n)


def test_a_layer_without_a_bias_gets_the_one_that_refitting_made() -> None:
    state = normalised()
    done = halved(exported_normalised(state))
    pruned = onnx.ModelProto()
    pruned.CopyFrom(done.model)
    values = np.arange(4, dtype=np.float32)
    pruned.graph.initializer.append(numpy_helper.from_array(values, "a/onnxprune/bias"))
    matches, cuts = known(done, state)
    weights = carried(done, matches, cuts, pruned, (state, {}))
    axis, bias = weights.biases["up.weight"]
    assert axis == 0
    assert bias[cuts.entries["up.weight"].keep[0]].tolist() == [0, 1, 2, 3]


def test_what_belongs_nowhere_is_refused_by_name() -> None:
    state = convolutional()
    done = halved(exported_convolutional(state))
    matches, cuts = known(done, state)
    less = {n: match for n, match in matches.items() if n != "onnx::MatMul_5"}
    with pytest.raises(InputError, match=r"'onnx::MatMul_5' was refitted.*leave carry_weights out"):
        carried(done, less, cuts, refitted(done.model), (state, EPSILONS))


def test_a_file_of_another_plan_is_refused() -> None:
    state = convolutional()
    done = halved(exported_convolutional(state))
    whole = exported_convolutional(state)
    with pytest.raises(
        InputError, match=r"has shape .* in the pruned file.*written with this plan"
    ):
        carried(done, *known(done, state), whole, (state, EPSILONS))


def test_blocks_that_went_whole_are_refused() -> None:
    state = convolutional()
    done = halved(exported_convolutional(state))
    gone = replace(done, kept=[np.zeros_like(mask) for mask in done.kept])
    with pytest.raises(InputError, match=r"whole blocks.*--min-channels 2"):
        carried(gone, *known(done, state), done.model, (state, EPSILONS))
