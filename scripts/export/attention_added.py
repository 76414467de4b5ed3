"""Attention to the picture's own tokens and to added ones at once, as in Kandinsky's decoder."""

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from errors import unsupported


class TracedAddedKVProcessor:
    """Does what `AttnAddedKVProcessor2_0` does, with as few operators as it takes."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None or encoder_hidden_states is None:
            raise unsupported("The exporter does not support such attention with added keys.")
        if attn.norm_cross is not None:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        # The library norms three dimensions, which sums up as this does, whatever the layout was.
        tokens = attn.group_norm(hidden_states.contiguous()).flatten(2).transpose(1, 2)
        query = _heads(attn, attn.to_q(tokens))
        key = _heads(attn, attn.add_k_proj(encoder_hidden_states))
        value = _heads(attn, attn.add_v_proj(encoder_hidden_states))
        if not attn.only_cross_attention:
            key = torch.cat([key, _heads(attn, attn.to_k(tokens))], dim=2)
            value = torch.cat([value, _heads(attn, attn.to_v(tokens))], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value)
        result = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return result.transpose(1, 2).reshape_as(hidden_states) + hidden_states


def _heads(attn: Attention, tokens: Tensor) -> Tensor:
    return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
