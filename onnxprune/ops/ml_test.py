import pytest
from oracle import Case, case, check_rule, ints

CASES = [
    case("y = ai.onnx.ml.Scaler<offset=[1.0,2.0,3.0], scale=[2.0,4.0,6.0]>(x)", 2 + 3, x=(2, 3)),
    case("y = ai.onnx.ml.Scaler<offset=[1.0], scale=[2.0]>(x)", 2 + 3, x=(2, 3)),
    case(
        "y = ai.onnx.ml.Imputer<imputed_value_floats=[1.0,2.0,3.0], replaced_value_float=0.0>(x)",
        2 + 3, x=(2, 3),
    ),
    case("y = ai.onnx.ml.Binarizer<threshold=1.5>(x)", 2 + 3, x=(2, 3)),
    *(
        case(f'y = ai.onnx.ml.Normalizer<norm="{norm}">(x)', free, x=(2, 3))
        for norm, free in (("MAX", 2), ("L1", 5), ("L2", 5))
    ),
    case("y = ai.onnx.ml.ArrayFeatureExtractor(x, i)", 2, x=(2, 5), i=ints(3, 0)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
