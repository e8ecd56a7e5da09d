"""Options of fine-tuning: what they refuse, and how losses are written."""

from typing import Any

import pytest

from onnxprune import InputError
from onnxprune.training.options import FIELDS, Training, parse_loss

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs 0: give a number from 1"),
    ({"epochs": 1.5}, "epochs 1.5: give a whole number"),
    ({"rate": 0.0}, "rate 0.0: give a share above 0"),
    ({"rate": "fast"}, "rate 'fast': give a number"),
    ({"warmup": 1.0}, "warmup 1.0: give a share"),
    ({"held_out": 1.0}, "held_out 1.0: give a share"),
    ({"batch_size": 0}, "at least 1"),
    ({"patience": 0}, "at least 1"),
    ({"qat": "row"}, "unknown qat 'row'. There are: tensor, channel"),
    ({"loss": {"cee": 1.0}}, "unknown loss 'cee'. There are: ce, bce, mse, kl, inside"),
    ({"loss": {"ce": 0.0}}, "loss ce=0.0: give a weight above 0"),
    ({"loss": {"ce": 1.0, "mse": 1.0}}, "give one of ce, bce, mse"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[m for _, m in WRONG])
def test_refusals(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        Training(**changes)


def test_losses_as_they_are_typed():
    assert parse_loss("ce=0.5") == ("ce", 0.5)
    assert parse_loss("kl") == ("kl", 1.0)
    with pytest.raises(InputError, match="loss 'ce=x': write NAME=WEIGHT"):
        parse_loss("ce=x")
    assert Training(loss={"ce": 2.0, "kl": 1.0}).losses_of_labels == {"ce": 2.0}
    assert Training().losses_of_labels == {} and "epochs" in FIELDS
