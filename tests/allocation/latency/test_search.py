"""A target on latency, with a clock that is made up: time is a staircase of each weight's axes."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, Net
from paths import MODELS

import onnxprune
from onnxprune import ops, progress
from onnxprune.allocation import widths
from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.latency import padding, search, timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.staircase import grid, measured
from onnxprune.allocation.latency.subgraphs import Subgraphs
from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.latency.timer import TimedModel
from onnxprune.allocation.state import Table
from onnxprune.allocation.targets import budgets
from onnxprune.cli import main
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import inputs as feeds
from onnxprune.ir import runtime
from onnxprune.ir.runtime import Device
from onnxprune.settings import Settings

DIGITS = str(MODELS / "digits.onnx")
FULL = (1e6, 1e5, 4e5, 64.0)


class Clock:
    """Instead of running models: what blocks of channels cost, and how much a whole one differs."""

    def __init__(self, block: int = 8) -> None:
        self.block = block
        self.whole = 1.0  # exponent of what the whole model takes
        self.odd = 1.0  # how much longer it takes if results are no blocks of 16
        self.constant = False
        self.jobs: list[bytes] = []

    def cost(self, model: bytes) -> float:
        """Time of a model: 1 for each operator, and what its weights' blocks are."""
        graph = onnx.ModelProto.FromString(model).graph
        time = float(len(graph.node))
        for tensor in () if self.constant else graph.initializer:
            if len(tensor.dims) > 1:
                channels = [math.ceil(d / self.block) * self.block for d in tensor.dims[:2]]
                odd = self.odd if tensor.dims[0] % 16 else 1.0
                time += odd * math.prod(channels) * math.prod(tensor.dims[2:]) / 20
        return time

    def timed(self, base: TimedModel, jobs: list[TimedModel], device: Device) -> list[float]:
        self.jobs += [job.model for job in jobs]
        return [self.cost(job.model) / self.cost(base.model) for job in jobs]

    def ratio(self, models: tuple[bytes, bytes], *_rest: object) -> float:
        first, second = map(self.cost, models)
        return (second / first) ** self.whole


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    made = Clock()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(timer, "timed", lambda *given: made.timed(*given))
    monkeypatch.setattr(timer, "ratio", lambda *given: made.ratio(*given))
    return made


def opened(model: onnx.ModelProto | str):
    proto = onnx.load(model) if isinstance(model, str) else model
    analysis = analyze(proto, Settings())
    inputs = feeds.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, 0)
    return analysis, Subgraphs(analysis, inputs), inputs


def staircase(model: onnx.ModelProto | str):
    found, subgraphs, inputs = opened(model)
    whole = "whole", TimedModel(found.original.SerializeToString(), inputs)
    grids = [grid(group) for group in found.groups]
    stairs = measured(subgraphs, TimeCache(Device()), grids, whole, lambda _share: None)
    return found, stairs


