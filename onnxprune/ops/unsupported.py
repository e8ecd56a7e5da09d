"""Operators whose axes all stay whole, and why: no removal would be exact, or none makes sense."""

from __future__ import annotations

from collections.abc import Mapping

from onnxprune.ops.facets import MOVES, RANDOM, mark
from onnxprune.ops.gradients import FLAT

__all__ = ["FROZEN"]

_RANDOM = """
    Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike
    """
#: Reason, and the operators it holds for.
FROZEN: Mapping[str, str] = {
    "positions are values: a removed one changes the numbers of those behind it": """
        AffineGrid EyeLike MaxUnpool MelWeightMatrix NonMaxSuppression NonZero Range
    """,
    "how many positions are left depends on the data": "Unique",
    "the window's shape depends on its length": "BlackmanWindow HammingWindow HannWindow",
    "random numbers are drawn in order: a smaller tensor draws others": _RANDOM,
    "the labels count the classes, and the loss averages the rest": """
        NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss
    """,
    "it works on strings, which no weight makes": """
        RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer
        ai.onnx.ml:CategoryMapper ai.onnx.ml:LabelEncoder ai.onnx.ml:OneHotEncoder
    """,
    "it decodes a file, which no weight makes": "ImageDecoder",
    "the shape of an optional is not known": "Optional",
    "the tensors in a list are not told apart": """
        ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
        SequenceLength SequenceMap SplitToSequence
    """,
    "it works on maps, which have no axes": """
        ai.onnx.ml:CastMap ai.onnx.ml:DictVectorizer ai.onnx.ml:ZipMap
    """,
    "it puts raw features side by side, which no weight makes": "ai.onnx.ml:FeatureVectorizer",
    "its coefficients are attributes, which are not pruned": """
        ai.onnx.ml:LinearClassifier ai.onnx.ml:LinearRegressor ai.onnx.ml:SVMClassifier
        ai.onnx.ml:SVMRegressor
    """,
    "its trees know features by their number": """
        ai.onnx.ml:TreeEnsemble ai.onnx.ml:TreeEnsembleClassifier ai.onnx.ml:TreeEnsembleRegressor
    """,
    "it is a step of training, not of a model that is run": """
        ai.onnx.preview.training:Adagrad ai.onnx.preview.training:Adam
        ai.onnx.preview.training:Gradient ai.onnx.preview.training:Momentum
    """,
    "its heads are packed beside a state that onnxruntime does not compute yet": "LinearAttention",
    "its scores are computed by graphs of its own": "ai.onnx.preview:FlexAttention",
}

mark(RANDOM, *_RANDOM.split())
mark(MOVES, "Range")
mark(FLAT, "NonZero", "Range")
