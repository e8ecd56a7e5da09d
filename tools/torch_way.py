"""Whether modules of PyTorch follow a plan: cut, compared, exported again, compared once more.

    python tools/torch_way.py [--only REGEX] [--markdown]      # networks named in the issue
    python tools/torch_way.py --corpus REGEX                   # models of tools/coverage.py

Each network has random weights, is exported by torch.export ("export") or by TorchScript
("script"), with BatchNormalization folded into its layer, as both do by default, or kept, and is
pruned to a share of its parameters. `module` is the difference of the cut module to the pruned
model on the example, `again` that of its second export, `carried` that of a second module that
took refitted weights: largest |difference| over largest |output|. Needs `onnxprune[coverage]`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import corpus
import onnx
from bench_tables import Table, environment, render
from corpus import Net

import onnxprune
from onnxprune.errors import OnnxpruneError

HEADER = ("network", "exporter", "parameters", "left", "module", "again", "carried", "zeros")
SHARE = 0.6
#: Exporters, and whether normalisations stay operators of their own.
EXPORTERS = (("export", False), ("script", False), ("export", True), ("script", True))


@dataclass(frozen=True)
class Network:
    """A module with random weights; `norms`: some are BatchNorm, and worth keeping apart."""

    make: Callable[[], Net]
    norms: bool = False


def torchvision(name: str, size: int = 64, **options: Any) -> Network:
    """A classifier of torchvision."""

    def make() -> Net:
        import torch
        import torchvision

        module = torchvision.models.get_model(name, weights=None, num_classes=10, **options)
        return Net(module, (torch.rand(1, 3, size, size),))

    return Network(make, norms="net_" in name or "resnet" in name)


def small_vit() -> Net:
    """vit_b_16 of torchvision, narrower and with three layers."""
    import torch
    from torchvision.models import VisionTransformer

    module = VisionTransformer(64, 16, 3, 4, 96, 256, num_classes=10)
    return Net(module, (torch.rand(1, 3, 64, 64),))


def timm(name: str, **options: Any) -> Network:
    """A classifier of timm."""

    def make() -> Net:
        import timm
        import torch

        module = timm.create_model(name, num_classes=10, **options)
        return Net(module, (torch.rand(1, 3, 64, 64),))

    return Network(make, norms=not name.startswith("vit"))


def recurrent(kind: str) -> Network:
    """An embedding, two recurrent layers in both directions, a head."""

    def make() -> Net:
        import torch
        from torch import nn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = nn.Embedding(64, 32)
                self.rnn = getattr(nn, kind)(32, 48, 2, batch_first=True, bidirectional=True)
                self.head = nn.Linear(96, 5)

            def forward(self, ids: Any) -> Any:
                return self.head(self.rnn(self.words(ids))[0])

        return Net(Model(), (torch.randint(0, 64, (1, 12)),))

    return Network(make)


def listed(name: str) -> Network:
    """A module of the corpus."""
    make = corpus.load_entries()[name].make
    assert make is not None
    return Network(make)


NETWORKS: Mapping[str, Network] = {
    "torchvision resnet18": torchvision("resnet18"),
    "torchvision resnet50": torchvision("resnet50"),
    "torchvision mobilenet_v2": torchvision("mobilenet_v2"),
    "torchvision convnext_tiny": torchvision("convnext_tiny", 32),
    "torchvision vit_b_16, 3 layers": Network(small_vit),
    "timm mobilenetv3_small_050": timm("mobilenetv3_small_050"),
    "timm regnety_002": timm("regnety_002"),
    "timm vit_tiny, 3 layers": timm("vit_tiny_patch16_224", img_size=64, depth=3),
    "transformers BERT": listed("hf_bert"),
    "transformers GPT-2": listed("hf_gpt2_scripted"),
    "transformers Llama": listed("hf_llama_scripted"),
    "LSTM, 2 layers": recurrent("LSTM"),
    "GRU, 2 layers": recurrent("GRU"),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters say much."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def exported(net: Net, exporter: str, kept: bool) -> onnx.ModelProto:
    """Export a module; `kept` normalisations stay operators of their own."""
    import torch
    from torch.onnx import TrainingMode

    torch.backends.mha.set_fastpath_enabled(False)  # one operator that no exporter knows
    with quiet(), torch.no_grad():
        if exporter == "export":
            options = {"optimize": False} if kept else {}
            program = torch.onnx.export(
                net.module, net.inputs, dynamo=True, external_data=False, **options
            )
            return program.model_proto
        options = {"do_constant_folding": False, "training": TrainingMode.PRESERVE} if kept else {}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            torch.onnx.export(net.module, net.inputs, str(file), dynamo=False, **options)
            return onnx.load(file)


def built(network: Network) -> Net:
    """The module with the same random weights every time."""
    return corpus.seeded(corpus.Entry("", "", "", network.make))


def followed(network: Network, how: tuple[str, bool], carry: bool) -> tuple[Any, float]:
    """What `prune_module` says, and how far the second export is from the pruned file."""
    from onnxprune.torch import prune_module
    from onnxprune.torch.example_run import arguments, difference, model_outputs

    net = built(network)
    with quiet():
        model = exported(net, *how)
    settings: dict[str, Any] = {"latency": False, "round_to": 1, "compensate": carry}
    if carry and not network.norms:  # where there are some, samples are not needed
        settings |= {"calib": "random", "calib_samples": 8, "distill": False, "min_channels": 2}
    result = onnxprune.prune(model, {"params": SHARE}, **settings)
    done = prune_module(net.module, result, net.inputs, model=model, carry_weights=carry)
    given = arguments(tuple(net.inputs))
    again = exported(net, *how)
    proof = difference(model_outputs(again, given), model_outputs(result.model, given))
    return done, proof.max_relative_error


def rows(networks: Mapping[str, Network], table: Table, exporter: str, carry: bool) -> None:
    """Try every network with every exporter."""
    for name, network in networks.items():
        for how in EXPORTERS:
            if (how[1] and not network.norms) or exporter not in ("", how[0]):
                continue
            row = [name, f"{how[0]}{', kept' if how[1] else ''}"]
            try:
                done, again = followed(network, how, carry=False)
                before, after = done.parameters
                row += [f"{before:,}", f"{after / before:.3f}", f"{done.error:.1e}", f"{again:.1e}"]
                row += [f"{followed(network, how, carry=True)[1]:.1e}" if carry else "-"]
                row += [str(sum(done.zeros.values()))]
            except OnnxpruneError as error:
                row += [*["-"] * (len(HEADER) - len(row) - 1), str(error)]
            except Exception as error:  # of the exporter's
                row += [*["-"] * (len(HEADER) - len(row) - 1), f"exporter: {str(error)[:80]}"]
            table.take({"network": name}, row)


@click.command()
@click.option("--only", default="", help="Networks whose names this expression finds.")
@click.option("--corpus", "models", default="", help="Models of the corpus that it finds instead.")
@click.option("--exporter", default="", type=click.Choice(["", "export", "script"]))
@click.option("--carry/--no-carry", default=True, help="Also take refitted weights.")
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
def main(only: str, models: str, exporter: str, carry: bool, markdown: bool) -> None:
    """Cut modules of PyTorch by plans for their exports."""
    logging.disable(logging.WARNING)
    try:
        import torchvision  # noqa: F401  before its operators are declared without kernels
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        corpus.declare_torchvision()
    networks = {name: own for name, own in NETWORKS.items() if re.search(only, name)}
    if models:
        entries = corpus.load_entries()
        names = [n for n, e in entries.items() if e.make is not None and re.search(models, n)]
        networks = {name: listed(name) for name in names}
    table = Table(f"Modules that follow a plan for {SHARE:g} of the parameters", HEADER)
    rows(networks, table, exporter, carry)
    click.echo(render(table, markdown))
    click.echo(", ".join(f"{name} {value}" for name, value in environment().items()))


if __name__ == "__main__":
    main()
