"""Values that are optional in the package and must be there in a test."""

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Give the value; the test fails where there is none."""
    assert value is not None
    return value
