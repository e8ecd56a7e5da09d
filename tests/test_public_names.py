"""Old public names work for one version and say what they are called now."""

import pytest

import onnxprune
from onnxprune.calibration.samples import Calibration


def test_a_renamed_class_is_found_under_its_old_name() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"onnxprune\.Cooked is called onnxprune\.RecipeResult"
    ):
        assert onnxprune.Cooked is onnxprune.RecipeResult


def test_a_renamed_field_too() -> None:
    table = onnxprune.SensitivityTable((), Calibration((), (), "", ""))
    with pytest.warns(DeprecationWarning, match="called sensitivities"):
        assert table.curves is table.sensitivities


def test_other_names_are_no_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Kooked'"):
        getattr(onnxprune, "Kooked")  # noqa: B009  as `from onnxprune import Kooked` does


def test_every_public_name_is_there() -> None:
    assert sorted(onnxprune.__all__, key=str) == sorted(set(onnxprune.__all__))
    assert all(hasattr(onnxprune, name) for name in onnxprune.__all__)
