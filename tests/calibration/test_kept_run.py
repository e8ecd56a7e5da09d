"""A model run from where its weights change on gives what it gives as a whole."""

from pathlib import Path

import numpy as np
import pytest
from networks import NETWORKS, Net, samples_of
from present import present

from onnxprune.calibration import kept_run
from onnxprune.calibration.kept_run import borders, open_kept_run
from onnxprune.calibration.segment import open_segment
from onnxprune.calibration.workplace import Workplace
from onnxprune.errors import InputError
from onnxprune.ir import graph, normalize, runtime, skeleton
from onnxprune.ir.patch import patch


def sequence():
    """Tensors are kept in a sequence while another layer runs."""
    n = Net(x=("N", 3, 8, 8))
    parts = n.op("SplitToSequence", n.conv("x", 3, 8), n.const(np.int64(4)), axis=1)
    y = n.relu(n.conv("x", 3, 4))
    z = n.op("SequenceAt", parts, n.const(np.int64(1)))
    return n.model(n.conv(n.op("Add", y, z), 4, 2))


def opened(name: str, begins: int, batches: int = 2):
    made = {**NETWORKS, "sequence": sequence}
    model = normalize.prepare(made[name]())[0]
    feeds = [samples_of(model, np.random.default_rng(k), 4) for k in range(batches)]
    bare = skeleton.without_constant_nodes(model)
    step = max(1, len(bare.graph.node) // begins)
    starts = list(range(0, len(bare.graph.node), step))
    return model, feeds, open_kept_run(bare, graph.reader(model), feeds, starts)


def whole(model, feeds):
    return runtime.run(runtime.open_session(graph.model_bytes(model)), feeds)


@pytest.mark.parametrize(
    "name", ["residual_spine", "captured_by_branches", "scanned_cell", "sequence"]
)
@pytest.mark.parametrize("begins", [1, 3, 100])
@pytest.mark.parametrize("memory", [2**20, 0])
def test_every_weight_may_change(monkeypatch, name: str, begins: int, memory: int):
    monkeypatch.setattr(kept_run, "CHANGED_MEMORY", memory)
    monkeypatch.setattr(kept_run, "MEMORY", memory)
    model, feeds, run = opened(name, begins)
    for base, given in zip(run.store.batches, feeds, strict=True):
        for output, expected in whole(model, given).items():
            np.testing.assert_allclose(base[output], expected, rtol=1e-5, atol=1e-5)
    weights = [k for k in graph.constants(model) if k in run_reads(run)]
    for weight in weights[:4]:
        stored = present(graph.reader(model)(weight))
        if stored.dtype != np.float32:
            continue
        changed = {weight: stored * np.float32(0.5)}
        for (_, now), given in zip(run.changed(changed), feeds, strict=True):
            for output, expected in whole(patch(model, changed), given).items():
                got = now[output] if output in now else whole(model, given)[output]
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def run_reads(run):
    return frozenset().union(*(stretch.reads for stretch in run.stretches))


def test_runs_depend_on_nothing_but_their_weights():
    """The same in any order, to the last bit."""
    model, _, run = opened("residual_spine", 4)
    read = graph.reader(model)
    names = [n for n in graph.constants(model) if n in run_reads(run)]
    asked = [{n: present(read(n)) * np.float32(0.7)} for n in names]

    def answers(order):
        found = {}
        for k in order:
            found[k] = [{n: now[n] for n in now} for _, now in run.changed(asked[k])]
        return found

    first, second = answers(range(len(asked))), answers(reversed(range(len(asked))))
    for k, batches in first.items():
        for one, other in zip(batches, second[k], strict=True):
            assert one.keys() == other.keys()
            assert all((one[n] == other[n]).all() for n in one)


def test_what_nothing_changed_reaches_does_not_run():
    n = Net(x=("N", 3, 8, 8))
    one, other = n.conv("x", 3, 4), n.conv("x", 3, 5)
    model = n.model(n.relu(one), n.relu(other))
    feeds = samples_of(model, np.random.default_rng(0), 4)
    run = open_kept_run(model, graph.reader(model), [feeds], range(4))
    weight = model.graph.node[1].input[1]
    ((_, now),) = run.changed({weight: present(graph.reader(model)(weight)) * np.float32(2)})
    assert set(now) == {model.graph.output[1].name}
    ((_, now),) = run.changed({})
    assert not set(now)


def test_one_stretch_where_several_cannot_be_opened(monkeypatch):
    def only_whole(bare, part, *rest):
        if len(part.nodes) < len(bare.graph.node):
            raise InputError("a part of a model")
        return open_segment(bare, part, *rest)

    monkeypatch.setattr(kept_run, "open_segment", only_whole)
    _, _, run = opened("residual_spine", 3)
    assert len(run.stretches) == 1


def test_files_lie_where_they_are_told_to(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(kept_run, "MEMORY", 0)
    model = NETWORKS["chain"]()
    feeds = samples_of(model, np.random.default_rng(0), 4)
    missing = tmp_path / "missing"
    with pytest.raises(InputError, match="need a temporary file"):
        open_kept_run(model, graph.reader(model), [feeds], [0], Workplace(missing))


def test_borders_lie_where_changes_begin():
    sizes = np.full(100, 0.04)
    assert borders(sizes, []) == [0]
    assert borders(sizes, range(100)) == [0, 25, 50, 75]
    assert borders(sizes, [3, 30, 31, 60, 99]) == [0, 30, 60, 99]
    assert borders(np.zeros(3), [0, 1]) == [0]
