"""The seam to onnxruntime: sessions, runs and paired timings."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from onnxprune.errors import InputError, OperatorError

__all__ = [
    "CPU",
    "Device",
    "Feeds",
    "Value",
    "array_of",
    "compute",
    "custom_ops",
    "message_of",
    "open_session",
    "output_kinds",
    "output_shapes",
    "processor",
    "run",
    "run_values",
    "value_of",
    "version",
]

CPU = "CPUExecutionProvider"
Feeds: TypeAlias = Mapping[str, NDArray[Any]]
Session: TypeAlias = ort.InferenceSession
#: What onnxruntime passes from operator to operator: a tensor of any type, or a sequence.
Value: TypeAlias = ort.OrtValue
#: Types that numpy lacks, by name: ONNX's number for them and how many bits they are stored in.
_FOREIGN = {
    "bfloat16": (16, 16),
    "float8_e4m3fn": (17, 8),
    "float8_e4m3fnuz": (18, 8),
    "float8_e5m2": (19, 8),
    "float8_e5m2fnuz": (20, 8),
    "uint4": (21, 4),
    "int4": (22, 4),
    "float4_e2m1fn": (23, 4),
    "float8_e8m0fnu": (24, 8),
    "uint2": (25, 2),
    "int2": (26, 2),
}


@dataclass(frozen=True)
class Device:
    """What runs the model: provider by onnxruntime's name or short (`cpu`), threads (0: all)."""

    provider: str = CPU
    threads: int = 1

    def resolve(self) -> str:
        """The provider's full name; InputError lists what is installed."""
        available = ort.get_available_providers()
        for name in available:
            short = name.removesuffix("ExecutionProvider").lower()
            if self.provider.lower() in (name.lower(), short):
                return str(name)
        raise InputError(
            f"provider '{self.provider}' is not in this onnxruntime. It has: "
            f"{', '.join(available)}. Choose one of them."
        )

    def environment(self) -> dict[str, Any]:
        """What times depend on beside the model: provider, threads, onnxruntime, the processor."""
        return {
            "provider": self.resolve(),
            "threads": self.threads,
            "onnxruntime": version(),
            "cpu": processor(),
        }


def open_session(
    model: bytes | str,
    device: Device | None = None,
    optimize: bool = True,
    spin: bool = True,
    profile: str = "",
) -> Session:
    """A session on serialised bytes or a path.

    Without `optimize` the operators run as they are written: quick to open. Without `spin` threads
    that wait for the next operator leave the processor to others, such as numpy's. `profile` is how
    the file begins that the profiler writes.
    """
    device = device or Device(threads=0)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = device.threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
        options.enable_mem_reuse = False  # planning it is quadratic in shape arithmetic
        options.add_session_config_entry("session.disable_prepacking", "1")
    if not (optimize and spin):
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    for library in _libraries:
        options.register_custom_ops_library(library)
    try:
        # falling back would try the same again, and print that
        session = ort.InferenceSession(model, options, [device.resolve()], enable_fallback=0)
        session._model_bytes = None  # kept for falling back only, as large as all weights
        return session
    except InputError:
        raise
    except Exception as error:
        text = message_of(error)
        _check_memory(error)
        if not any(words in text for words in _NO_OPERATOR):
            raise InputError(
                f"onnxruntime cannot load the model: {text}. Export the model again."
            ) from error
        raise OperatorError(
            f"onnxruntime cannot run the model: {text}. Without running it there is no proof. Name "
            "the library that implements the operator with --custom-ops."
        ) from error


#: How onnxruntime says that there is no memory.
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "Cannot allocate memory")
#: Where in onnxruntime's sources something was found, and in which function.
_SIGNATURE = re.compile(r"\S+\.(?:cc|h):\d+ (?:\S[^()]*::.*?\)(?: const)?(?: \[with .*?\])? )?")
#: How the name of a node ends that onnxruntime made of another one, or in front of it.
_MADE = re.compile(r"(?<=\w)_token_\d+(?=')")
#: How onnxruntime says that it does not have an operator.
_NO_OPERATOR = (
    "is not a registered function/op",
    "No Op registered for",
    "Could not find an implementation for",
    "No opset import for domain",
)
_libraries: list[str] = []


