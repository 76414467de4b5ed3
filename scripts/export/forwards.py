"""Forward functions for tracing.

Each does what the library's module of that class does, from the same parameters, with fewer and
cleaner operators: no shape arithmetic, no casts, no device, no no-ops. What is not listed here runs
as the library wrote it, under the hooks of `no_device_or_dtype`. The comparison with the library's
own, unpatched modules (compare.py) is what makes this safe.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import ResnetBlock2D, ResnetBlockCondNorm2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

import forwards_k
from attention_added import TracedAddedKVProcessor
from errors import unsupported


class TracedAttentionProcessor:
    """Scaled dot-product attention with as few operators as it takes.

    A plain class and no nn.Module: `Attention.forward` filters its arguments by the signature of
    `__call__`, and that of a module would lose `temb`.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        masked = attention_mask is not None
        _require(not masked or attention_mask.ndim == 4, "an attention mask of the library's form")
        _require(attn.norm_q is None and attn.norm_k is None, "query and key norm")
        _require(attn.scale_qk, "unscaled attention")

        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        spatial = hidden_states.ndim == 4
        if attn.group_norm is not None:
            # What attention made lies token by token, and then the library's norm over the tokens
            # adds up in another order than one over the feature map.
            interleaved = spatial and not hidden_states.is_contiguous()
            normed = attn.group_norm(hidden_states.flatten(2) if interleaved else hidden_states)
            hidden_states = normed.reshape_as(residual) if interleaved else normed
        if spatial:
            hidden_states = _tokens(hidden_states)
        elif attn.group_norm is not None:
            raise unsupported("The exporter does not support group norm over tokens.")
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross is not None:
            context = attn.norm_encoder_hidden_states(context)

        query, key, value = (
            projection.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        attended = F.scaled_dot_product_attention(query, key, value, attention_mask)
        result = attn.to_out[0](attended.transpose(1, 2).flatten(2))

        if spatial:
            result = result.transpose(1, 2).reshape_as(residual)
        if attn.residual_connection:
            result = result + residual
        return _divide(result, attn.rescale_output_factor)


def _resnet(self: ResnetBlock2D, input_tensor: Tensor, temb: Tensor | None = None) -> Tensor:
    hidden = self.nonlinearity(self.norm1(input_tensor))
    for resample in (self.upsample, self.downsample):
        if resample is not None:
            input_tensor, hidden = resample(input_tensor), resample(hidden)
    hidden = self.conv1(hidden)

    shift = scale = None
    if self.time_emb_proj is not None:
        # Every block asks for the same activation; the graph computes it once.
        projected = self.time_emb_proj(temb if self.skip_time_act else self.nonlinearity(temb))
        shift = projected.unflatten(1, (-1, 1, 1))
        if self.time_embedding_norm == "scale_shift":
            scale, shift = shift.chunk(2, dim=1)
    if scale is not None:
        hidden = self.norm2(hidden) * (1 + scale) + shift
    else:
        hidden = self.norm2(hidden if shift is None else hidden + shift)
    hidden = self.conv2(self.nonlinearity(hidden))

    if self.conv_shortcut is not None:
        input_tensor = self.conv_shortcut(input_tensor)
    return _divide(input_tensor + hidden, self.output_scale_factor)


def _conditioned_resnet(self: ResnetBlockCondNorm2D, input_tensor: Tensor, temb: Tensor) -> Tensor:
    _require(self.upsample is None and self.downsample is None, "resampling in such a block")
    hidden = self.conv1(self.nonlinearity(self.norm1(input_tensor, temb)))
    hidden = self.conv2(self.nonlinearity(self.norm2(hidden, temb)))
    if self.conv_shortcut is not None:
        input_tensor = self.conv_shortcut(input_tensor)
    return _divide(input_tensor + hidden, self.output_scale_factor)


def _transformer(
    self: Transformer2DModel,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    timestep: Tensor | None = None,
    added_cond_kwargs: dict | None = None,
    class_labels: Tensor | None = None,
    cross_attention_kwargs: dict | None = None,
    attention_mask: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    return_dict: bool = True,
) -> tuple[Tensor]:
    _require(self.is_input_continuous, "transformers over anything but feature maps")
    _require(self.inner_dim == self.in_channels, "attention heads that do not divide the channels")
    _require(attention_mask is None and encoder_attention_mask is None, "an attention mask")
    _require(not return_dict, "transformers that return dictionaries")

    residual = hidden_states
    hidden = self.norm(hidden_states)
    if self.use_linear_projection:
        hidden = self.proj_in(_tokens(hidden))
    else:
        hidden = _tokens(self.proj_in(hidden))
    for block in self.transformer_blocks:
        hidden = block(hidden, encoder_hidden_states=encoder_hidden_states)
    if self.use_linear_projection:
        hidden = self.proj_out(hidden).transpose(1, 2).reshape_as(residual).contiguous()
    else:
        hidden = self.proj_out(hidden.transpose(1, 2).reshape_as(residual).contiguous())
    return (hidden + residual,)


def _upsample(self: Upsample2D, hidden_states: Tensor, output_size: object = None) -> Tensor:
    _require(self.norm is None, "norm in upsampling")
    _require(not self.use_conv_transpose, "upsampling by transposed convolution")
    if self.interpolate:
        if output_size is None:
            hidden_states = F.interpolate(hidden_states, scale_factor=2.0, mode="nearest")
        else:
            hidden_states = F.interpolate(hidden_states, size=output_size, mode="nearest")
    if self.use_conv:
        hidden_states = (self.conv if self.name == "conv" else self.Conv2d_0)(hidden_states)
    return hidden_states


def _downsample(self: Downsample2D, hidden_states: Tensor) -> Tensor:
    _require(self.norm is None, "norm in downsampling")
    if self.use_conv and self.padding == 0:
        hidden_states = F.pad(hidden_states, (0, 1, 0, 1))
    return self.conv(hidden_states)


def _sinusoids(self: Timesteps, timesteps: Tensor) -> Tensor:
    """Sines and cosines of the timesteps, in float32 whatever the model's dtype is."""
    _require(self.num_channels % 2 == 0, "an odd number of timestep channels")
    half = self.num_channels // 2
    timesteps = timesteps.float()
    # Counts 0, 1, 2 … on the timestep's own device, without naming it.
    counts = timesteps.new_ones(half).cumsum(0) - 1
    exponent = counts * -math.log(10000)
    frequencies = torch.exp(exponent / (half - self.downscale_freq_shift))
    angles = timesteps.unsqueeze(-1) * frequencies
    if self.scale != 1:
        angles = self.scale * angles
    waves = [torch.sin(angles), torch.cos(angles)]
    return torch.cat(waves[::-1] if self.flip_sin_to_cos else waves, dim=-1)


def _time_embed(self: UNet2DConditionModel, sample: Tensor, timestep: Tensor) -> Tensor:
    return self.time_proj(timestep.expand(sample.shape[0])).type_as(sample)


def _tokens(feature_map: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H*W, C], as a view."""
    return feature_map.flatten(2).transpose(1, 2)


def _divide(hidden: Tensor, factor: float) -> Tensor:
    return hidden if factor == 1 else hidden / factor


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise unsupported(f"The exporter does not support {what}.")


_FORWARDS: list[tuple[type, str, Callable]] = [
    (ResnetBlock2D, "forward", _resnet),
    (ResnetBlockCondNorm2D, "forward", _conditioned_resnet),
    (Transformer2DModel, "forward", _transformer),
    (Upsample2D, "forward", _upsample),
    (Downsample2D, "forward", _downsample),
    (Timesteps, "forward", _sinusoids),
    (UNet2DConditionModel, "get_time_embed", _time_embed),
]


@contextmanager
def traced_forwards(model: nn.Module, reference: Tensor) -> Iterator[None]:
    """Puts the functions above in place of the library's.

    `reference` is an input that has the model's dtype and device at run time. It is an input and no
    parameter, so that the run time may throw weights away once it has packed them.
    """
    processors = []
    for module in model.modules():
        if isinstance(module, Attention):
            processors.append((module, module.processor))
            plain = module.added_kv_proj_dim is None
            module.set_processor(TracedAttentionProcessor() if plain else TracedAddedKVProcessor())
    try:
        with ExitStack() as stack:
            for owner, name, function in [*_FORWARDS, *forwards_k.FORWARDS]:
                stack.enter_context(patch.object(owner, name, function))
            # Without scopes the trace is one flat graph instead of one method per module.
            stack.enter_context(
                patch.object(
                    nn.Module, "_slow_forward", lambda self, *a, **k: self.forward(*a, **k)
                )
            )
            stack.enter_context(no_device_or_dtype(reference))
            yield
    finally:
        for module, processor in processors:
            module.set_processor(processor)


@contextmanager
def no_device_or_dtype(reference: Tensor) -> Iterator[None]:
    """Keeps the tracing machine's device and dtype out of library code that names them."""
    to, arange, ones = Tensor.to, torch.arange, torch.ones

    def traced_to(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        _, dtype, _, _ = torch._C._nn._parse_to(*_without_tensors(args), **kwargs)
        if dtype is None:
            return self
        if dtype == reference.dtype:
            return self.type_as(reference)
        return to(self, dtype)

    def traced_arange(*args: object, **kwargs: object) -> Tensor:
        if kwargs.pop("device", None) is None:
            return arange(*args, **kwargs)
        _require(len(args) == 1 and not kwargs, "this use of arange")
        return reference.new_ones(args[0]).cumsum(0) - 1

    def traced_ones(*args: object, **kwargs: object) -> Tensor:
        if kwargs.pop("device", None) is None:
            return ones(*args, **kwargs)
        return reference.new_ones(*args, **kwargs)

    def _without_tensors(args: tuple) -> tuple:
        return tuple(a.dtype if isinstance(a, Tensor) else a for a in args)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Tensor, "to", traced_to))
        stack.enter_context(patch.object(torch, "arange", traced_arange))
        stack.enter_context(patch.object(torch, "ones", traced_ones))
        yield
