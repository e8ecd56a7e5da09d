"""The exceptions: a tree with one exit code each, as it is drawn; options of a wrong kind."""

import re
from typing import Any

import pytest

import onnxprune
from onnxprune import errors
from onnxprune.errors import InputError, OnnxpruneError, check_kinds, one_line
from onnxprune.pipeline.quantize import Quantization
from onnxprune.settings import Settings
from onnxprune.sparsity.options import Sparsity

DRAWN = re.findall(r"^([│├└─ ]*)(\w+Error) +(\d) ", errors.__doc__ or "", re.M)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """Four characters a level; whatever stands further in is of the kind above it."""
    above = list[type[Exception]]([Exception])
    for lines, name, code in DRAWN:
        level = len(lines) // 4
        found: type[OnnxpruneError] = getattr(errors, name)
        assert found.__bases__ == (above[level],), name
        assert found.exit_code == int(code), name
        above[level + 1 :] = [found]
    assert sorted(name for _, name, _ in DRAWN) == [
        n for n in errors.__all__ if n.endswith("Error")
    ]


def test_what_users_may_catch_is_public() -> None:
    public = {name for name in onnxprune.__all__ if name.endswith("Error")}
    assert public <= {name for _, name, _ in DRAWN} and "OnnxpruneError" in public
    assert all(getattr(onnxprune, name) is getattr(errors, name) for name in public)


def test_a_failed_proof_names_its_group() -> None:
    assert errors.ProofError("not exact", 3).group == 3
    assert errors.ProofError("not exact").group is None
    assert str(errors.ProofError("not exact", 3)) == "not exact"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\n  b\tc "), "a b c"),
        (ValueError(), "ValueError"),
        (KeyError("x" * 1000), "'" + "x" * 299),
    ],
)
def test_any_error_is_one_short_line(error: Exception, text: str) -> None:
    assert one_line(error) == text


WRONG: list[tuple[type, str, Any, str]] = [
    (Settings, "seed", "x", "give a whole number"),
    (Settings, "seed", 1.5, "give a whole number"),
    (Settings, "steps", True, "give a whole number"),
    (Settings, "compensate", 1, "give True or False"),
    (Settings, "distill", [1], "give True, False or a whole number"),
    (Settings, "importance", 3, "give a word"),
    (Settings, "exclude", [3], "give a list of words"),
    (Settings, "layer_ratio", {"a": "b"}, "give a mapping of names to numbers"),
    (Settings, "input_shapes", {"x": "1,3"}, "give a mapping of names to lists of sizes"),
    (Settings, "input_shapes", {"x": 3}, "give a mapping of names to lists of sizes"),
    (Settings, "max_drop", "0.1", "give a number"),
    (Sparsity, "sparsity", "half", "give a number"),
    (Sparsity, "pattern", 2, "give a word"),
    (Sparsity, "layer_sparsity", 0.5, "give a mapping of names to numbers"),
    (Quantization, "mode", None, "give a word"),
    (Quantization, "per_channel", 0, "give True or False"),
]


@pytest.mark.parametrize(("kind", "name", "value", "message"), WRONG)
def test_values_of_other_kinds_are_refused(kind: type, name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"{name} .*: {message}"):
        check_kinds(kind(**{name: value}))


def test_defaults_and_every_form_of_a_setting_fit() -> None:
    for options in (Settings(), Sparsity(), Quantization()):
        check_kinds(options)
    forms: list[dict[str, Any]] = [{"distill": 3}, {"exclude": "a"}, {"input_shapes": {"x": (1,)}}]
    for form in forms:
        check_kinds(Settings(**form))


def test_a_line_has_no_addresses() -> None:
    assert (
        one_line(ValueError("malformed <ast.Name object at 0x7f3b> here")) == "malformed Name here"
    )