def custom_ops(library: str | os.PathLike[str]) -> None:
    """Let all sessions of this process have the operators of a shared library.

    Raises:
        InputError: it cannot be loaded.
    """
    path = str(Path(library).resolve())
    try:
        ort.SessionOptions().register_custom_ops_library(path)
    except Exception as error:
        raise InputError(
            f"{library}: not a library of custom operators: {message_of(error)}. Give another one."
        ) from error
    if path not in _libraries:
        _libraries.append(path)


def message_of(error: BaseException) -> str:
    """What onnxruntime says, in one line, without codes, source files, signatures, made names."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"Load model from \S* failed: ?", "", text)
    text = re.sub(_SIGNATURE, "", text)
    text = re.sub(_MADE, "", text)
    return text[:600].rstrip(". ")


def _check_memory(error: Exception) -> None:
    """Raise MemoryError if that is what an error is about: it says nothing about the model."""
    text = message_of(error)
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        raise MemoryError(text) from error


def run(
    session: Session, feeds: Feeds, told: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """All outputs by name; `told` are the inputs that a message may speak of, None: all."""
    names = [output.name for output in session.get_outputs()]
    try:
        given = {
            name: value_of(value) if _is_foreign(value) else value for name, value in feeds.items()
        }
        return dict(zip(names, session.run(names, given), strict=True))
    except Exception as error:
        shapes = {k: list(np.shape(v)) for k, v in feeds.items() if told is None or k in told}
        raise _refused(error, shapes) from error


def _is_foreign(value: Any) -> bool:
    """Whether numpy lacks the type of a tensor; a sequence is a list."""
    return isinstance(value, np.ndarray) and value.dtype.name in _FOREIGN


def run_values(
    session: Session, feeds: Mapping[str, Value], told: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Value]:
    """All outputs by name, in onnxruntime's own memory; what is fed is not copied.

    `told` are the shapes of inputs that a message may speak of, None: of all.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run_with_ort_values(names, dict(feeds)), strict=True))
    except Exception as error:
        shapes = {k: v.shape() for k, v in feeds.items() if v.is_tensor()}
        raise _refused(error, shapes if told is None else told) from error


def _refused(error: Exception, shapes: Mapping[str, Sequence[int]]) -> InputError:
    _check_memory(error)
    text = message_of(error)
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:4])
    return InputError(
        f"onnxruntime cannot run the model on {shown}: {text}. "
        "State sizes that fit with --input-shape name:1,3,224,224."
    )


def value_of(array: NDArray[Any]) -> Value:
    """An array as onnxruntime takes it, in the same memory unless its type shares bytes."""
    data: NDArray[Any] = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name not in _FOREIGN:
        return ort.OrtValue.ortvalue_from_numpy(data)
    number, bits = _FOREIGN[array.dtype.name]
    if bits < 8:  # packed into the first bytes of a buffer with the right shape
        packed = _packed(data.view(np.uint8).ravel(), bits)
        data = np.zeros(array.shape, np.uint8)
        data.ravel()[: len(packed)] = packed
    data = data.view(np.uint16 if bits == 16 else np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(data, number)


def array_of(value: Value) -> NDArray[Any]:
    """What onnxruntime computed, as an array."""
    return np.asarray(value.numpy())


def _packed(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Numbers of so many bits side by side, the first in the lowest bits."""
    per_byte = 8 // bits
    rows = np.pad(values & (2**bits - 1), (0, -len(values) % per_byte)).reshape(-1, per_byte)
    shifted = rows << np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=1)
    return packed


def compute(model: bytes, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Values of a model without inputs; none where onnxruntime does not run it."""
    try:
        session = open_session(model, optimize=False)
        return dict(zip(outputs, session.run(list(outputs), {}), strict=True))
    except Exception as error:  # an unknown operator among them only costs knowledge
        _check_memory(error)
        return {}


def output_shapes(model: bytes) -> dict[str, tuple[int | None, ...]]:
    """Shapes that onnxruntime infers for a model's outputs; none where it does not open it."""
    try:
        session = open_session(model, optimize=False)
    except InputError:  # it only costs knowledge
        return {}
    return {
        output.name: tuple(d if isinstance(d, int) else None for d in output.shape)
        for output in session.get_outputs()
        if output.type.startswith("tensor")
    }


def output_kinds(model: bytes) -> dict[str, str]:
    """Types that onnxruntime infers for a model's outputs; none where it does not open it."""
    try:
        session = open_session(model, optimize=False)
    except InputError:  # it only costs knowledge
        return {}
    return {output.name: str(output.type) for output in session.get_outputs()}


def version() -> str:
    """Onnxruntime's version."""
    return str(ort.__version__)


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
