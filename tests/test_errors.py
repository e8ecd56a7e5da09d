"""The exceptions: a tree with one exit code each, as it is drawn."""

import re

import pytest

import onnxprune
from onnxprune import errors
from onnxprune.errors import OnnxpruneError, one_line

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
    assert sorted(name for _, name, _ in DRAWN) == [n for n in errors.__all__ if n[0].isupper()]


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