def widths_of(result: onnxprune.Result) -> list[tuple[int, int]]:
    return [(row["channels"], row["kept"]) for row in result.report.groups]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_pieces_run_alone_at_any_width(name: str):
    found, subgraphs, _ = opened(NETWORKS[name]())
    for g, group in enumerate(found.groups):
        subgraph = subgraphs.around(g, [1.0] * len(subgraphs.single), 0.0)
        for width in {group.channels, max(1, group.channels // 2)}:
            _, job = subgraphs.job(subgraph, {g: width})
            outputs = runtime.run(runtime.open_session(job.model, optimize=False), job.feeds)
            assert sorted(outputs) == sorted(subgraph.gives)


def test_every_operator_that_sees_a_group_is_in_a_piece():
    found, subgraphs, _ = opened(DIGITS)
    names = [proto.output[0] for subgraph in subgraphs.single for proto in subgraph.protos]
    assert len(names) == len(set(names))
    axes = {axis.tensor for group in found.groups for axis, _ in group.axes()}
    seeing = {n.output[0] for n in found.model.graph.node if axes & {*n.input, *n.output}}
    assert seeing <= set(names)


def test_a_short_piece_is_timed_with_what_lies_around_it():
    _, subgraphs, _ = opened(DIGITS)
    times = [1.0] * len(subgraphs.single)
    alone, wider = subgraphs.around(1, times, 0.0), subgraphs.around(1, times, 100.0)
    assert len(alone.protos) < len(wider.protos)
    assert set(wider.gives) <= {output.name for output in subgraphs.model.graph.output}


def test_only_steps_are_offered(clock: Clock):
    found, stairs = staircase(DIGITS)
    for group, offered in zip(found.groups, stairs.offered, strict=True):
        assert offered[-1] == group.channels
        assert all(width % clock.block == 0 for width in offered.tolist())


def test_widths_that_are_slower_than_wider_ones_are_not_offered(clock: Clock):
    clock.odd = 20.0
    found, stairs = staircase(DIGITS)
    wide = [o for g, o in zip(found.groups, stairs.offered, strict=True) if g.channels % 16 == 0]
    assert wide
    assert all(width % 16 == 0 for offered in wide for width in offered.tolist())


def test_one_group_alone_takes_what_was_measured(clock: Clock):
    found, stairs = staircase(DIGITS)
    full = np.array([group.channels for group in found.groups])
    assert stairs.times.at(full) == pytest.approx(1)
    whole = clock.cost(found.original.SerializeToString())
    for g, offered in enumerate(stairs.offered):
        for width in offered.tolist():
            kept = [np.arange(n) < (width if k == g else n) for k, n in enumerate(full)]
            cut = clock.cost(search.narrowed(found, kept, None).SerializeToString())
            there = full.copy()
            there[g] = width
            assert stairs.times.at(there) == pytest.approx(cut / whole, abs=0.02)


def test_times_are_measured_once_and_kept(clock: Clock, tmp_path: Path):
    staircase(DIGITS)
    count = len(clock.jobs)
    assert count
    (stored,) = tmp_path.glob("onnxprune/latency-*.json")
    content = json.loads(stored.read_text())
    assert content["machine"]["onnxruntime"] == runtime.version()
    staircase(DIGITS)
    assert len(clock.jobs) == count
    stored.write_text("{")
    staircase(DIGITS)
    assert len(clock.jobs) == 2 * count


def test_equal_layers_are_timed_once(clock: Clock):
    _, subgraphs, _ = opened(DIGITS)
    names = [subgraphs.job(subgraph, {})[0] for subgraph in subgraphs.single]
    table = TimeCache(Device())
    jobs = [subgraphs.job(subgraph, {}) for subgraph in subgraphs.single]
    table.measure(dict(jobs), ("reference", timer.REFERENCE))
    assert len(set(clock.jobs)) == len(set(names))


def test_another_device_has_a_table_of_its_own(clock: Clock):
    assert TimeCache(Device(threads=1)).path != TimeCache(Device(threads=2)).path


@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("whole", [0.8, 1.0, 1.3])
def test_the_whole_model_meets_the_target(clock: Clock, share: float, whole: float):
    clock.whole = whole  # the whole gains more or less than its pieces say
    result = onnxprune.prune(DIGITS, {"latency": share})
    models = Path(DIGITS).read_bytes(), result.model.SerializeToString()
    assert share - 0.15 < clock.ratio(models) <= share
    assert all(kept in (n, *range(0, n, 8)) for n, kept in widths_of(result))


def test_together_with_another_target(clock: Clock):
    result = onnxprune.prune(DIGITS, {"latency": 0.8, "params": 0.4})
    assert result.report.achieved["params"] <= 0.4


def test_nothing_is_faster(clock: Clock, tmp_path: Path):
    clock.constant = True
    output = tmp_path / "out.onnx"
    done = CliRunner().invoke(main, ["prune", DIGITS, str(output), "--target", "latency=0.9"])
    assert done.exit_code == 3
    assert "no plan is faster than the original" in done.output
    assert not output.exists()


def test_out_of_reach(clock: Clock):
    with pytest.raises(TargetError, match="is the least"):
        onnxprune.prune(DIGITS, {"latency": 0.001})


def test_after_lossless_removal_the_target_is_still_the_original_s(clock: Clock):
    result = onnxprune.prune(DIGITS, {"latency": 0.5}, lossless=True)
    models = Path(DIGITS).read_bytes(), result.model.SerializeToString()
    assert clock.ratio(models) <= 0.5


def odd_depthwise():
    """A depthwise layer of 12 channels between others of 16 and 32."""
    n = Net(x=(1, 3, 12, 12))
    y = n.relu(n.conv("x", 3, 12))
    y = n.relu(n.conv(y, 12, 12, group=12))
    y = n.relu(n.conv(y, 12, 32))
    y = n.relu(n.conv(y, 32, 16))
    return n.model(n.op("GlobalAveragePool", n.conv(y, 16, 4)))


def test_zeros_fill_blocks_where_that_is_faster(clock: Clock, tmp_path: Path):
    clock.block, clock.odd = 4, 3.0
    model = odd_depthwise()
    result = onnxprune.prune(model, {"latency": 0.7}, min_channels=12)
    models = model.SerializeToString(), result.model.SerializeToString()
    assert clock.ratio(models) <= 0.7
    assert any("first 4 channels of zeros in 1 groups" in note for note in result.report.notes)
    assert widths_of(result)[0][0] == 16
    (tmp_path / "plan.json").write_text(result.plan_json)
    again = onnxprune.apply(model, tmp_path / "plan.json")
    shapes = [[list(t.dims) for t in r.model.graph.initializer] for r in (result, again)]
    assert shapes[0] == shapes[1] and [16, 1, 3, 3] in shapes[0]


def test_zeros_alone_reach_a_target(clock: Clock):
    clock.block, clock.odd = 4, 3.0
    model = odd_depthwise()
    result = onnxprune.prune(model, {"latency": 0.98})
    assert all(kept == n for n, kept in widths_of(result))
    assert result.report.fidelity.cosine > 1 - 1e-9
    assert result.report.after.macs > result.report.before.macs


def test_no_zeros_where_they_gain_nothing(clock: Clock):
    result = onnxprune.prune(odd_depthwise(), {"latency": 0.8})
    assert not any("zeros" in note for note in result.report.notes)
    assert widths_of(result)[0][0] == 12


def test_zeros_in_what_divides_are_ones_again(clock: Clock):
    clock.block, clock.odd = 4, 3.0
    n = Net(x=(1, 3, 12, 12))
    y = n.op("Div", n.conv("x", 3, 12), n.weight(12, 1, 1))
    y = n.bn(n.conv(n.relu(y), 12, 12, group=12), 12)
    model = n.model(n.conv(n.relu(y), 12, 32))
    analysis = analyze(model, Settings())
    stage = padding.filled(analysis, {0: 16}, Settings())
    assert stage.proof.passed and np.isfinite(next(iter(stage.pruned.values()))).all()


@pytest.mark.parametrize("text", ["5ms", "5000us", "0.005s"])
def test_milliseconds(text: str):
    assert budgets({"latency": text}, FULL, lambda: 10.0) == {"latency": pytest.approx(0.5)}


def test_more_time_than_it_takes_is_no_budget():
    assert budgets({"latency": "20ms"}, FULL, lambda: 10.0) == {"latency": 1.0}


@pytest.mark.parametrize("text", ["5", "0", "-1ms", "5MB", "fast", "150%"])
def test_what_is_no_latency(text: str):
    with pytest.raises(InputError, match="latency"):
        budgets({"latency": text}, FULL, lambda: 10.0)


def test_milliseconds_where_only_shares_make_sense():
    with pytest.raises(InputError, match="give a share here"):
        budgets({"latency": "5ms"}, FULL)


@pytest.mark.parametrize("text", ["0", "-8", "often", "2.5"])
def test_what_is_no_step(text: str):
    arguments = ["prune", DIGITS, "out.onnx", "--target", "macs=0.5", "--round-to", text]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "round_to" in done.output


def test_a_step_that_pays_only_later_is_seen():
    """Time falls by nothing at first and then by a lot: single steps would never get there."""
    found, _, _ = opened(DIGITS)
    n = [group.channels for group in found.groups]
    factors = [np.ones(k + 1) for k in n]
    factors[0][: n[0] // 2 + 1] = 0.1
    times = TimeModel(0.0, [SubgraphTime(1.0, [0])], factors)
    tables = [Table(np.arange(k, -1, -1.0), np.arange(1, k + 1)) for k in n]
    found_widths = allocate(found.cost, {"latency": 0.5}, tables, times=times)
    assert found_widths.met
    assert found_widths.widths.tolist() == [n[0] // 2, *n[1:]]


def test_two_groups_exchange_widths_where_steps_do_not_fit():
    """The cheapest first step is so large that the second one then has to be a dear one."""
    found, _, _ = opened(DIGITS)
    n = [group.channels for group in found.groups]
    factors = [np.linspace(0, 1, k + 1) for k in n]
    times = TimeModel(0.0, [SubgraphTime(0.5, [0]), SubgraphTime(0.5, [1])], factors)
    offered = [np.unique([k // 2, 3 * k // 4, k]) for k in n]
    tables = [Table((1 - np.arange(k + 1) / k) ** 2, w) for k, w in zip(n, offered, strict=True)]
    got = allocate(found.cost, {"latency": 0.75}, tables, times=times)
    assert got.met
    assert got.widths[:2].tolist() == [3 * n[0] // 4, 3 * n[1] // 4]


def test_a_change_of_time_is_the_difference():
    rng = np.random.default_rng(0)
    factors = [rng.random(9) for _ in range(4)]
    groups = [[0], [0, 1], [1, 2], [2, 3, 0]]
    times = TimeModel(
        0.1,
        [SubgraphTime(float(t), g) for t, g in zip(rng.random(4), groups, strict=True)],
        factors,
    )
    for _ in range(50):
        here, g, width = rng.integers(0, 9, 4), int(rng.integers(4)), int(rng.integers(9))
        other = here.copy()
        other[g] = width
        change = times.change(here, g, width)
        assert change == pytest.approx(times.at(other) - times.at(here))


def test_corrected_times_say_what_was_measured():
    """Of several plans at once; elsewhere all savings change alike, and full widths not at all."""
    rng = np.random.default_rng(0)
    factors = [np.linspace(0, 1, 9) for _ in range(4)]
    subgraphs = [SubgraphTime(0.2, (0, 1)), SubgraphTime(0.3, (1, 2)), SubgraphTime(0.4, (3,))]
    times = TimeModel(0.1, subgraphs, factors)
    seen = [(rng.integers(3, 8, 4), share) for share in (0.5, 0.6, 0.7)]
    better = times.corrected(seen)
    for plan, share in seen:
        assert better.at(plan) == pytest.approx(share, abs=1e-3)
    elsewhere = [factor[[0, 1, 2]] for factor in better.factors]
    assert np.ptp([1 - own for own in elsewhere], axis=0) == pytest.approx(0)
    scale = (1 - elsewhere[0][2]) / (1 - factors[0][2])
    assert 0.5 <= scale <= 1.3
    assert better.at(np.full(4, 8)) == pytest.approx(1.0)
    assert [factor.tolist() for factor in times.factors] == [f.tolist() for f in factors]


@pytest.mark.parametrize(
    ("found", "sure"),
    [
        ([0.7] * 3, False),
        ([0.7] * 4, True),
        ([0.6, 0.8, 0.7, 0.7], False),
        ([0.69, 0.71] * 50, True),
    ],
)
def test_a_restless_machine_takes_longer(found: list[float], sure: bool):
    assert timer._sure(found) is sure


@pytest.mark.parametrize(("channels", "block"), [(128, 1), (256, 8), (512, 16), (258, 8)])
def test_only_wide_groups_go_in_blocks_for_other_targets(channels: int, block: int):
    offered = widths.whole_blocks(np.arange(channels + 1))
    assert offered.tolist() == sorted({*range(0, channels, block), channels})


def test_blocks_are_taken_where_they_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch):
    def kept() -> list[int]:
        result = onnxprune.prune(DIGITS, {"macs": 0.5}, latency=False)
        assert result.report.achieved["macs"] <= 0.5
        return [width for channels, width in widths_of(result) if channels >= 128]

    monkeypatch.setattr(widths, "BLOCKS", 16)
    monkeypatch.setattr(widths, "WORTH", np.inf)
    assert kept()
    assert all(width % 8 == 0 for width in kept())
    monkeypatch.setattr(widths, "WORTH", -1.0)
    assert any(width % 8 for width in kept())


def test_progress_says_how_long():
    seen: list[str] = []
    told = progress.estimated(lambda stage, _share: seen.append(stage), "timing", 0.0, 1.0)
    told(0.05)
    assert seen == ["timing"]


def test_real_clock():
    """Nothing but that real times are numbers, whatever the machine is busy with."""
    _, subgraphs, inputs = opened(DIGITS)
    jobs = dict(subgraphs.job(subgraph, {}) for subgraph in subgraphs.single)
    times = TimeCache(Device()).measure(jobs, ("reference", timer.REFERENCE))
    assert all(math.isfinite(time) and time > 0 for time in times.values())
    broken = TimedModel(b"no model", inputs)
    assert math.isnan(timer.timed(timer.REFERENCE, [broken], Device())[0])


def test_bench(tmp_path: Path):
    numbers = tmp_path / "numbers.json"
    arguments = ["bench", DIGITS, DIGITS, "--profile", "--json", str(numbers)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "samples/s" in done.output
    values = json.loads(numbers.read_text())
    assert values["environment"]["provider"] == runtime.CPU
    for row in values["models"]:
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["operators"]
        assert row["samples_per_second"] == pytest.approx(1e3 / row["median_ms"])


def test_bench_draws(tmp_path: Path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "bench.png"
    done = CliRunner().invoke(main, ["bench", DIGITS, DIGITS, "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_refuses_what_is_not_there():
    done = CliRunner().invoke(main, ["bench", "nowhere.onnx"])
    assert done.exit_code == 2
    done = CliRunner().invoke(main, ["bench", DIGITS, "--provider", "tpu"])
    assert done.exit_code == 2
    assert "It has: " in done.output
