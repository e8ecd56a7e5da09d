"""What saturation moves: measured both ways, told where this processor does it."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, samples_of
from quantised_models import NETS, dynamic, static

import onnxprune
from onnxprune.cli import main
from onnxprune.ir import exact_products, graph, runtime
from onnxprune.ir.runtime import Device
from onnxprune.pipeline import saturation
from onnxprune.pipeline.saturation import Samples, moved, saturation_notes

FORMS = {
    "dynamic": lambda folder: dynamic(NETS["pooled_classifier"](), folder, per_channel=True),
    "static": lambda folder: static(NETS["chain"](), folder, per_channel=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_move_only_where_the_processor_saturates(form, tmp_path):
    """Where it does not, shifted weights give every bit of the outputs."""
    model = FORMS[form](tmp_path)
    before = model.SerializeToString()
    (feeds,) = (samples_of(model, np.random.default_rng(0)),)
    share = moved(model, feeds, Device())
    assert model.SerializeToString() == before
    assert share < 0.5 and (exact_products.saturates() or share == 0)


def test_a_model_of_reals_does_not_move():
    model = NETWORKS["chain"]()
    assert moved(model, samples_of(model, np.random.default_rng(0)), Device()) == 0


def test_what_moves_is_told(tmp_path, monkeypatch):
    """As on a processor that saturates: each run that is not exact is off by some."""
    model = FORMS["dynamic"](tmp_path)
    feeds = samples_of(model, np.random.default_rng(0))
    real, runs = runtime.run, []

    def off(session, given):
        runs.append(session)
        return {k: v * (1.25 if len(runs) % 2 else 1) for k, v in real(session, given).items()}

    monkeypatch.setattr(exact_products, "saturates", lambda: True)
    monkeypatch.setattr(runtime, "run", off)
    (note,) = saturation_notes({"the original": model}, Samples(feeds, "some samples"), Device())
    assert "those of the original by 25.00% of their largest value, on some samples" in note


def test_nothing_is_run_where_nothing_saturates(tmp_path, monkeypatch):
    monkeypatch.setattr(exact_products, "saturates", lambda: False)
    monkeypatch.setattr(saturation, "moved", lambda *_: pytest.fail("it was run"))
    model = FORMS["dynamic"](tmp_path)
    assert saturation_notes({"it": model}, Samples({}, ""), Device()) == []


def test_every_report_has_it(tmp_path, monkeypatch):
    """Of inspect, prune, check and a recipe."""
    monkeypatch.setattr(exact_products, "saturates", lambda: True)
    monkeypatch.setattr(saturation, "moved", lambda *_: 0.125)
    path = tmp_path / "model.onnx"
    model = FORMS["dynamic"](tmp_path)
    onnx.save(model, path)
    told = "this processor adds products of bytes in 16 bits"
    result = onnxprune.prune(model, {"macs": 0.7}, latency=False)
    assert any(told in note for note in result.report.notes)
    assert told in onnxprune.check(model, model, latency=False).text()
    assert told in CliRunner().invoke(main, ["inspect", str(path)]).output
    recipe = onnxprune.recipe({"stage": [{"kind": "quantise", "mode": "dynamic"}]})
    made = onnxprune.run(recipe, NETWORKS["pooled_classifier"](), latency=False)
    assert told in made.text()


@pytest.mark.parametrize("form", FORMS)
def test_calibration_runs_on_exact_products_too(form, tmp_path, monkeypatch):
    """A processor that saturates takes another way to the same plan."""
    model = FORMS[form](tmp_path)
    calib = samples_of(model, np.random.default_rng(1))
    plans = []
    for saturates in (False, True):
        monkeypatch.setattr(exact_products, "saturates", lambda found=saturates: found)
        made = onnxprune.prune(model, {"macs": 0.7}, calib=calib, latency=False, distill=False)
        plans.append(made.plan_json)
        assert made.report.proof.passed
    assert plans[0] == plans[1]
    assert graph.constants(made.model)
