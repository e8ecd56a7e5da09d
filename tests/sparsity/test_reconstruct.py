"""Layers made sparse one after the other."""

import numpy as np
import pytest
from present import present
from sparse_networks import SparseCase, sparse_case

from onnxprune.ir import graph, runtime
from onnxprune.ir.patch import patch
from onnxprune.sparsity.layer_fit import Wanted
from onnxprune.sparsity.reconstruct import Goal, Reconstructed, reconstruct


@pytest.fixture(scope="module")
def case() -> SparseCase:
    return sparse_case()


def outputs(case: SparseCase, patches) -> np.ndarray:
    session = runtime.open_session(graph.model_bytes(patch(case.analysis.model, patches)))
    batches = [runtime.run(session, dict(batch)) for batch in case.data.batches]
    return np.concatenate([value for batch in batches for value in batch.values()])


def half(case: SparseCase) -> dict[str, Wanted]:
    return {weight.name: Wanted(weight.size // 2) for weight in case.weights}


def test_as_many_are_zero_as_asked_for(case: SparseCase):
    told: list[float] = []
    goal = Goal(half(case))
    made = reconstruct(case.analysis, case.data, goal, Reconstructed(), told.append)
    for weight in case.weights:
        assert (~made.masks[weight.name]).sum() == weight.size // 2
        assert not made.patches[weight.name][~made.masks[weight.name]].any()
    assert told[-1] == 1


def test_later_layers_make_up_for_earlier_ones(case: SparseCase):
    first = {case.weights[0].name: Wanted(case.weights[0].size // 2)}
    base = outputs(case, {})
    names = [weight.name for weight in case.weights[1:]]
    alone = reconstruct(case.analysis, case.data, Goal(first, names), Reconstructed())
    together = reconstruct(case.analysis, case.data, Goal(first), Reconstructed())
    assert set(together.masks) == set(first)
    assert set(alone.patches).isdisjoint(names) and set(together.patches) >= set(names)
    errors = [((outputs(case, m.patches) - base) ** 2).mean() for m in (together, alone)]
    assert errors[0] < errors[1]


def test_nothing_is_changed_in_front_of_the_first_sparse_layer(case: SparseCase):
    last = case.weights[-1]
    goal = Goal({last.name: Wanted(last.size // 2)})
    made = reconstruct(case.analysis, case.data, goal, Reconstructed())
    assert case.weights[0].name not in made.patches and last.name in made.patches


def test_a_start_is_left_as_it_was(case: SparseCase):
    name = case.weights[0].name
    start = Reconstructed({name: np.zeros(case.analysis.stored[name], np.float32)}, {})
    made = reconstruct(case.analysis, case.data, Goal({}, [name]), start)
    assert set(start.patches) == {name} and not start.masks
    assert not made.patches[name].any() and len(made.patches) > 1
    read = made.reader(case.analysis.read)
    assert not present(read(name)).any() and read("no such tensor") is None
