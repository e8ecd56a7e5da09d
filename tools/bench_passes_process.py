"""What tools/bench_passes.py runs in processes of their own, so that each has its own peak memory.

Usage: `python tools/bench_passes_process.py build resnet50 64 FOLDER`, start reading at `build`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from bench_networks import NETWORKS
from numpy.typing import NDArray
from onnx import TensorProto, helper
from real_inputs import photographs
from real_packages import MissingError, cached, content

from onnxprune import cli, cli_prune
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze, load
from onnxprune.settings import Settings

SEED = 18
#: Passes through the original, of which the shortest counts.
PASSES = 3
NUDENET = ("nudenet", "3.4.2"), "nudenet/320n.onnx"
SHARED = Path(__file__).resolve().parents[2] / "shared"
Built = tuple[onnx.ModelProto, dict[str, NDArray[Any]]]


@click.group()
def main() -> None:
    """Build, run and prune the models of bench.py passes."""


@main.command()
@click.argument("kind")
@click.argument("samples", type=click.IntRange(1))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def build(kind: str, samples: int, folder: Path) -> None:
    """Write FOLDER/model.onnx and FOLDER/calib.npz with so many samples."""
    try:
        made = {"yolov8n": _yolo, "trivial": _trivial}.get(kind)
        model, feeds = made(samples) if made else _network(kind, samples)
    except MissingError as reason:
        raise click.ClickException(str(reason)) from reason
    onnx.save(model, folder / "model.onnx")
    with (folder / "calib.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **feeds)


def _network(kind: str, samples: int) -> Built:
    """A network with random weights on seeded noise."""
    network, rng = NETWORKS[kind], np.random.default_rng(SEED)
    shape = (samples, *network.sample)
    if network.words:
        return network.build(), {"input": rng.integers(0, network.words, shape)}
    return network.build(), {"input": rng.standard_normal(shape, np.float32)}


def _yolo(samples: int) -> Built:
    """The detector of nudenet on photographs."""
    model = onnx.load_from_string(content(*NUDENET, cached()))
    name = model.graph.input[0].name
    feeds = photographs(name, 320, 320, lambda image: image.transpose(2, 0, 1) / 255)(samples)
    return model, {name: np.concatenate([one[name] for one in feeds]).astype(np.float32)}


def _trivial(samples: int) -> Built:
    """A perceptron of a few weights, which shows what starting costs."""
    rng = np.random.default_rng(SEED)
    weights = [rng.standard_normal(shape, np.float32) for shape in ((4, 8), (8, 2))]
    nodes = [
        helper.make_node("MatMul", ["input", "a"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["y", "b"], ["output"]),
    ]
    ends = [("input", 4), ("output", 2)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in ends]
    stored = [onnx.numpy_helper.from_array(w, n) for w, n in zip(weights, "ab", strict=True)]
    graph = helper.make_graph(nodes, "trivial", values[:1], values[1:], stored)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model, {"input": rng.standard_normal((samples, 4), np.float32)}


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def plain(folder: Path) -> None:
    """Print processor seconds of one pass of the samples through the model.

    Batches are those of onnxprune; the session has one thread and is otherwise as it comes.
    """
    proto = load(folder / "model.onnx")
    nodes = analyze(proto, Settings()).nodes
    data = calibration(str(folder / "calib.npz"), proto, Settings(), nodes)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = str(folder / "model.onnx")
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(PASSES):
        start = time.process_time()
        for feeds in data.batches:
            session.run(None, feeds)
        times.append(time.process_time() - start)
    print(json.dumps({"seconds": min(times), "batch": max(data.sizes)}))


class StageTimes:
    """In place of the progress bar: processor seconds from each stage's name to the next."""

    def __init__(self, **_options: Any) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.stage, self.since = "start", 0.0

    def __call__(self, stage: str, _share: float) -> None:
        """Count what passed for the stage before; what may follow a comma is an estimate."""
        now = time.process_time()
        self.seconds[self.stage] += now - self.since
        self.stage, self.since = stage.partition(",")[0], now

    def close(self) -> None:
        """Count the last stage."""
        self(self.stage, 1.0)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("times", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def timed(times: Path, words: tuple[str, ...]) -> None:
    """Run the command line `onnxprune WORDS` and write seconds per stage into TIMES."""
    bars = list[StageTimes]()

    def bar(**options: Any) -> StageTimes:
        bars.append(StageTimes(**options))
        return bars[-1]

    setattr(cli_prune, "Bar", bar)  # noqa: B010
    cli.main(list(words), standalone_mode=False)
    times.write_text(json.dumps(bars[0].seconds))


if __name__ == "__main__":
    main()
