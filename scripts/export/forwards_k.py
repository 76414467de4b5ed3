"""Forward functions for the blocks of the latent upscaler, which come from k-diffusion."""

from collections.abc import Callable

import torch.nn.functional as F
from diffusers.models.downsampling import KDownsample2D
from diffusers.models.normalization import AdaGroupNorm
from diffusers.models.unets.unet_2d_blocks import KAttentionBlock
from diffusers.models.upsampling import KUpsample2D
from torch import Tensor


def _group_norm(self: AdaGroupNorm, x: Tensor, emb: Tensor) -> Tensor:
    projected = self.linear(emb if self.act is None else self.act(emb))
    scale, shift = projected.unflatten(1, (-1, 1, 1)).chunk(2, dim=1)
    return F.group_norm(x, self.num_groups, eps=self.eps) * (1 + scale) + shift


def _attention(
    self: KAttentionBlock,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    emb: Tensor | None = None,
    attention_mask: Tensor | None = None,
    cross_attention_kwargs: dict | None = None,
    encoder_attention_mask: Tensor | None = None,
) -> Tensor:
    if self.add_self_attention:
        tokens = self.norm1(hidden_states, emb).flatten(2).transpose(1, 2)
        attended = self.attn1(tokens, encoder_hidden_states=None)
        hidden_states = attended.transpose(1, 2).reshape_as(hidden_states) + hidden_states
    tokens = self.norm2(hidden_states, emb).flatten(2).transpose(1, 2)
    attended = self.attn2(tokens, encoder_hidden_states=encoder_hidden_states)
    return attended.transpose(1, 2).reshape_as(hidden_states) + hidden_states


def _blur(x: Tensor, total: int) -> Tensor:
    """The weights 1, 3, 3, 1 both ways over `total`, once for every channel: [C,1,4,4].

    Made from counts, because a program holds no tensors of its own. The library convolves all
    channels with all, by a matrix of zeros and these weights.
    """
    distance = x.new_ones(4).cumsum(0) - 2.5
    row = 3.25 - distance * distance
    weights = row.unsqueeze(1) * row / total
    return weights.expand(x.shape[1], 1, 4, 4)


def _downsample(self: KDownsample2D, inputs: Tensor) -> Tensor:
    padded = F.pad(inputs, (self.pad,) * 4, self.pad_mode)
    return F.conv2d(padded, _blur(padded, 64), stride=2, groups=padded.shape[1])


def _upsample(self: KUpsample2D, inputs: Tensor) -> Tensor:
    padded = F.pad(inputs, ((self.pad + 1) // 2,) * 4, self.pad_mode)
    return F.conv_transpose2d(
        padded, _blur(padded, 16), stride=2, padding=self.pad * 2 + 1, groups=padded.shape[1]
    )


FORWARDS: list[tuple[type, str, Callable]] = [
    (AdaGroupNorm, "forward", _group_norm),
    (KAttentionBlock, "forward", _attention),
    (KDownsample2D, "forward", _downsample),
    (KUpsample2D, "forward", _upsample),
]
