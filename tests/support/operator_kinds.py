"""Every operator with a rule, by kind, and for each facet why some kinds lack it.

An operator that is added later belongs to a kind: the kind says which facets it must have.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from onnxprune import ops

MS = "com.microsoft:"

#: Names without a domain; onnxruntime's own begin with "ms:", those of ai.onnx.ml with "ml:".
KINDS = {
    "functions": """
        Abs Acos Acosh Asin Asinh Atan Atanh Cos Cosh Erf Exp Log Neg Reciprocal Shrink Sin Sinh
        Sqrt Tan
    """,
    "activations": """
        Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Selu Sigmoid Softplus Softsign
        Swish Tanh ThresholdedRelu ms:FastGelu ms:Gelu ms:QuickGelu ms:ScaledSiLU
    """,
    "arithmetic": "Add Div Mul Sub Sum",
    "combining": "Max Mean Min PRelu Pow",
    "gated": "SwiGLU ms:BiasGelu ms:GatedAdd",
    "choosing": "Where",
    "passing": "Dropout Identity",
    "casting": "Cast CastLike",
    "stepping": "Ceil Floor Round Sign",
    "comparing": "Equal Greater GreaterOrEqual Less LessOrEqual",
    "logical": "And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor IsInf IsNaN Not Or Xor",
    "whole numbers": "BitCast Mod",
    "optional": "OptionalGetElement OptionalHasElement",
    "permuting": "Transpose",
    "reshaping": "Flatten Reshape Squeeze Unsqueeze DepthToSpace SpaceToDepth",
    "cutting": "Concat Gather Slice Split",
    "repeating": "Expand Tile",
    "padding": "Pad",
    "sizes": "Shape Size",
    "filling": "Constant ConstantOfShape",
    "layers": "Conv ConvTranspose Gemm MatMul",
    "layer variants": """
        CausalConvWithState DeformConv Einsum ms:FusedConv ms:FusedGemm ms:FusedMatMul
        ms:TransposeMatMul
    """,
    "integer layers": """
        ConvInteger MatMulInteger QLinearConv QLinearMatMul ms:DynamicQuantizeMatMul
        ms:MatMulIntegerToFloat ms:MatMulNBits ms:QGemm ms:QLinearConv
    """,
    "recurrent": "GRU LSTM RNN",
    "integer recurrent": "ms:DynamicQuantizeLSTM",
    "attention": "Attention ms:Attention ms:GroupQueryAttention ms:MultiHeadAttention",
    "rotating": "RotaryEmbedding ms:RotaryEmbedding",
    "bodies": "If Loop Scan",
    "normalising": """
        BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization
        LpNormalization MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization
    """,
    "fused normalising": """
        ms:EmbedLayerNormalization ms:SkipLayerNormalization ms:SkipSimplifiedLayerNormalization
    """,
    "sharing": "Hardmax LogSoftmax Softmax",
    "running": "CumProd CumSum",
    "pooling": """
        AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool ms:NhwcMaxPool
    """,
    "reducing": """
        ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare
    """,
    "resizing": "Resize Upsample",
    "sampling": "Col2Im DFT Det GridSample MaxRoiPool RoiAlign STFT",
    "ranking": "ArgMax ArgMin TopK",
    "indexing": """
        CenterCropPad Compress GatherElements GatherND OneHot ReverseSequence Scatter
        ScatterElements ScatterND TensorScatter Trilu
    """,
    "features": "ml:ArrayFeatureExtractor ml:Binarizer ml:Imputer ml:Normalizer ml:Scaler",
    "to integers": "DynamicQuantizeLinear QuantizeLinear ms:QuantizeLinear",
    "to reals": "DequantizeLinear ms:DequantizeLinear",
    "on integers": """
        ms:QLinearAdd ms:QLinearAveragePool ms:QLinearConcat ms:QLinearGlobalAveragePool
        ms:QLinearLeakyRelu ms:QLinearMul ms:QLinearSigmoid ms:QLinearSoftmax ms:QLinearWhere
    """,
}


class Gaps(NamedTuple):
    """Why operators lack a facet: it cannot apply, or nobody has written it for a reason.

    Each maps a reason to kinds and operators, separated by commas; `-Op` leaves one out.
    """

    none: Mapping[str, str] = {}
    missing: Mapping[str, str] = {}


PLACES = "permuting, reshaping, cutting, repeating, padding"
EXACT = "functions, activations, arithmetic, combining"
WHOLE = "stepping, comparing, logical, whole numbers"
SMALL = "sizes, filling, optional"
INTEGERS = "integer layers, integer recurrent, to integers, to reals, on integers"
SEARCHES = "ranking, indexing, sampling, features"
FUSED = "gated, layer variants, attention, rotating, recurrent, fused normalising"

GAPS = {
    "MACS": Gaps(
        {
            "it multiplies nothing with a weight or another activation that counts": (
                f"{EXACT}, gated, choosing, passing, casting, {WHOLE}, {SMALL}, {PLACES}, "
                f"rotating, bodies, normalising, fused normalising, sharing, running, pooling, "
                f"reducing, resizing, {SEARCHES}, to integers, to reals, on integers"
            )
        },
    ),
    "KERNELS": Gaps(
        {
            "it has no weight that makes channels": (
                f"{EXACT}, gated, choosing, passing, casting, {WHOLE}, {SMALL}, {PLACES}, -Gather, "
                f"attention, -ms:Attention, rotating, bodies, normalising, fused normalising, "
                f"sharing, running, pooling, reducing, resizing, {SEARCHES}, to integers, "
                "to reals, on integers"
            )
        },
    ),
    "SUMS": Gaps(
        {
            "it adds up nothing along an axis that may lose positions": (
                f"{EXACT}, gated, choosing, passing, casting, {WHOLE}, {SMALL}, {PLACES}, "
                "rotating, bodies, pooling, resizing, ranking, indexing, sampling, features, "
                "-ml:Normalizer, to integers, -DynamicQuantizeLinear, to reals, on integers, "
                "ReduceMax, ReduceMin, ReduceProd, CumProd"
            ),
            "what it adds up is multiplied with a stored weight": (
                "Conv, ConvTranspose, CausalConvWithState, DeformConv, ms:FusedConv, recurrent, "
                "integer layers, -ms:DynamicQuantizeMatMul"
            ),
            "the mean is subtracted first (CENTRES)": (
                "InstanceNormalization, LayerNormalization, ms:EmbedLayerNormalization, "
                "ms:SkipLayerNormalization"
            ),
            "its statistics are stored, or those of axes that stay whole": (
                "BatchNormalization, GroupNormalization, MeanVarianceNormalization"
            ),
            "what is removed changes its statistics, so that the coupling is inexact": (
                "LRN, sharing, ReduceLogSumExp"
            ),
        },
    ),
    "SHRINKS": Gaps(
        {
            "no attribute or shape input holds a width": (
                f"{EXACT}, gated, choosing, passing, casting, {WHOLE}, optional, Constant, "
                "permuting, Flatten, Unsqueeze, DepthToSpace, SpaceToDepth, Concat, Gemm, MatMul, "
                "CausalConvWithState, Einsum, ms:FusedGemm, ms:FusedMatMul, ms:TransposeMatMul, "
                "MatMulInteger, QLinearMatMul, ms:DynamicQuantizeMatMul, ms:MatMulIntegerToFloat, "
                "ms:QGemm, bodies, BatchNormalization, LRN, "
                "LpNormalization, MeanVarianceNormalization, sharing, running, pooling, reducing, "
                "-ReduceMean, sampling, ranking, indexing, -CenterCropPad, "
                "ml:ArrayFeatureExtractor, ml:Binarizer, ml:Normalizer, to integers, to reals, "
                "on integers"
            ),
            "its scales name no widths, and its sizes are an attribute of no opset": "Upsample",
        },
    ),
    "QUANTIZED": Gaps(
        {
            "it reads no integers that stand for reals": (
                f"{EXACT}, gated, choosing, passing, casting, {WHOLE}, {SMALL}, {PLACES}, layers, "
                "layer variants, recurrent, attention, rotating, bodies, normalising, "
                f"fused normalising, sharing, running, pooling, reducing, resizing, {SEARCHES}, "
                "to integers"
            )
        },
    ),
    "JUMPS": Gaps(
        {
            "small differences stay small": (
                f"{EXACT}, gated, choosing, passing, CastLike, {PLACES}, layers, layer variants, "
                "recurrent, attention, rotating, bodies, normalising, fused normalising, running, "
                "LogSoftmax, Softmax, pooling, reducing, resizing, sampling, indexing, to reals, "
                "ml:ArrayFeatureExtractor, ml:Imputer, ml:Normalizer, ml:Scaler"
            ),
            "it reads integers, flags or sizes, which are exact": f"{SMALL}, logical, BitCast",
            "sums of integers are exact, and what it rounds is found at what reads it": (
                "integer layers, -ms:MatMulNBits, -ms:DynamicQuantizeMatMul, on integers"
            ),
        },
        {"no model has been seen that goes on from it": "Hardmax, ml:Binarizer"},
    ),
    "CONSTANTS": Gaps(
        {
            "it says how large something is, not what it holds": "sizes, OptionalHasElement",
            "what it holds is stored and looked at as such": "Constant",
            "it gives places or flags, which no weight reads": "comparing, logical, ranking",
        },
        {
            "a difference in the last bit would become a step": "stepping, whole numbers",
            "a channel's positions are mixed, or the condition would have to be known": (
                "choosing, bodies, indexing, sampling, running, features, OptionalGetElement"
            ),
            "its statistics make a constant of nothing but zeros, which hardly occurs": (
                "LayerNormalization, RMSNormalization, SimplifiedLayerNormalization, LRN, "
                "MeanVarianceNormalization, fused normalising, sharing"
            ),
            "not met in a model with such channels": (
                "SwiGLU, ms:GatedAdd, CausalConvWithState, DeformConv, GlobalLpPool, LpPool, "
                "ms:NhwcMaxPool, ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceProd, "
                "ReduceSum, ReduceSumSquare, ms:QLinearSigmoid, ms:QLinearSoftmax, "
                "ms:QLinearWhere, ms:DynamicQuantizeLSTM"
            ),
        },
    ),
    "MOMENTS": Gaps(
        {
            "its result is no activation of a convolutional network": (
                f"{SMALL}, {WHOLE}, ranking, indexing, features"
            ),
            "estimates are made of images, which it does not see": (
                "recurrent, attention, rotating, sharing, running, LayerNormalization, "
                "RMSNormalization, SimplifiedLayerNormalization, fused normalising, sampling"
            ),
            "it works on integers, whose weights are not compensated": INTEGERS,
            "what comes out depends on the data": "choosing, bodies",
        },
        {
            "a cast may be one to integers": "casting",
            "channels of the two inputs are taken together, by more than their moments": (
                "combining, gated"
            ),
            "not met where estimates are of use": (
                "layer variants, ConvTranspose, Gather, Split, Unsqueeze, DepthToSpace, "
                "SpaceToDepth, repeating, GroupNormalization, InstanceNormalization, "
                "LpNormalization, MeanVarianceNormalization, LRN, GlobalLpPool, GlobalMaxPool, "
                "LpPool, ms:NhwcMaxPool, reducing, -ReduceMean, resizing"
            ),
        },
    ),
    "GRADIENTS": Gaps(
        {
            "its result does not move with its input (FLAT)": (
                "stepping, comparing, logical, sizes, ConstantOfShape, ArgMax, ArgMin"
            ),
            "it reads nothing that moves": "Constant",
            "it works on integers, which are not tuned": f"{INTEGERS}, whole numbers",
        },
        {
            "the type that its gradient is cast to is not known": "CastLike",
            "gradients go back through graphs without bodies": "bodies, optional",
            "its caches are the caller's, and it runs on them": "ms:GroupQueryAttention",
            "no network to tune had it": (
                "SwiGLU, ms:GatedAdd, CausalConvWithState, DeformConv, ms:EmbedLayerNormalization, "
                "Hardmax, CumProd, ms:NhwcMaxPool, ReduceProd, Upsample, CenterCropPad, Compress, "
                "OneHot, Scatter, TensorScatter, sampling, features"
            ),
        },
    ),
}
#: Facts that hold for few operators: these, and why all others lack them.
FEW = {
    "FUNCTIONS": ("functions, activations", "they have several inputs, or mix positions"),
    "ARITHMETIC": ("arithmetic", "they compute something else"),
    "LAYERS": ("layers", "what refits weights has no form for them; they are cut all the same"),
    "COPIES": (
        "passing, permuting, reshaping, cutting, repeating",
        "they compute numbers, or put some beside those that they read",
    ),
    "CASTS": ("casting", "the result has the type of the input, or another content"),
    "CHOICES": ("choosing", "no input says which of two others counts"),
    "MOVES": ("padding, Constant", "they compute numbers, or `COPIES` says it"),
    "EQUIVARIANT": ("GlobalMaxPool, MaxPool, resizing", "an offset or a scale does not pass"),
    "FILLS": ("ConstantOfShape, Expand", "the result holds more than one number"),
    "SIZES": ("sizes", "the result depends on what the input holds"),
    "LOOKUPS": ("Gather", "they look up no rows of a stored table"),
    "NORMALISATIONS": ("normalising", "they shift and scale nothing by statistics, or add as well"),
    "AFFINE": ("BatchNormalization", "statistics are those of the input"),
    "PROBABILITIES": ("Softmax", "results are no shares, or those of one class alone"),
    "DECIDING": (
        "Add, Cast, Concat, Gather, Identity, Mul, Neg, Reshape, Slice, Squeeze, Sub, Unsqueeze, "
        "Where",
        "equal results may be a coincidence, so that all inputs must be equal",
    ),
    "RANDOM": ("Dropout", "the same input gives the same result"),
    "ENCODERS": ("to integers, -DynamicQuantizeLinear", "no scale is given to them"),
    "DECODERS": ("to reals", "results are no reals made of integers alone"),
    "INTEGER_RESULTS": (
        "DynamicQuantizeLinear, on integers, QLinearConv, ms:QLinearConv, QLinearMatMul",
        "results are reals, or integers in the sense of ONNX",
    ),
    "PAIRS": (
        "integer layers, ms:DynamicQuantizeLSTM, -ms:MatMulNBits",
        "they multiply no bytes, or only such as have few bits",
    ),
    "PLACES": ("Slice, Pad", "what they do to positions is not asked for"),
    "FLAT": (
        "stepping, comparing, logical, sizes, ConstantOfShape, ArgMax, ArgMin",
        "results move with their inputs, or are not differentiated at all",
    ),
    "DIVISORS": (
        "Div, Mod, Reciprocal, Pow, Log, BatchNormalization, QuantizeLinear, ms:QuantizeLinear",
        "they divide by nothing that a mask sets to zero",
    ),
    "CENTRES": (
        "InstanceNormalization, LayerNormalization, ms:EmbedLayerNormalization, "
        "ms:SkipLayerNormalization, ReduceMean",
        "they subtract no mean before they sum",
    ),
    "AVERAGES": (
        "LayerNormalization, RMSNormalization, SimplifiedLayerNormalization, fused normalising, "
        "ReduceMean",
        "they divide no sum by a width of theirs, or may not lose positions there",
    ),
    "FACTORS": (
        "Pow, Reciprocal, Sqrt",
        "a factor passes as `ARITHMETIC`, `COPIES` and `CASTS` say, or not at all",
    ),
    "NORMS": (
        "LayerNormalization, RMSNormalization, SimplifiedLayerNormalization, fused normalising, "
        "-ms:EmbedLayerNormalization",
        "they do not normalise along the last axis alone, or look up tables before",
    ),
    "POWERS": (
        "ReduceL2, ReduceMean, ReduceSum, ReduceSumSquare",
        "what they give changes where a vector is turned, or is a vector",
    ),
    "LINEAR": (
        "GlobalAveragePool, Neg, ReduceMean, ReduceSum",
        "they weigh channels differently, or no stream was seen to run through them",
    ),
    "ORDERS": ("comparing", "they give no flag that says how two numbers compare"),
    "LARGEST": ("ArgMax, ArgMin", "they give no place, or the number as well"),
    "SCALES": (
        "BatchNormalization, GroupNormalization, InstanceNormalization",
        "they hold no learnt scale of each channel that a criterion ranks by",
    ),
}


def named(word: str) -> str:
    """An operator as the tables call it."""
    return word.replace("ms:", MS).replace("ml:", "ai.onnx.ml:")


def operators(text: str) -> set[str]:
    """The operators of kinds and names, separated by commas."""
    found, left_out = set[str](), set[str]()
    for word in (word.strip() for word in text.split(",")):
        target = left_out if word.startswith("-") else found
        word = word.removeprefix("-")
        target.update(map(named, KINDS[word].split() if word in KINDS else [word]))
    return found - left_out


def tables() -> dict[str, Collection[str]]:
    """Every facet by name, with the operators that have it."""
    names = (name for name in ops.__all__ if name.isupper() and name not in NO_FACETS)
    return {name: getattr(ops, name) for name in names}


#: Tables that are not facets: every operator is in one of the first two.
NO_FACETS = {"COUPLINGS", "BARRIERS", "FAMILIES"}


def lacking(gaps: Gaps) -> Iterator[tuple[str, set[str]]]:
    """Reasons why operators lack a facet, and which do."""
    for reason, text in (*gaps.none.items(), *gaps.missing.items()):
        yield reason, operators(text)
