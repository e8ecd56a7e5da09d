"""Layers tuned together: closer to the original than least squares alone, or left as they were."""

from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of
from paths import MODELS

import onnxprune
from onnxprune import ops
from onnxprune.calibration.divergence import divergence
from onnxprune.compensation.distillation import schedule
from onnxprune.compensation.distillation.distill import Distilled, Student, distill
from onnxprune.compensation.distillation.schedule import Limits, Schedule, Tuning
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph, runtime
from onnxprune.ir.zero_biases import biased

DIGITS, CALIB, TEST = (MODELS / f"digits{end}" for end in (".onnx", "_calib.npz", "_test.npz"))
FEW = Limits(most_rounds=8, least_steps=8)


def pruned(monkeypatch: pytest.MonkeyPatch, limits: Limits, **options: Any) -> onnxprune.Result:
    monkeypatch.setattr(schedule, "LIMITS", limits)
    options = {"calib": CALIB, "calib_samples": 192, "latency": False, "round_to": 1, **options}
    return onnxprune.prune(DIGITS, {"macs": 0.15}, **options)


def gap(result: onnxprune.Result) -> float:
    """Divergence from the original on samples that nothing was fitted to."""
    x = {k: v for k, v in np.load(TEST).items() if k != "labels"}
    sessions = [
        runtime.open_session(graph.model_bytes(m)) for m in (onnx.load(DIGITS), result.model)
    ]
    before, after = (runtime.run(session, x) for session in sessions)
    return divergence(before, after)


def note(result: onnxprune.Result) -> str:
    return next(note for note in result.report.notes if "distilled" in note)


def test_unseen_samples_come_closer(monkeypatch: pytest.MonkeyPatch):
    """Least squares fits the same samples in both: where all is near enough nothing is tuned."""
    plain = pruned(monkeypatch, Limits(near=np.inf))
    tuned = pruned(monkeypatch, FEW)
    assert note(plain).startswith("not distilled") and note(tuned).startswith("distilled for 8")
    assert plain.report.proof.passed and tuned.report.proof.passed
    assert tuned.plan_json == plain.plan_json  # what goes is decided before
    assert gap(tuned) < 0.9 * gap(plain)


def test_rounds_can_be_asked_for(monkeypatch: pytest.MonkeyPatch):
    """However much work they are, and however near the model is already."""
    result = pruned(monkeypatch, Limits(macs=1.0, macs_if_lossy=1.0, near=np.inf), distill=2)
    assert note(result).startswith("distilled for 2 rounds")
    with pytest.raises(onnxprune.InputError, match="number of rounds"):
        pruned(monkeypatch, FEW, distill=-1)


def shaken(name: str, noise: float = 0.1) -> tuple[Analysis, Student]:
    """A network, and the same with noise on its weights."""
    model = NETWORKS[name]()
    other, rng = onnx.ModelProto.FromString(model.SerializeToString()), np.random.default_rng(3)
    for tensor in other.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim > 1:
            drawn = rng.standard_normal(value.shape).astype(np.float32) * value.std()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value + noise * drawn, tensor.name))
    return analyze(biased(model, ops.LAYERS)), Student(analyze(biased(other, ops.LAYERS)))


def batches_of(name: str, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    return [samples_of(NETWORKS[name](), rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "count"),
    [("residual_spine", 4), ("vision_transformer", 16), ("inverted_residual", 4)],
)
def test_a_student_learns_the_outputs(name: str, count: int):
    """Weights that were shaken come closer to those that the original gives."""
    batches = batches_of(name, count)
    shares: list[float] = []
    found = distill(*shaken(name), Schedule(batches[1:], batches[:1], 16), shares.append)
    assert found is not None and found.patches and found.after < 0.8 * found.before
    assert found.note.startswith("distilled for 16 rounds") and "stay as" not in found.note
    assert shares == sorted(shares) and shares[-1] == 1


def test_what_does_not_help_is_not_taken():
    batches = batches_of("residual_spine", 4)
    found = distill(
        *shaken("residual_spine"), Schedule(batches[1:], batches[:1], 4, tuning=Tuning(rate=30.0))
    )
    assert found is not None and found.after > found.before and found.patches == {}
    assert found.note.endswith("so the layers stay as they were")


def test_what_is_near_enough_is_not_tuned():
    batches = batches_of("residual_spine", 2)
    found = distill(*shaken("residual_spine"), Schedule(batches[1:], batches[:1], 4, near=np.inf))
    assert found is not None
    assert found == Distilled({}, 0, found.before, found.before, found.reached)
    assert found.before > 0
    assert "is next to none" in found.note


def test_masked_weights_stay():
    batches = batches_of("residual_spine", 4)
    teacher, student = shaken("residual_spine")
    weight = max(student.analysis.stored, key=lambda n: np.prod(student.analysis.stored[n]))
    moves = np.random.default_rng(0).random(student.analysis.stored[weight]) < 0.5
    student = Student(student.analysis, masks={weight: moves})
    found = distill(teacher, student, Schedule(batches[1:], batches[:1], 8))
    assert found is not None
    changed = found.patches[weight] != student.stored(weight)
    assert not changed[~moves].any() and changed[moves].mean() > 0.9


def test_nothing_is_tuned_where_no_gradient_gets_through():
    model = NETWORKS["lstm"]()
    rng = np.random.default_rng(0)
    analysis = analyze(model)
    batches = [samples_of(model, rng) for _ in range(4)]
    assert distill(analysis, Student(analysis), Schedule(batches[1:], batches[:1], 4)) is None


def test_nothing_is_tuned_where_nothing_is_held_out():
    assert distill(*shaken("chain"), Schedule(batches_of("chain", 1), [], 4)) is None


def test_further_samples_are_learnt_from_by_all_commands():
    """They change weights and no plan, and the report names them."""
    model, rng = NETWORKS["chain"](), np.random.default_rng(4)
    own: dict[str, Any] = {"calib": samples_of(model, rng), "distill": 1, "latency": False}
    more = samples_of(model, rng, 40)
    plain, found = (onnxprune.prune(model, {"macs": 0.6}, **own, more=m) for m in (None, more))
    assert found.plan_json == plain.plan_json
    assert ", 40 further samples among them: the given arrays" in note(found)
    assert "further" not in note(plain)
    sparse = onnxprune.sparsify(model, 0.5, **own, more=more)
    assert any("40 further samples" in note for note in sparse.report.notes)
