"""Modules of PyTorch's that can be narrower inside than outside; PyTorch is imported here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NarrowAttention"]


class NarrowAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose heads need not add up to the width of what it reads.

    A module becomes one of this class in place. Parameters keep their names; `in_proj_weight`
    holds queries and keys of `heads` times `key_width` rows, then values of `heads` times
    `value_width`; `scale` is what products of queries and keys were multiplied with.
    """

    num_heads: int
    key_width: int
    value_width: int
    scale: float

    def forward(  # noqa: PLR0913  as PyTorch calls it
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention` does; shapes and masks are as there."""
        batched, first = query.dim() == 3, bool(self.batch_first)
        if not batched:
            query, key, value = (x.unsqueeze(1 - int(first)) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        if not first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._projected(query, key, value)
        mask = self._mask(q, key_padding_mask, attn_mask)
        weights = None
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = self.scale * q @ k.transpose(-2, -1)
            weights = functional.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = functional.dropout(weights, dropout) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale
            )
        result = self.out_proj(mixed.transpose(1, 2).flatten(2))
        result = result if first else result.transpose(0, 1)
        if not batched:
            result = result.squeeze(1 - int(first))
            weights = weights.squeeze(0) if weights is not None else None
        return result, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values as (batch, heads, length, width)."""
        inner = self.num_heads * self.key_width
        sizes = [inner, inner, self.num_heads * self.value_width]
        weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.split(sizes)
        biases: Any = (None,) * 3
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.split(sizes)
        projected = map(functional.linear, (query, key, value), weights, biases)
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]

    def _mask(self, q: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """What is added to the scores, (batch, heads or 1, length, length)."""
        found = None
        if mask is not None:
            found = self._added(mask, q)
            found = found.unflatten(0, (-1, self.num_heads)) if found.dim() == 3 else found
        if padding is not None:
            hidden = self._added(padding, q)[:, None, None, :]
            found = hidden if found is None else found + hidden
        return found

    @staticmethod
    def _added(mask: Tensor, q: Tensor) -> Tensor:
        if mask.dtype != torch.bool:
            return mask.to(q.dtype)
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, float("-inf"))
