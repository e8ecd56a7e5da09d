"""Bring a plan back to PyTorch: cut the module, or a checkpoint of it, that was exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxprune.torch.state import slice_state_dict

if TYPE_CHECKING:
    from onnxprune.torch.prune import prune_module

__all__ = ["prune_module", "slice_state_dict"]


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch when it is asked for."""
    if name != "prune_module":
        raise AttributeError(f"module 'onnxprune.torch' has no attribute '{name}'")
    from onnxprune.torch.prune import prune_module

    return prune_module
