"""Calibration data from everywhere: the same samples, batches that fit, and clear refusals."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper, parser
from paths import ROOT

from onnxprune import InputError, Settings
from onnxprune.calibration import samples
from onnxprune.calibration.samples import Calibration, apart, calibration
from onnxprune.cli import main
from onnxprune.groups.analysis import analyze
from onnxprune.settings import settings_of

DIGITS = str(ROOT / "models" / "digits.onnx")


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


ONE = model("m (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }")
BY_TWO = model("m (float[2,3,4] x) => (float[2,3,4] y) { y = Relu(x) }")
TWO = model(
    "m (float[N,3] a, int64[N,L] b) => (float[N,3] y, int64[N,L] z) { y = Relu(a) z = Neg(b) }"
)
SCALAR = model("m (float[N,3] a, float s) => (float[N,3] y) { y = Mul(a, s) }")
NAMED = model("m (float[N,3] a, float[M,3] b) => (float[K,3] y) { y = Concat<axis=0>(a, b) }")
X = np.random.default_rng(0).standard_normal((10, 3, 4)).astype(np.float32)
A, B = X[:, :, 0].copy(), np.arange(50).reshape(10, 5)


def joined(analysis, name="x"):
    return np.concatenate([feeds[name] for feeds in analysis.batches])


def write_sets(folder: Path, *arrays: np.ndarray):
    folder.mkdir(parents=True)
    for k, array in enumerate(arrays):
        data = numpy_helper.from_array(array).SerializeToString()
        (folder / f"input_{k}.pb").write_bytes(data)
    (folder / "output_0.pb").write_bytes(b"")


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
    sources = [tmp_path / name for name in paths[:-1]] + [str(tmp_path / "sets")]
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


def test_batches_are_as_large_as_the_model_takes():
    many = np.repeat(X, 30, 0)
    sizes = [len(feeds["x"]) for feeds in calibration(many, ONE).batches]
    assert sizes == [64, 64, 64, 64, 44]
    found = calibration((v[None] for v in X[:9]), BY_TWO)
    assert [len(feeds["x"]) for feeds in found.batches] == [2, 2, 2, 2] and found.samples == 8
    assert "1 calibration samples were left out: the model takes 2 at once" in found.notes
    np.testing.assert_array_equal(joined(found), X[:8])


def test_lengths_that_differ_go_to_batches_of_their_own():
    feeds = [{"a": A[k : k + 1], "b": B[k : k + 1, : 3 + k % 2]} for k in range(10)]
    found = calibration(feeds, TWO)
    assert sorted(b["b"].shape for b in found.batches) == [(5, 3), (5, 4)]


def test_a_large_sample_makes_small_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples, "BYTES", 3 * X[0].nbytes)
    assert [len(feeds["x"]) for feeds in calibration(X, ONE).batches] == [3, 3, 3, 1]


def test_inputs_without_a_common_first_axis_are_fed_as_they_are():
    feeds = [{"a": A[:k], "s": np.float32(k)} for k in (1, 2, 3)]
    found = calibration(feeds, SCALAR)
    assert [len(b["a"]) for b in found.batches] == [1, 2, 3] and found.samples == 3
    found = calibration({"a": A[:2], "b": A[:5]}, NAMED)
    assert [(len(b["a"]), len(b["b"])) for b in found.batches] == [(2, 5)]


@pytest.mark.parametrize("saved", ["npz", "npy", "folder", "mapping"])
def test_fewer_samples_are_spread_evenly(saved: str, tmp_path: Path):
    """Files sorted by class would give one class otherwise."""
    source: object = {"x": X}
    if saved == "npz":
        np.savez_compressed(tmp_path / "x.npz", x=X)
        source = tmp_path / "x.npz"
    elif saved != "mapping":
        parts = [X] if saved == "npy" else [X[:3], X[3:4], X[4:]]
        for k, part in enumerate(parts):
            np.save(tmp_path / f"{k}.npy", part)
        source = tmp_path / "0.npy" if saved == "npy" else tmp_path
    found = calibration(source, ONE, Settings(calib_samples=4))
    np.testing.assert_array_equal(joined(found), X[[0, 2, 5, 7]])


def test_of_a_stream_the_first_samples_are_taken():
    drawn = []

    def stream():
        for k in range(10):
            drawn.append(k)
            yield X[k : k + 1]

    found = calibration(stream(), ONE, Settings(calib_samples=3))
    np.testing.assert_array_equal(joined(found), X[:3])
    assert drawn == [0, 1, 2]


def test_a_reused_buffer_does_not_change_what_was_yielded():
    buffer = np.empty((1, 3, 4), np.float32)

    def stream():
        for value in X:
            buffer[0] = value
            yield buffer

    np.testing.assert_array_equal(joined(calibration(stream(), ONE)), X)


def test_many_samples_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """16 MB of samples with 1 MB allowed; a few batches are in memory while they fill up."""
    monkeypatch.setattr(samples, "MEMORY", 2**20)
    monkeypatch.setattr(samples, "BYTES", 2**18)
    wide = model("m (float[N,4096] x) => (float[N,4096] y) { y = Relu(x) }")
    stream = (np.full((1, 4096), k, np.float32) for k in range(1024))
    tracemalloc.start()
    found = calibration(stream, wide, Settings(scratch=tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
    for _ in range(2):
        values = [feeds["x"][:, 7] for feeds in found.batches]
        np.testing.assert_array_equal(np.concatenate(values), np.arange(1024))
    assert list(tmp_path.iterdir()) == []


def test_random_is_seeded_and_said():
    settings = Settings(calib_samples=200)
    first, again = (calibration("random", TWO, settings) for _ in range(2))
    assert first.samples == 200 and first.digest == again.digest
    assert first.source == "random inputs" and "say little" in first.notes[0]
    assert calibration("random", TWO, Settings(calib_samples=200, seed=1)).digest != first.digest
    assert len(np.unique(joined(first, "a"), axis=0)) == 200


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


@pytest.mark.parametrize("setting", [{"calib_samples": 0}, {"steps": 0}, {"max_drop": -1.0}])
def test_settings_out_of_range(setting: dict):
    with pytest.raises(InputError, match=next(iter(setting))):
        settings_of(None, setting)


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


def test_batches_suit_the_largest_activation(monkeypatch: pytest.MonkeyPatch):
    """The hidden layer is sixteen times as wide as the input."""
    draw = np.random.default_rng(0).standard_normal
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
                onnx.helper.make_node("MatMul", ["h", "v"], ["y"]),
            ],
            "wide",
            [onnx.helper.make_tensor_value_info("x", 1, ["N", 8])],
            [onnx.helper.make_tensor_value_info("y", 1, ["N", 4])],
            [
                onnx.numpy_helper.from_array(draw(shape).astype(np.float32), name)
                for name, shape in (("w", (8, 128)), ("v", (128, 4)))
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    nodes = analyze(model).nodes
    x = draw((50, 8)).astype(np.float32)
    monkeypatch.setattr(samples, "BYTES", 20 * 128 * 4)
    whole = calibration(x, model)
    assert whole.sizes == (50,)
    for found in (calibration(x, model, nodes=nodes), calibration(whole, model, nodes=nodes)):
        assert found.sizes == (20, 20, 10) and found.digest == whole.digest
        np.testing.assert_array_equal(joined(found), x)
    monkeypatch.setattr(samples, "BYTES", 1)
    assert calibration(x, model, nodes=nodes).sizes == (1,) * 50
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 10
    assert calibration(x, fixed, nodes=nodes).sizes == (10,) * 5


@pytest.mark.parametrize(
    ("sizes", "whole", "held"),
    [
        ((64, 64, 22), False, (4, 4, 1)),
        ((1,) * 20, True, (1, 1)),
        ((4,) * 4, False, (1, 1)),
        ((7,), False, ()),
    ],
)
def test_samples_are_held_back(sizes, whole, held):
    """About one in eight (16 of 64), from all over, and each is on one side."""
    each = 16 if sizes[0] == 64 else 8
    ends = np.cumsum((0, *sizes))
    batches = tuple({"x": np.arange(a, b)} for a, b in itertools.pairwise(ends))
    rest, back = apart(Calibration(batches, tuple(sizes), "", "", whole=whole), each)
    assert back.sizes == held and rest.samples + back.samples == sum(sizes)
    seen = [v for part in (rest, back) for feeds in part.batches for v in feeds["x"].tolist()]
    assert sorted(seen) == list(range(sum(sizes)))
    for part in (rest, back):
        assert tuple(len(feeds["x"]) for feeds in part.batches) == part.sizes
