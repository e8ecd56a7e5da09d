"""Models of transformers from small configurations: text, speech, vision, text with vision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corpus import Net, network

TEXT: dict[str, Any] = {"vocab_size": 128}
BERT: dict[str, Any] = {
    **TEXT, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 256, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA: dict[str, Any] = {**BERT, "num_key_value_heads": 2, "use_cache": False}
#: Inputs by kind: token numbers of two lengths, an image, a waveform, frames of a spectrogram.
LENGTH, TARGET = 12, 6


def _example(kind: str) -> Any:
    import torch

    return {
        "ids": lambda: torch.randint(3, 100, (1, LENGTH)),
        "mask": lambda: torch.ones(1, LENGTH, dtype=torch.int64),
        "target": lambda: torch.randint(3, 100, (1, TARGET)),
        "target_mask": lambda: torch.ones(1, TARGET, dtype=torch.int64),
        "image": lambda: torch.rand(1, 3, 64, 64),
        "wave": lambda: torch.rand(1, 4000),
        "mel": lambda: torch.rand(1, 16, 40),
        "frames": lambda: torch.rand(1, 24, 16),
    }[kind]()


def _make(
    model: str,
    config: str,
    values: Mapping[str, Any],
    inputs: Mapping[str, str],
    out: Sequence[str],
) -> Callable[[], Net]:
    """A module that takes its inputs by position and returns the named outputs."""

    def make() -> Net:
        import torch
        import transformers

        options = {**values, "attn_implementation": values.get("attn_implementation", "eager")}
        inner = getattr(transformers, model)(getattr(transformers, config)(**options))

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, *args: Any) -> Any:
                result = self.inner(**dict(zip(inputs, args, strict=True)), **fixed)
                values = tuple(result[name] for name in out)
                return values if len(values) > 1 else values[0]

        fixed = {"use_cache": False} if getattr(inner.config, "use_cache", False) else {}
        return Net(Model(), tuple(_example(kind) for kind in inputs.values()))

    return make


IDS = {"input_ids": "ids"}
MASKED = {"input_ids": "ids", "attention_mask": "mask"}
PAIR = {"input_ids": "ids", "decoder_input_ids": "target"}


def _add(name: str, model: str, values: Mapping[str, Any],  # noqa: PLR0913
         inputs: Mapping[str, str],
         out: Sequence[str] = ("logits",), family: str = "text", config: str = "",
         **export: Any) -> None:  # fmt: skip
    config = config or model.split("For")[0].split("Model")[0].replace("LMHead", "") + "Config"
    network(
        f"hf_{name}", family, "transformers", _make(model, config, values, inputs, out), **export
    )


OLD: dict[str, Any] = {"dynamo": False, "opset": 17}
HIDDEN = ("last_hidden_state",)
LEFT = ({0: "batch"}, {0: "batch"})

# Encoders
_add("bert", "BertForSequenceClassification", BERT, MASKED)
_add("bert_scripted", "BertForSequenceClassification", BERT, MASKED, **OLD,
     dynamic=({0: "batch", 1: "length"}, {0: "batch", 1: "length"}))  # fmt: skip
_add("bert_sdpa", "BertForMaskedLM", {**BERT, "attn_implementation": "sdpa"}, MASKED, **OLD)
_add("distilbert", "DistilBertForSequenceClassification",
     {**TEXT, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 256,
      "max_position_embeddings": 64}, MASKED, **OLD)  # fmt: skip
_add("roberta", "RobertaForTokenClassification", BERT, MASKED)
_add("albert", "AlbertForSequenceClassification", {**BERT, "embedding_size": 32}, MASKED, **OLD)
_add("electra", "ElectraForQuestionAnswering", {**BERT, "embedding_size": 32}, MASKED,
     ("start_logits", "end_logits"))  # fmt: skip
_add("mobilebert", "MobileBertForSequenceClassification",
     {**BERT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}, MASKED,
     **OLD)  # fmt: skip
_add("deberta_v2", "DebertaV2ForSequenceClassification",
     {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, MASKED,
     **OLD)  # fmt: skip
_add("modernbert", "ModernBertForMaskedLM", {**BERT, "pad_token_id": 0}, MASKED)
_add("squeezebert", "SqueezeBertForSequenceClassification", {**BERT, "embedding_size": 64}, MASKED,
     **OLD)  # fmt: skip
_add("funnel_fnet", "FNetForSequenceClassification", BERT, IDS, config="FNetConfig")
# Decoders
GPT2: dict[str, Any] = {**TEXT, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
_add("gpt2", "GPT2LMHeadModel", GPT2, IDS)
_add(
    "gpt2_scripted",
    "GPT2LMHeadModel",
    GPT2,
    MASKED,
    **OLD,
    dynamic=({0: "batch", 1: "length"}, {0: "batch", 1: "length"}),
)
_add("gpt_neo", "GPTNeoForCausalLM",
     {**TEXT, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64,
      "attention_types": [[["global", "local"], 1]]}, IDS)  # fmt: skip
_add("gpt_neox", "GPTNeoXForCausalLM", BERT, MASKED, **OLD)
_add("gptj", "GPTJForCausalLM", {**GPT2, "rotary_dim": 8}, IDS)
_add("llama", "LlamaForCausalLM", LLAMA, IDS)
_add("llama_scripted", "LlamaForCausalLM", LLAMA, MASKED, **OLD)
_add("mistral", "MistralForCausalLM", LLAMA, IDS)
_add("qwen2", "Qwen2ForCausalLM", LLAMA, MASKED, **OLD)
_add("qwen3", "Qwen3ForCausalLM", {**LLAMA, "head_dim": 16}, IDS)
_add(
    "gemma", "GemmaForCausalLM", {**LLAMA, "head_dim": 16, "num_key_value_heads": 1}, MASKED, **OLD
)
_add("gemma2", "Gemma2ForCausalLM", {**LLAMA, "head_dim": 16}, IDS)
_add("phi", "PhiForCausalLM", BERT, MASKED, **OLD)
_add("phi3", "Phi3ForCausalLM", {**LLAMA, "pad_token_id": 0}, IDS)
_add("falcon", "FalconForCausalLM",
     {**TEXT, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
      "multi_query": True}, IDS)  # fmt: skip
_add("opt", "OPTForCausalLM",
     {**TEXT, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 256,
      "max_position_embeddings": 64, "word_embed_proj_dim": 64}, MASKED, **OLD)  # fmt: skip
_add("bloom", "BloomForCausalLM", {**TEXT, "hidden_size": 64, "n_layer": 2, "n_head": 4}, MASKED)
# Encoder and decoder
T5: dict[str, Any] = {
    **TEXT, "d_model": 64, "d_kv": 16, "d_ff": 256, "num_layers": 2, "num_heads": 4,
}  # fmt: skip
_add("t5", "T5ForConditionalGeneration", T5, PAIR, **OLD)
_add("t5_gated", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}, PAIR)
BART: dict[str, Any] = {
    **TEXT, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256,
    "max_position_embeddings": 64,
}  # fmt: skip
_add("bart", "BartForConditionalGeneration", BART, PAIR, **OLD)
_add("marian", "MarianMTModel", {**BART, "pad_token_id": 0, "decoder_start_token_id": 1}, PAIR,
     config="MarianConfig")  # fmt: skip
# Speech
_add("whisper", "WhisperForConditionalGeneration",
     {**BART, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 32,
      "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
     {"input_features": "mel", "decoder_input_ids": "target",
      "decoder_attention_mask": "target_mask"}, family="speech", **OLD)  # fmt: skip
WAVE: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 256, "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
_add("wav2vec2", "Wav2Vec2ForCTC", WAVE, {"input_values": "wave"}, family="speech", **OLD)
_add("hubert", "HubertForCTC", {**WAVE, "feat_extract_norm": "layer"}, {"input_values": "wave"},
     family="speech", **OLD)  # fmt: skip
_add("conformer", "Wav2Vec2ConformerForCTC", WAVE, {"input_values": "wave"}, family="speech",
     **OLD)  # fmt: skip
_add("ast", "ASTForAudioClassification",
     {**BERT, "max_length": 24, "num_mel_bins": 16, "patch_size": 4, "frequency_stride": 4,
      "time_stride": 4}, {"input_values": "frames"}, family="speech",
     config="ASTConfig")  # fmt: skip
# Vision
VIT: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
    "image_size": 64, "patch_size": 16,
}  # fmt: skip
IMAGE = {"pixel_values": "image"}
_add("vit", "ViTForImageClassification", VIT, IMAGE, family="ViT", config="ViTConfig", **OLD)
_add("dinov2", "Dinov2ForImageClassification",
     {**VIT, "use_swiglu_ffn": True}, IMAGE, family="ViT", config="Dinov2Config")  # fmt: skip
_add("segformer", "SegformerForSemanticSegmentation",
     {"num_encoder_blocks": 4, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 96],
      "num_attention_heads": [1, 2, 4, 6], "decoder_hidden_size": 64, "num_labels": 5}, IMAGE,
     family="segmentation", **OLD)  # fmt: skip
_add("segformer_b1", "SegformerForSemanticSegmentation",
     {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 64, 96, 128], "decoder_hidden_size": 128,
      "num_labels": 5}, IMAGE, family="segmentation")  # fmt: skip
_add("dpt", "DPTForDepthEstimation",
     {**VIT, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
      "neck_hidden_sizes": [16, 32, 64, 64], "fusion_hidden_size": 32}, IMAGE,
     ("predicted_depth",), family="segmentation", config="DPTConfig", **OLD)  # fmt: skip
_add("yolos", "YolosForObjectDetection",
     {**VIT, "image_size": [64, 64], "num_detection_tokens": 8}, IMAGE, ("logits", "pred_boxes"),
     family="detection", config="YolosConfig", **OLD)  # fmt: skip
_add("swin2sr", "Swin2SRForImageSuperResolution",
     {"image_size": 64, "embed_dim": 36, "depths": [2, 2], "num_heads": [3, 3], "window_size": 8,
      "upscale": 2}, IMAGE, ("reconstruction",), family="super-resolution",
     config="Swin2SRConfig", **OLD)  # fmt: skip
_add("mobilevit_seg", "MobileViTForSemanticSegmentation",
     {"image_size": 64, "hidden_sizes": [36, 48, 60],
      "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 96]},
     IMAGE, family="segmentation", config="MobileViTConfig")  # fmt: skip
_add("regnet", "RegNetForImageClassification",
     {"embedding_size": 16, "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1],
      "groups_width": 16}, IMAGE, family="CNN", config="RegNetConfig")  # fmt: skip
_add("clip", "CLIPModel",
     {"text_config": {**BERT, "eos_token_id": 2}, "vision_config": VIT, "projection_dim": 32},
     {"input_ids": "ids", "pixel_values": "image"}, ("logits_per_image", "logits_per_text"),
     family="text and vision", config="CLIPConfig", **OLD)  # fmt: skip
_add("blip2_style_git", "GitForCausalLM", {**BERT, "vision_config": VIT},
     {"input_ids": "ids", "pixel_values": "image"}, family="text and vision",
     config="GitConfig")  # fmt: skip
_add("patchtst", "PatchTSTForPrediction",
     {"num_input_channels": 16, "context_length": 24, "prediction_length": 8, "patch_length": 4,
      "patch_stride": 4, "d_model": 32, "ffn_dim": 128, "num_hidden_layers": 2,
      "num_attention_heads": 4}, {"past_values": "frames"}, ("prediction_outputs",),
     family="time series", config="PatchTSTConfig")  # fmt: skip
