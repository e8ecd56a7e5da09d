"""A module that is cut computes what the pruned model does, and is as it was where it cannot."""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

import onnxprune  # noqa: E402
from onnxprune.errors import InputError  # noqa: E402
from onnxprune.torch import prune as torch_prune  # noqa: E402
from onnxprune.torch import prune_module  # noqa: E402
from onnxprune.torch.changes import ModuleChanges, module_changes  # noqa: E402
from onnxprune.torch.example_run import arguments, difference, model_outputs  # noqa: E402

nn = torch.nn


def exported(module: Any, example: Any) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), example, file, dynamo=False)
    return onnx.load_from_string(file.getvalue())


class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
    """An embedding, two recurrent layers of several widths after a cut, a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 12)
        self.rnn = getattr(nn, kind)(12, 16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, ids: Any) -> Any:
        return self.head(self.rnn(self.words(ids))[0])


class Attending(nn.Module):  # type: ignore[misc,name-defined]
    """Attention of PyTorch's with norms around it, and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.hidden, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.last, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.up(x))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(torch.relu(self.hidden(x)))
        return self.head(self.last(x))


class Viewing(nn.Module):  # type: ignore[misc,name-defined]
    """A module with a width in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.second(torch.relu(self.first(x)).view(-1, 16))


def convolutions() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=16), nn.BatchNorm2d(16), nn.PReLU(16),
        nn.ConvTranspose2d(16, 8, 2), nn.GroupNorm(4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip


class Case(NamedTuple):
    """A module, its example, and the share of parameters that is left."""

    make: Callable[[], Any]
    example: Callable[[], Any]
    params: float = 0.6


CASES = {
    "convolutions": Case(convolutions, lambda: torch.randn(2, 3, 8, 8)),
    "attention": Case(Attending, lambda: torch.randn(2, 5, 6)),
    "lstm": Case(lambda: Recurrent("LSTM"), lambda: torch.randint(0, 20, (2, 7))),
    "gru": Case(lambda: Recurrent("GRU"), lambda: torch.randint(0, 20, (2, 7))),
}


def seeded(case: Case) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = case.make().eval()
    with torch.no_grad():
        for name, values in (*module.named_parameters(), *module.named_buffers()):
            if values.is_floating_point():
                values.copy_(torch.rand_like(values) + (0.5 if "var" in name else -0.4))
    return module, case.example()


@pytest.mark.parametrize("carry", [False, True], ids=["cut", "refitted"])
@pytest.mark.parametrize("name", CASES)
def test_the_cut_module_exports_to_the_pruned_model(name: str, carry: bool) -> None:
    module, example = seeded(CASES[name])
    model = exported(module, example)
    settings: dict[str, Any] = {"latency": False, "round_to": 1, "compensate": carry}
    result = onnxprune.prune(model, {"params": CASES[name].params}, **settings)
    names = list(module.state_dict())
    done = prune_module(module, result, example, model=model, carry_weights=carry)
    assert done.error < 1e-5 and done.parameters[1] < 0.9 * done.parameters[0]
    assert list(module.state_dict()) == names
    given = arguments(example)
    again = model_outputs(exported(module, example), given)
    assert difference(again, model_outputs(result.model, given)).max_relative_error < 1e-5


def test_gradients_reach_what_is_left() -> None:
    module, example = seeded(CASES["attention"])
    model = exported(module, example)
    plan = onnxprune.prune(model, {"params": 0.6}, latency=False, compensate=False, round_to=1)
    prune_module(module, plan, example, model=model)
    module.train()(example).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())


def test_a_module_that_cannot_be_cut_is_as_it_was() -> None:
    module, example = seeded(Case(Viewing, lambda: torch.randn(2, 6)))
    model = exported(module, example)
    plan = onnxprune.prune(
        model, {}, layer_ratio={".*": 0.5}, latency=False, compensate=False, round_to=1
    )
    before, parameters = module(example), list(module.parameters())
    with pytest.raises(InputError, match=r"module '' \(Viewing\) does not run .*Exclude it"):
        prune_module(module, plan, example, model=model)
    assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
    assert module.first.out_features == 16
    torch.testing.assert_close(module(example), before)


def test_other_weights_than_the_exported_are_refused() -> None:
    module, example = seeded(CASES["attention"])
    model = exported(module, example)
    plan = onnxprune.prune(model, {"params": 0.6}, latency=False, compensate=False, round_to=1)
    with torch.no_grad():
        module.head.bias += 1
    with pytest.raises(InputError, match=r"differ by .* on the example.*with the weights that"):
        prune_module(module, plan, example, model=model)
    assert module.head.in_features == 16
    with pytest.raises(
        InputError, match=r"module of type OrderedDict: give the torch\.nn\.Module itself"
    ):
        prune_module(module.state_dict(), plan, example, model=model)


def test_attributes_that_cannot_be_set_leave_the_module_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was set before is set back."""
    module, example = seeded(CASES["attention"])
    model = exported(module, example)
    plan = onnxprune.prune(model, {"params": 0.6}, latency=False, compensate=False, round_to=1)

    def with_one_more(*arguments: Any) -> ModuleChanges:
        found = module_changes(*arguments)
        return replace(found, changes=(*found.changes, (module.head, "weight", "no tensor")))

    monkeypatch.setattr(torch_prune, "module_changes", with_one_more)
    before = module(example)
    with pytest.raises(TypeError):
        prune_module(module, plan, example, model=model)
    torch.testing.assert_close(module(example), before)


def test_an_example_must_be_what_the_model_takes() -> None:
    module, example = seeded(CASES["attention"])
    model = exported(module, example)
    plan = onnxprune.prune(model, {"params": 0.6}, latency=False, compensate=False, round_to=1)
    with pytest.raises(InputError, match=r"holds 2 tensors, .* takes 1 .*give what"):
        prune_module(module, plan, (example, example), model=model)
    with pytest.raises(InputError, match=r"the module does not run on the example: .*Give what it"):
        prune_module(module, plan, {"other": example}, model=model)


def test_names_of_the_exporter_need_the_file() -> None:
    module, example = seeded(CASES["attention"])
    model = exported(module, example)
    plan = onnxprune.prune(model, {"params": 0.6}, latency=False, compensate=False, round_to=1)
    with pytest.raises(InputError, match=r"'onnx::MatMul_\d+'.*give the exported file"):
        prune_module(module, plan, example)
    with pytest.raises(InputError, match=r"give the pruned file"):
        prune_module(module, plan.plan, example, model=model, carry_weights=True)


def test_what_a_module_returns_is_compared_in_order() -> None:
    a, b = np.array([1, 2], np.float32), np.array([1, 2.5], np.float32)
    assert difference([a], [b]).max_relative_error == 0.2
    assert difference([a], [a]).passed
    for other in ([a, a], [a[:1]], [a, b], [a * np.nan]):
        assert not difference([a], other).passed and not difference(other, [a]).passed
