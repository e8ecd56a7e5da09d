"""Layers tuned together: closer to the original than least squares alone, or left as they were."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of
from paths import MODELS

import onnxprune
from onnxprune import ops
from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.distillation import distill, schedule
from onnxprune.compensation.distillation.augmentation import Augmentation
from onnxprune.compensation.distillation.distill import distilled
from onnxprune.compensation.distillation.schedule import Schedule, schedule_for
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime, save
from onnxprune.ir.zero_biases import biased
from onnxprune.pipeline import prune_calibrated, size_budget
from onnxprune.types import Plan

DIGITS, CALIB, TEST = (MODELS / f"digits{end}" for end in (".onnx", "_calib.npz", "_test.npz"))


def pruned(**options):
    return pruned_to({"macs": 0.15}, **options)


def pruned_to(target, **options):
    options = {"calib": CALIB, "calib_samples": 192, "latency": False, **options}
    return onnxprune.prune(DIGITS, target, **options)


def gap(result: onnxprune.Result) -> float:
    """Divergence from the original on samples that nothing was fitted to."""
    x = {k: v for k, v in np.load(TEST).items() if k != "labels"}
    sessions = [
        runtime.open_session(graph.model_bytes(m)) for m in (onnx.load(DIGITS), result.model)
    ]
    return divergence(*(runtime.run(session, x) for session in sessions))


def samples(count: int) -> Calibration:
    """Calibration data of one number each."""
    return Calibration(({"x": np.zeros((count, 1), np.float32)},), (count,), "", "")


def weights(result: onnxprune.Result) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in result.model.graph.initializer}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(schedule, "EPOCHS", 8)
    monkeypatch.setattr(schedule, "STEPS", 8)


@pytest.fixture(scope="module")
def plain():
    """What least squares leaves, without the samples that are held back."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prune_calibrated, "distilled", lambda *rest: None)
        return pruned()


def test_rounds_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(schedule, "BUDGET", 1.0)
    monkeypatch.setattr(schedule, "MORE", 1.0)
    assert any("distilled for 2 rounds" in note for note in pruned(distill=2).report.notes)
    with pytest.raises(onnxprune.InputError, match="number of rounds"):
        pruned(distill=-1)


def test_without_it_no_sample_is_held_back(plain):
    assert gap(pruned(distill=False)) != gap(plain)


def test_unseen_samples_come_closer(plain):
    result = pruned()
    assert result.report.proof.passed and plain.report.proof.passed
    assert any("distilled for" in note for note in result.report.notes)
    assert not any("distilled" in note for note in plain.report.notes)
    assert result.plan_json == plain.plan_json  # what went is not its business
    assert gap(result) < 0.9 * gap(plain)


def test_what_does_not_help_is_not_taken(monkeypatch, plain):
    monkeypatch.setattr(distill, "RATE", 3.0)
    result = pruned()
    assert any("stay as they were" in note for note in result.report.notes)
    for name, value in weights(plain).items():
        assert np.array_equal(weights(result)[name], value), name


@pytest.mark.parametrize(
    ("asked", "macs", "lost", "rounds"),
    [
        (False, 1.0, 1.0, 0),
        (3, 1e30, 0.0, 3),
        (True, 1.0, 0.0, 8),  # `few_rounds`
        (True, 2e8, 0.0, 5),
        (True, 3e8, 0.0, 0),  # fewer are not worth it
        (True, 3e8, 1.0, 8),
        (True, 1e11, 1.0, 0),
    ],
)
def test_more_work_is_done_where_more_was_lost(asked, macs, lost, rounds):
    data = samples(1000)
    fit, found = schedule_for(asked, data, (macs / 4, macs / 4), lost)
    assert (0 if found is None else found.rounds) == rounds
    assert (fit is data) == (found is None)


def test_few_samples_are_seen_more_often(monkeypatch):
    monkeypatch.setattr(schedule, "STEPS", 60)
    fit, found = schedule_for(True, samples(96), (1.0, 1.0), 0.0)
    assert found is not None and found.rounds == 20  # of three steps each
    assert fit.samples == 90 and sum(len(feeds["x"]) for feeds in found.held) == 6


@pytest.mark.parametrize(("asked", "learns"), [(True, False), (1, True)])
def test_who_is_near_enough_learns_only_if_asked(monkeypatch, asked, learns: bool):
    monkeypatch.setattr(schedule, "ENOUGH", 1e9)
    note = next(note for note in pruned(distill=asked).report.notes if "distilled" in note)
    assert note.startswith("distilled for 1 rounds" if learns else "not distilled: divergence")


def test_views_that_the_original_does_not_notice_are_learnt_from(monkeypatch):
    used = []
    monkeypatch.setattr(
        distill, "natural_augmentations", lambda *given: used.append(given) or (Augmentation(2),)
    )
    seen = []
    monkeypatch.setattr(distill, "augmented", lambda x, views, rng: seen.append(views) or dict(x))
    pruned()
    assert len(used) == 1 and set(seen) == {(Augmentation(2),)}


@pytest.mark.parametrize(
    ("name", "count"),
    [("residual_spine", 4), ("vision_transformer", 16), ("inverted_residual", 4)],
)
def test_a_student_learns_the_outputs(name: str, count: int):
    """Weights that were shaken come closer to those that the original gives."""
    model = NETWORKS[name]()
    shaken, rng = onnx.ModelProto.FromString(model.SerializeToString()), np.random.default_rng(3)
    for tensor in shaken.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim > 1:
            noise = rng.standard_normal(value.shape).astype(np.float32) * value.std()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value + 0.1 * noise, tensor.name))
    teacher, student = analyze(biased(model, ops.LAYERS)), analyze(biased(shaken, ops.LAYERS))
    batches = [samples_of(model, rng) for _ in range(count)]
    found = distilled(teacher, student, Plan({}, {}), Schedule(batches[1:], batches[:1], 16))
    assert found is not None and found.patches and found.after < 0.8 * found.before


def test_nothing_is_tuned_where_no_gradient_gets_through():
    model = NETWORKS["lstm"]()
    rng = np.random.default_rng(0)
    analysis = analyze(model)
    batches = [samples_of(model, rng) for _ in range(4)]
    assert (
        distilled(analysis, analysis, Plan({}, {}), Schedule(batches[1:], batches[:1], 4)) is None
    )


def test_what_misses_its_size_is_not_taught(monkeypatch):
    """A file that is too large is cut anew before anything is learnt."""
    stages, taught = [], []

    def excess(stage, budgets, real=size_budget.excess_bytes):
        if not any(stage is known for known in stages):
            stages.append(stage)
        return 1000 if stage is stages[0] else real(stage, budgets)  # more than was counted on

    monkeypatch.setattr(prune_calibrated, "excess_bytes", excess)
    monkeypatch.setattr(size_budget, "excess_bytes", excess)
    monkeypatch.setattr(prune_calibrated, "distilled", lambda *rest: taught.append(rest))
    result = pruned_to({"size": 0.5})
    assert len(taught) == 1
    assert save.file_bytes(stages[1].model) < save.file_bytes(stages[0].model)
    assert result.report.achieved["size"] <= 0.5
