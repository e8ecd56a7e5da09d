import numpy as np
import pytest
from oracle import Case, case, check_rule, w

UNARY = """
    Abs Acosh Asinh Atan Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity
    LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Tan Tanh ThresholdedRelu IsInf IsNaN Dropout Clip
""".split()
BINARY = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul PRelu Pow Sub Sum"
VARIADIC = "Max Mean Min Sum"
CASES = [
    *(case(f"y = {op}(x)", 2 + 3 + 4, opset=18, x=(2, 3, 4)) for op in UNARY),
    case("y = Gelu(x)", 2 + 3, opset=20, x=(2, 3)),
    case("y = Swish(x)", 2 + 3, opset=24, x=(2, 3)),
    case("y = SwiGLU<alpha=1.5>(a, b)", 2 + 3, opset=28, a=(2, 3), b=(2, 3)),
    case("y = BitCast<to=6>(x)", 2 + 3, opset=26, x=(2, 3)),
    case("y = OptionalGetElement(x)", 2 + 3, opset=18, x=(2, 3)),
    *(case(f"b = Tanh(x); y = {op}(b)", 2 + 3, x=(2, 3)) for op in ("Acos", "Asin", "Atanh")),
    case("y, mask = Dropout(x)", 2 + 3, x=(2, 3)),
    case("y, mask = Dropout(x, r, t)", 2 + 3, x=(2, 3), r=np.float32(0.5), t=np.array(False)),
    case("y = Clip<max=1.5, min=0.7>(x)", 2 + 3, opset=10, x=(2, 3)),
    case("y = Clip(x, , high)", 2 + 3, x=(2, 3), high=np.float32(1.5)),
    *(case(f"y = {op}(a, b, k)", 2 + 3, a=(2, 3), b=(2, 3), k=w(3)) for op in VARIADIC.split()),
    *(case(f"y = {op}(x)", 2 + 3, x=(2, 3)) for op in VARIADIC.split()),
    case("y = Clip(x, low, high)", 2 + 3, x=(2, 3), low=np.float32(0.7), high=np.float32(1.5)),
    case("y = Cast<to=7>(x)", 2 + 3, x=(2, 3)),
    case("y = CastLike(x, t)", 2 + 3, x=(2, 3), t=np.array(1.0)),
    case("y = Not(flag)", 2 + 3, flag=(2, 3)),
    case("y = BitwiseNot(whole)", 2 + 3, opset=18, whole=(2, 3)),
    *(case(f"y = {op}(a, b)", 2 + 3, a=(2, 3), b=(2, 3)) for op in BINARY.split()),
    case("y = Mod<fmod=1>(a, b)", 2 + 3, a=(2, 3), b=w(2, 3)),
    *(case(f"y = {op}(flag, flag2)", 2 + 3, flag=(2, 3), flag2=(2, 3)) for op in ("And", "Or")),
    case("y = Xor(flag, flag2)", 2 + 3, flag=(2, 3), flag2=(2, 3)),
    *(
        case(f"y = {op}(whole, whole2)", 2 + 3, opset=18, whole=(2, 3), whole2=(2, 3))
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    case('u = Cast<to=13>(whole); y = BitShift<direction="LEFT">(u, u)', 2 + 3, whole=(2, 3)),
    case("y = Where(flag, a, b)", 2 + 3, flag=(2, 3), a=(2, 3), b=(1, 3)),
    # broadcasting: per channel, scalar, missing and stretched axes
    case("y = Mul(x, k)", 2 + 3 + 4, x=(2, 3, 4), k=w(3, 1)),
    case("y = Add(x, k)", 2 + 3 + 4, x=(2, 3, 4), k=w(4)),
    case("y = Sub(k, x)", 2 + 3 + 4, x=(2, 3, 4), k=np.float32(1.5)),
    case("y = Div(x, k)", 2 + 3 + 4, x=(2, 3, 4), k=w(1, 3, 1)),
    case("y = Add(a, b)", 2 + 3 + 4, a=(2, 1, 4), b=(3, 1)),
    case("y = PRelu(x, k)", 2 + 3 + 4 + 5, x=(2, 3, 4, 5), k=w(3, 1, 1)),
    case("y = PRelu(x, k)", 2 + 3 + 4 + 5, x=(2, 3, 4, 5), k=w(1)),
    case("y = PRelu(x, k)", 2 + 3, x=(2, 3), k=w(3)),
    # one tensor used twice, squeeze-and-excite
    case("y = Mul(x, x)", 2 + 3, x=(2, 3)),
    case("s = GlobalAveragePool(x); g = Sigmoid(s); y = Mul(x, g)", 2 + 3, x=(2, 3, 4, 4)),
]


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
