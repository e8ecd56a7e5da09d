"""An attention module that is as wide as PyTorch's computes what PyTorch's does."""

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

from onnxprune.torch.modules import NarrowAttention  # noqa: E402  needs PyTorch

MASK = torch.ones(4, 5).tril(1) == 0
PADDING = torch.tensor([[False, False, False, False, True], [False] * 5])
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "masked": {"attn_mask": MASK},
    "masked by numbers": {"attn_mask": torch.randn(4, 5)},
    "masked by head": {"attn_mask": torch.randn(2 * 3, 4, 5)},
    "padded": {"key_padding_mask": PADDING, "attn_mask": MASK},
    "without weights": {"need_weights": False, "key_padding_mask": PADDING},
    "weights of heads": {"average_attn_weights": False},
}


def both(**options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(12, 3, **options).eval()
    other = torch.nn.MultiheadAttention(12, 3, **options).eval()
    other.load_state_dict(module.state_dict())
    other.__class__ = NarrowAttention
    other.key_width = other.value_width = 4
    other.scale = 0.5
    return module, other


def same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("first", [True, False], ids=["batch first", "length first"])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_pytorchs_does(name: str, first: bool) -> None:
    module, other = both(batch_first=first)
    query, key = torch.randn(2, 4, 12), torch.randn(2, 5, 12)
    given = [x if first else x.transpose(0, 1) for x in (query, key, key * 2)]
    with torch.no_grad():
        same(other(*given, **CASES[name]), module(*given, **CASES[name]))


def test_widths_of_keys_of_their_own() -> None:
    module, other = both(kdim=7, vdim=9, bias=False, batch_first=True)
    given = torch.randn(2, 4, 12), torch.randn(2, 5, 7), torch.randn(2, 5, 9)
    with torch.no_grad():
        same(other(*given), module(*given))


@pytest.mark.parametrize("first", [True, False], ids=["batch first", "length first"])
def test_one_sample_alone(first: bool) -> None:
    module, other = both(batch_first=first)
    x = torch.randn(5, 12)
    with torch.no_grad():
        given = {"key_padding_mask": PADDING[0]}
        same(other(x, x, x, **given), module(x, x, x, **given))
