"""Models of timm: one line each, name and what makes it small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corpus import Net, network

BATCH = ({0: "batch"},)


def _make(name: str, size: int, options: dict[str, Any]) -> Callable[[], Net]:
    def make() -> Net:
        import timm
        import torch
        from timm.layers import set_fused_attn

        set_fused_attn(enable=options.get("fused", False))
        keep = {k: v for k, v in options.items() if k != "fused"}
        module = timm.create_model(name, pretrained=False, num_classes=10, **keep)
        return Net(module, (torch.rand(1, 3, size, size),))

    return make


def _add(name: str, size: int = 64, family: str = "CNN", **options: Any) -> None:
    export = {k: options.pop(k) for k in ("dynamo", "opset", "dynamic") if k in options}
    network(f"timm_{name}", family, "timm", _make(name, size, options), **export)


OLD: dict[str, Any] = {"dynamo": False}

# Convolutional
_add("resnet50", **OLD, opset=13)
_add("resnet26t", dynamic=BATCH)
_add("resnext26ts")
_add("resnext50_32x4d", **OLD, opset=12)
_add("res2net50_26w_4s")
_add("seresnet50", **OLD, opset=11)
_add("skresnet18", **OLD, opset=13)
_add("ecaresnet26t")
_add("resnest14d", **OLD, opset=13)
_add("resnetv2_50")
_add("vgg11_bn", 224, **OLD, opset=8)
_add("densenet121")
_add("mobilenetv1_100", **OLD, opset=9)
_add("mobilenetv2_050")
_add("mobilenetv3_small_050", **OLD, opset=14)
_add("mobilenetv4_conv_small")
_add("mobilenetv4_hybrid_medium", 64)
_add("efficientnet_b0")
_add("efficientnet_lite0", **OLD, opset=11)
_add("tf_efficientnetv2_b0", **OLD, opset=13)
_add("regnetx_002", **OLD, opset=11)
_add("regnety_002")
_add("ghostnet_050", **OLD, opset=12)
_add("ghostnetv2_100")
_add("convnext_atto")
_add("convnextv2_atto", **OLD, opset=17)
_add("inception_v3", 96, **OLD, opset=11)
_add("inception_v4", 96)
_add("xception41", 64)
_add("repvgg_a0", **OLD, opset=13)
_add("repghostnet_050")
_add("mobileone_s0")
_add("hrnet_w18_small", **OLD, opset=13)
_add("darknet53", **OLD, opset=10)
_add("cspdarknet53")
_add("cspresnet50", **OLD, opset=13)
_add("dla34", **OLD, opset=11)
_add("dpn48b")
_add("selecsls42", **OLD, opset=13)
_add("mnasnet_small")
_add("fbnetc_100", **OLD, opset=13)
_add("hardcorenas_a")
_add("lcnet_035", **OLD, opset=13)
_add("tinynet_e")
_add("mixnet_s", **OLD, opset=13)
_add("nf_regnet_b0")
_add("rexnet_100", **OLD, opset=13)
_add("gernet_s")
_add("ese_vovnet19b_dw", **OLD, opset=13)
_add("repvit_m0_9")
_add("starnet_s1", **OLD, opset=17)
_add("inception_next_atto")
_add("convmixer_768_32", 28)
_add("lambda_resnet26t", 256)
_add("fastvit_t8", 64)

# Convolution and attention together
_add("mobilevit_xxs", family="hybrid")
_add("mobilevitv2_050", family="hybrid", **OLD, opset=17)
_add("edgenext_xx_small", family="hybrid")
_add("efficientvit_b0", family="hybrid")
_add("efficientformer_l1", 224, family="hybrid", **OLD, opset=17)
_add("efficientformerv2_s0", 224, family="hybrid")
_add("levit_128s", 224, family="hybrid")
_add("coatnet_pico_rw_224", 64, family="hybrid", img_size=64)
_add("maxvit_pico_rw_256", 64, family="hybrid", img_size=64, **OLD, opset=17)
_add("tiny_vit_5m_224", 224, family="hybrid")
_add("nextvit_small", family="hybrid", **OLD, opset=17)
_add("visformer_tiny", 64, family="hybrid", img_size=64)
_add("botnet26t_256", 256, family="hybrid")

# Transformers and other token mixers
SMALL: dict[str, Any] = {"img_size": 64, "family": "ViT", "size": 64}
_add("vit_tiny_patch16_224", **SMALL, depth=4, dynamic=BATCH)
_add("vit_base_patch16_siglip_224", **SMALL, depth=2, embed_dim=96, num_heads=6)
_add("deit_tiny_distilled_patch16_224", **SMALL, depth=4, **OLD, opset=14)
_add("vit_small_patch16_224", **SMALL, depth=3, fused=True)
_add("swin_tiny_patch4_window7_224", **SMALL, window_size=4, depths=(2, 2, 2), num_heads=(3, 6, 12),
     **OLD, opset=17)  # fmt: skip
_add("swinv2_tiny_window8_256", **SMALL, window_size=4, depths=(2, 2), num_heads=(3, 6))
_add("mixer_s32_224", **SMALL)
_add("resmlp_12_224", **SMALL, **OLD, opset=13)
_add("gmlp_ti16_224", **SMALL)
_add("poolformer_s12", family="ViT", **OLD, opset=13)
_add("poolformerv2_s12", family="ViT")
_add("caformer_s18", family="ViT")
_add("convformer_s18", family="ViT", **OLD, opset=17)
_add("cait_xxs24_224", **SMALL, depth=4)
_add("beit_base_patch16_224", **SMALL, depth=2, embed_dim=96, num_heads=6)
_add("xcit_nano_12_p16_224", **SMALL, depth=3, **OLD, opset=17)
_add("crossvit_9_240", 240, family="ViT", **OLD, opset=13)
_add("pit_ti_224", 224, family="ViT")
_add("tnt_s_patch16_224", **SMALL, depth=3)
_add("twins_svt_small", **SMALL, depths=(2, 2, 2, 2), **OLD, opset=17)
_add("pvt_v2_b0", family="ViT")
_add("nest_tiny", 128, family="ViT", img_size=128)
_add("focalnet_tiny_srf", family="ViT")
_add("davit_tiny", 64, family="ViT", depths=(1, 1, 1, 1))
_add("volo_d1_224", **SMALL, **OLD, opset=13)
_add("eva02_tiny_patch14_224", 56, family="ViT", img_size=56, depth=3)
_add("hiera_tiny_224", 224, family="ViT")
_add("mambaout_femto", family="ViT")
_add("mvitv2_tiny", 64, family="ViT", img_size=64)
_add("sequencer2d_s", **SMALL, layers=(1, 1, 1, 1), **OLD, opset=13)
