"""Numbers and tables as people read them."""

import pytest

from onnxprune.report.text import amount, table


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (1.25e9, "macs", "1.25 G"),
        (3.4e6, "params", "3.4 M"),
        (65100, "bytes", "65.1 kB"),
        (999, "bytes", "999 B"),
        (12, "macs", "12"),
        (123456, "nodes", "123456"),
        (2e16, "macs", "2e+04 T"),
    ],
)
def test_amounts(value: float, name: str, text: str):
    assert amount(value, name) == text


def test_columns_are_aligned():
    assert table([("", "before", "after"), ("latency", "1", "22 ms")]) == (
        "         before  after\nlatency       1  22 ms"
    )
