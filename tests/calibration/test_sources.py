"""Calibration data from everywhere: the same samples, and clear refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from sample_data import BY_TWO, ONE, SCALAR, TWO, A, B, X, joined, write_sets

from onnxprune import InputError
from onnxprune.calibration.samples import calibration
from onnxprune.cli import main


class Reader:
    """As onnxruntime's CalibrationDataReader."""

    def __init__(self):
        self.rewind()

    def rewind(self):
        self.items = iter({"x": X[k : k + 1]} for k in range(10))

    def get_next(self):
        return next(self.items, None)


def test_every_source_gives_the_same_samples(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=X, labels=np.zeros(10, np.int64))
    np.savez_compressed(tmp_path / "b.npz", x=X)
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    for kind, save in (("npz", lambda f, v: np.savez(f, x=v)), ("npy", np.save)):
        (tmp_path / kind).mkdir()
        for k in range(10):
            save(tmp_path / kind / f"s{k}.{kind}", X[k : k + 1])
    for k in range(10):
        write_sets(tmp_path / "sets" / f"test_data_set_{k + 2}", X[k : k + 1])
    write_sets(tmp_path / "test_data_set_all", X)
    (tmp_path / "feeds.py").write_text(
        "import numpy as np\nfrom other import X\n"
        "def dicts():\n    for v in X:\n        yield {'x': v[None]}\n"
        "def arrays():\n    return [X[:4], X[4:]]\n"
        "def mapping():\n    return {'x': X}\n"
    )
    (tmp_path / "other.py").write_text(f"import numpy as np\nX = np.load(r'{tmp_path}/c.npy')\n")
    used = Reader()
    used.get_next()
    paths = ["a.npz", "b.npz", "c.npy", "f.npy", "npz", "npy", "test_data_set_all", "sets"]
    sources: list[Any] = [*(tmp_path / name for name in paths[:-1]), str(tmp_path / "sets")]
    sources += [f"{tmp_path}/feeds.py:{name}" for name in ("dicts", "arrays", "mapping")]
    sources += [{"x": X}, X, Reader(), used, iter([X]), [{"x": v[None]} for v in X]]
    digests = set()
    for source in sources:
        found = calibration(source, ONE)
        assert found.samples == 10 and len(found.batches) == 1, source
        np.testing.assert_array_equal(joined(found), X)
        np.testing.assert_array_equal(joined(found), X)
        digests.add(found.digest)
    assert len(digests) == 1
    assert calibration(X + 1, ONE).digest not in digests
    again = calibration(X, ONE)
    assert calibration(again, ONE) is again


def test_several_inputs(tmp_path: Path):
    np.savez(tmp_path / "ab.npz", a=A, b=B)
    (tmp_path / "ab").mkdir()
    np.save(tmp_path / "ab" / "a.npy", A)
    np.save(tmp_path / "ab" / "b.npy", B)
    write_sets(tmp_path / "test_data_set_0", A, B)
    for source in (*(tmp_path / n for n in ("ab.npz", "ab", "test_data_set_0")), {"a": A, "b": B}):
        found = calibration(source, TWO)
        np.testing.assert_array_equal(joined(found, "a"), A)
        np.testing.assert_array_equal(joined(found, "b"), B)


