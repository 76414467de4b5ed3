"""PriorTransformer: from a text's embeddings to a picture's."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import PriorTransformer
from torch import Tensor, nn

from networks import Entry, Inputs, MakeInputs, Network, build_on_meta, require_config

# What follows the text's tokens: its pooled embedding, the timestep, the noisy picture's embedding
# and a learned token, in whose place the result comes out.
_ADDITIONAL = 4
_BLOCKED = -10000.0
_STATISTICS = ("clip_mean", "clip_std")
_LAYERS = (
    "embedding_proj",
    "encoder_hidden_states_proj.",
    "norm_",
    "positional_embedding",
    "prd_embedding",
    "proj_",
    "time_embedding.",
    "transformer_blocks.",
)


def prior_transformer(config: dict[str, Any]) -> Network:
    stated = {
        "additional_embeddings": _ADDITIONAL,
        "added_emb_type": "prd",
        "encoder_hid_proj_type": "linear",
        **config,
    }
    require_config(stated, "additional_embeddings", {_ADDITIONAL})
    require_config(stated, "added_emb_type", {"prd"})
    require_config(stated, "encoder_hid_proj_type", {"linear"})

    forward = Entry(
        name="forward",
        inputs=(
            "hidden_states",
            "timestep",
            "proj_embedding",
            "encoder_hidden_states",
            "attention_mask",
        ),
        outputs=("predicted_image_embedding",),
        run=_predict,
        eager=_eager,
        make=_make(config),
        example_case={"batch": 2},
        cases=({"batch": 1}, {"batch": 4}, {"batch": 3}),
        reference="hidden_states",
        prefixes=_LAYERS,
        float_casts=1,
        dtypes={"timestep": "float32"},
    )
    denormalize = Entry(
        name="denormalize",
        inputs=("latents",),
        outputs=("image_embeds",),
        run=lambda model, tensors: tensors["latents"] * model.clip_std + model.clip_mean,
        eager=lambda model, tensors: (model.post_process_latents(tensors["latents"]),),
        make=_make_latents(config),
        example_case=forward.example_case,
        cases=forward.cases,
        reference="latents",
        prefixes=_STATISTICS,
    )
    return Network(
        lambda: build_on_meta(lambda: PriorTransformer(**config)), (forward, denormalize)
    )


def _predict(model: nn.Module, tensors: Inputs) -> Tensor:
    sample, pooled = tensors["hidden_states"], tensors["proj_embedding"]
    if model.embedding_proj_norm is not None:
        pooled = model.embedding_proj_norm(pooled)
    waves = model.time_proj(tensors["timestep"].expand(sample.shape[0])).type_as(sample)
    hidden = model.proj_in(sample).unsqueeze(1)
    tokens = [
        model.encoder_hidden_states_proj(tensors["encoder_hidden_states"]),
        model.embedding_proj(pooled).unsqueeze(1),
        model.time_embedding(waves).unsqueeze(1),
        hidden,
        model.prd_embedding.expand_as(hidden),
    ]
    hidden = torch.cat(tokens, dim=1) + model.positional_embedding
    mask = _mask(tensors["attention_mask"], model.positional_embedding.shape[1])
    if model.norm_in is not None:
        hidden = model.norm_in(hidden)
    for block in model.transformer_blocks:
        hidden = block(hidden, attention_mask=mask)
    return model.proj_to_clip_embeddings(model.norm_out(hidden)[:, -1])


def _mask(text: Tensor, tokens: int) -> Tensor:
    """What is added to the scores, [B, 1, tokens, tokens]: nothing sees padding or what follows."""
    padding = F.pad((1 - text) * _BLOCKED, (0, _ADDITIONAL)).unflatten(-1, (1, 1, -1))
    return padding + (text.new_ones((tokens, tokens)) * _BLOCKED).triu(1)


def _eager(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    mask = tensors["attention_mask"].bool()
    return model(**{**tensors, "attention_mask": mask}, return_dict=False)


def _make(config: dict[str, Any]) -> MakeInputs:
    width, length = config["embedding_dim"], config["num_embeddings"]

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        batch = case["batch"]
        # Texts of different lengths.
        ends = torch.randint(1, length + 1, (batch, 1), generator=generator)
        pooled_width = config.get("embedding_proj_dim") or width
        return {
            "hidden_states": torch.randn(batch, width, generator=generator),
            "timestep": torch.rand(1, generator=generator) * 999,
            "proj_embedding": torch.randn(batch, pooled_width, generator=generator),
            "encoder_hidden_states": torch.randn(batch, length, width, generator=generator),
            "attention_mask": (torch.arange(length) < ends).float(),
        }

    return make


def _make_latents(config: dict[str, Any]) -> MakeInputs:
    width = config.get("clip_embed_dim") or config["embedding_dim"]

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        return {"latents": torch.randn(case["batch"], width, generator=generator)}

    return make
