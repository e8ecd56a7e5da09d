"""The normalisation that a layer took in is found by its numbers."""

import numpy as np
from exported_networks import EPSILON, State, convolutional

from onnxprune.torch.folded import normalisations, siblings, taken_in
from onnxprune.types import Floats


def scale_of(state: State, prefix: str, epsilon: float = EPSILON) -> Floats:
    return state[f"{prefix}.weight"] / np.sqrt(state[f"{prefix}.running_var"] + epsilon)


def test_each_layer_finds_its_own() -> None:
    state = {n: v[:6] for n, v in convolutional().items()}  # both of one size
    for k in (1, 2):
        found = taken_in(scale_of(state, f"bn{k}"), f"conv{k}.weight", state, ())
        assert found == f"bn{k}"


def test_any_epsilon_will_do() -> None:
    state = convolutional()
    assert taken_in(scale_of(state, "bn1", 1e-3), "conv1.weight", state, ()) == "bn1"


def test_another_scale_is_no_normalisation() -> None:
    state = convolutional()
    wrong = scale_of(state, "bn1")
    wrong[3] *= 1.01
    assert taken_in(wrong, "conv1.weight", state, ()) is None
    assert taken_in(np.ones(5), "conv1.weight", state, ()) is None


def test_of_equal_ones_the_next_behind_the_layer_is_taken() -> None:
    """As in a network that was never trained."""
    state = {n: v[:6] for n, v in convolutional().items()}
    for k in (1, 2):
        state |= {f"bn{k}.{key}": np.ones(6, np.float32) for key in ("weight", "running_var")}
    scale = scale_of(state, "bn1")
    assert taken_in(scale, "conv1.weight", state, ()) == "bn1"
    assert taken_in(scale, "conv2.weight", state, ()) == "bn2"
    assert taken_in(scale, "conv1.weight", state, {"bn1"}) == "bn2"


def test_a_normalisation_holds_what_is_there() -> None:
    state = {"a.running_var": np.ones(2), "a.running_mean": np.ones(2), "b.weight": np.ones(2)}
    assert {k: set(v) for k, v in normalisations(state).items()} == {
        "a": {"running_var", "running_mean"}
    }
    assert siblings("a.running_var", state) == ["a.running_mean"]