def refusals(tmp: Path) -> dict[str, tuple[object, onnx.ModelProto]]:
    """What the message says → what is wrong."""
    image = np.zeros((4, 1, 8, 8), np.float32)
    (tmp / "empty").mkdir()
    (tmp / "mixed").mkdir()
    np.save(tmp / "mixed" / "a.npy", X)
    np.savez(tmp / "mixed" / "b.npz", x=X)
    np.savez(tmp / "name.npz", image=image)
    np.savez(tmp / "shape.npz", x=X[:, :2])
    np.savez(tmp / "type.npz", x=X.astype(float))
    np.savez(tmp / "none.npz", x=X[:0])
    np.savez(tmp / "lengths.npz", a=A, b=B[:4])
    np.savez(tmp / "lacks.npz", a=A)
    np.savez(tmp / "more.npz", a=A, b=B, c=A)
    np.savez(tmp / "objects.npz", x=np.array([1, "a", None], object))
    np.save(tmp / "rank.npy", X[0])
    np.save(tmp / "single.npy", A)
    (tmp / "text.npz").write_text("no archive")
    (tmp / "text.npy").write_text("no array")
    (tmp / "cut.npy").write_bytes((tmp / "rank.npy").read_bytes()[:-8])
    (tmp / "cut.npz").write_bytes((tmp / "name.npz").read_bytes()[:-8])
    write_sets(tmp / "few", A)
    write_sets(tmp / "many", X, X)
    (tmp / "damaged").mkdir()
    (tmp / "damaged" / "input_0.pb").write_bytes(b"\xff\xff\xff")
    (tmp / "m.py").write_text(
        "import numpy as np\nvalue = 3\n"
        "def fails():\n    yield np.zeros((1, 3, 4), np.float32)\n    raise KeyError('lost')\n"
        "def at_once():\n    return 1 / 0\n"
        "def tuples():\n    yield (1, 2)\n"
        "def nothing():\n    return 7\n"
        "def none():\n    yield from ()\n"
        "def nan():\n    yield np.full((1, 3, 4), np.nan, np.float32)\n"
    )
    (tmp / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp / "ends.py").write_text("raise SystemExit(0)\n")
    code = f"{tmp}/m.py"
    return {
        "no.npz: no such file. Give an .npz": (tmp / "no.npz", ONE),
        "name.npz: holds 'image', but the model's input is 'x'": (tmp / "name.npz", ONE),
        "shape.npz: 'x' has shape [10, 2, 4], but the model takes ['N', 3, 4]":
            (tmp / "shape.npz", ONE),
        "rank.npy: 'x' has shape [3, 4], but the model takes ['N', 3, 4]": (tmp / "rank.npy", ONE),
        "type.npz: 'x' is float64, but the model takes float32": (tmp / "type.npz", ONE),
        "none.npz: arrays differ in length, or are empty: {'x': 0}": (tmp / "none.npz", ONE),
        "empty: {'a': 10, 'b': 4}": (tmp / "lengths.npz", TWO),
        "lacks.npz: lacks input 'b'. It holds: a": (tmp / "lacks.npz", TWO),
        "more.npz: holds 'c', which is no input": (tmp / "more.npz", TWO),
        "'x' holds Python objects": (tmp / "objects.npz", ONE),
        "single.npy: is a single array, but the model has the inputs a, b":
            (tmp / "single.npy", TWO),
        "text.npz: not a readable .npz file": (tmp / "text.npz", ONE),
        "text.npy: not a readable .npy file": (tmp / "text.npy", ONE),
        "cut.npz: not a readable .npz file": (tmp / "cut.npz", ONE),
        "holds no .npz, .npy or input_*.pb file": (tmp / "empty", ONE),
        "both .npz and .npy files": (tmp / "mixed", ONE),
        "input_1.pb is missing, for input 'b'": (tmp / "few", TWO),
        "input_1.pb: the model has 1 inputs only": (tmp / "many", ONE),
        "input_0.pb: not a stored tensor": (tmp / "damaged", ONE),
        "there is no file nowhere.py": ("nowhere.py:f", ONE),
        "m.py has no function 'f'. It has: fails, at_once": (f"{code}:f", ONE),
        "has no function 'value'": (f"{code}:value", ONE),
        "m.py:fails: KeyError in line 5 of m.py: 'lost'": (f"{code}:fails", ONE),
        "m.py:at_once: ZeroDivisionError in line 7 of m.py": (f"{code}:at_once", ONE),
        "m.py:tuples: yields values of type tuple: give a dict": (f"{code}:tuples", ONE),
        "m.py:nothing: is of type int, which holds no samples": (f"{code}:nothing", ONE),
        "m.py:none: holds no samples": (f"{code}:none", ONE),
        "m.py:nan: 'x' holds NaN": (f"{code}:nan", ONE),
        "broken.py:f': ModuleNotFoundError in line 1 of broken.py": (f"{tmp}/broken.py:f", ONE),
        "ends.py:f': SystemExit": (f"{tmp}/ends.py:f", ONE),
        "yields single arrays, but the model has the inputs a, b": ([A], TWO),
        "the model takes 2 samples at once, but there are 1": (X[:1], BY_TWO),
        "is of type int, which holds no samples": (7, ONE),
        "'s' is float64, but the model takes float32": ({"a": A, "s": np.float64(1)}, SCALAR),
    }  # fmt: skip


def test_refusals_say_what_is_wrong(tmp_path: Path):
    for message, (source, proto) in refusals(tmp_path).items():
        with pytest.raises(InputError) as caught:
            calibration(source, proto)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_ends_early_is_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", X)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"x\.npy: not a readable .npy file \(it ends in row 9\)"):
        calibration(tmp_path / "x.npy", ONE)


def test_the_command_line_ends_with_code_2(tmp_path: Path):
    for message, (source, proto) in refusals(tmp_path).items():
        if not isinstance(source, (str, Path)):
            continue
        onnx.save(proto, tmp_path / "model.onnx")
        words = ["sensitivity", str(tmp_path / "model.onnx"), "--calib", str(source)]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2, result.output
        assert result.output.startswith("Error: ") and message in result.output
        assert result.output.count("\n") == 1
