"""Models of torchvision: classification, segmentation, detection heads, video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corpus import Net, network


def _make(name: str, size: int, options: dict[str, Any]) -> Callable[[], Net]:
    def make() -> Net:
        import torch
        import torchvision

        module = torchvision.models.get_model(name, weights=None, **options)
        return Net(module, (torch.rand(1, 3, size, size),))

    return make


def _add(name: str, size: int = 64, family: str = "CNN", **options: Any) -> None:
    export = {k: options.pop(k) for k in ("dynamo", "opset", "dynamic") if k in options}
    options.setdefault("num_classes", 10)
    network(f"tv_{name}", family, "torchvision", _make(name, size, options), **export)


BATCH = ({0: "batch"},)
OLD: dict[str, Any] = {"dynamo": False}

_add("alexnet", 224, **OLD, opset=9)
_add("resnet18", **OLD, opset=13, dynamic=BATCH)
_add("googlenet", **OLD, opset=11, aux_logits=False, init_weights=False)
_add("squeezenet1_1", **OLD, opset=9)
_add("shufflenet_v2_x0_5", **OLD, opset=12)
_add("shufflenet_v2_x1_0")
_add("mnasnet0_5", dynamic=BATCH)
_add("mobilenet_v2", **OLD, opset=17)
_add("mobilenet_v3_large", dynamic=BATCH)
_add("densenet121", **OLD, opset=10)
_add("regnet_y_400mf")
_add("vgg11", 224, **OLD, opset=11)
_add("efficientnet_b0", **OLD, opset=16)
_add("convnext_tiny", 32, **OLD, opset=17)
_add("swin_t", 32, family="ViT", **OLD, opset=17)
_add("vit_b_32", 64, family="ViT", image_size=64)


def _segmentation(name: str, **options: Any) -> Callable[[], Net]:
    def make() -> Net:
        import torch
        import torchvision

        model = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=5, **options
        )

        class Mask(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, image: Any) -> Any:
                return self.model(image)["out"]

        return Net(Mask(), (torch.rand(1, 3, 64, 64),))

    return make


network(
    "tv_deeplabv3_mobilenet", "segmentation", "torchvision",
    _segmentation("deeplabv3_mobilenet_v3_large"), dynamo=False, opset=13,
)  # fmt: skip
network(
    "tv_lraspp_mobilenet", "segmentation", "torchvision",
    _segmentation("lraspp_mobilenet_v3_large"),
)  # fmt: skip
network(
    "tv_fcn_resnet50", "segmentation", "torchvision",
    _segmentation("fcn_resnet50"), dynamo=False, opset=12,
)  # fmt: skip


def _heads(name: str, **options: Any) -> Callable[[], Net]:
    """Backbone and heads of a detector, before boxes are decoded and sorted."""

    def make() -> Net:
        import torch
        import torchvision

        model = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=5, **options
        )

        class Heads(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.backbone, self.head = model.backbone, model.head

            def forward(self, image: Any) -> Any:
                return tuple(self.head(list(self.backbone(image).values())).values())

        return Net(Heads(), (torch.rand(1, 3, 64, 64),))

    return make


for _name, _options in (
    ("retinanet_resnet50_fpn", {"dynamo": False, "opset": 13}),
    ("fcos_resnet50_fpn", {}),
    ("ssdlite320_mobilenet_v3_large", {"dynamo": False, "opset": 12}),
    ("ssd300_vgg16", {"dynamo": False, "opset": 11}),
):
    network(f"tv_{_name}", "detection", "torchvision", _heads(_name), **_options)


def _video() -> Net:
    import torch
    import torchvision

    module = torchvision.models.video.r3d_18(weights=None, num_classes=10)
    return Net(module, (torch.rand(1, 3, 4, 32, 32),))


network("tv_r3d_18", "video", "torchvision", _video, dynamo=False, opset=13)
