"""CLIPTextModel and CLIPTextModelWithProjection."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from networks import Entry, Inputs, MakeInputs, Network, build_on_meta

_CLASSES = {
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
}
# Before transformers 4.31 every config said so, and "the highest id" was meant.
_LEGACY_END_OF_TEXT = 2


def clip_text(class_name: str, config: dict[str, Any]) -> Network:
    projected = class_name == "CLIPTextModelWithProjection"
    states = range(config["num_hidden_layers"] + 1)
    limit = config["max_position_embeddings"]

    entry = Entry(
        name="forward",
        inputs=("input_ids",),
        outputs=(
            *(("text_embeds",) if projected else ()),
            "last_hidden_state",
            *(() if projected else ("pooler_output",)),
            *(f"hidden_states.{index}" for index in states),
            *(f"normed_hidden_states.{index}" for index in states),
        ),
        run=lambda model, tensors: _encode(model, tensors["input_ids"], config["eos_token_id"]),
        eager=_eager,
        make=_make_ids(config),
        example_case={"batch": 2, "length": min(9, limit)},
        cases=(
            {"batch": 1, "length": limit},
            {"batch": 3, "length": min(13, limit)},
            {"batch": 2, "length": 1},
        ),
        reference="input_ids",
        dtypes={"input_ids": "int64"},
    )

    def build() -> nn.Module:
        # Tokens that only a tokenizer needs; the library's defaults may exceed a small vocabulary.
        text_config = CLIPTextConfig(**config, bos_token_id=None, pad_token_id=None)
        return build_on_meta(lambda: _CLASSES[class_name](text_config))

    # Files have these names with and without the prefix; programs have them without.
    return Network(build, (entry,), lambda name: name.removeprefix("text_model."))


def _encode(model: nn.Module, input_ids: Tensor, end_of_text: int) -> tuple[Tensor, ...]:
    text = getattr(model, "text_model", model)
    embeddings = text.embeddings
    hidden = embeddings.token_embedding(input_ids)
    hidden = hidden + embeddings.position_embedding.weight[: input_ids.shape[1]]
    states = [hidden]
    for layer in text.encoder.layers:
        hidden = hidden + attention(layer.self_attn, layer.layer_norm1(hidden), causal=True)
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        states.append(hidden)
    normed = [text.final_layer_norm(state) for state in states]
    last = normed[-1]

    if end_of_text == _LEGACY_END_OF_TEXT:
        position = input_ids.argmax(-1)
    else:
        position = (input_ids == end_of_text).int().argmax(-1)
    pooled = torch.take_along_dim(last, position.unflatten(0, (-1, 1, 1)), 1).squeeze(1)
    if hasattr(model, "text_projection"):
        return (model.text_projection(pooled), last, *states, *normed)
    return (last, pooled, *states, *normed)


def attention(module: nn.Module, hidden: Tensor, causal: bool) -> Tensor:
    heads = module.num_heads
    query, key, value = (
        projection(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    # A mask would have a length; this is causal for every one.
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return module.out_proj(attended.transpose(1, 2).flatten(2))


def _eager(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    output = model(tensors["input_ids"], output_hidden_states=True)
    text = getattr(model, "text_model", model)
    normed = tuple(text.final_layer_norm(state) for state in output.hidden_states)
    if hasattr(model, "text_projection"):
        return (output.text_embeds, output.last_hidden_state, *output.hidden_states, *normed)
    return (output.last_hidden_state, output.pooler_output, *output.hidden_states, *normed)


def _make_ids(config: dict[str, Any]) -> MakeInputs:
    vocabulary, end_of_text = config["vocab_size"], config["eos_token_id"]

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        size = (case["batch"], case["length"])
        ids = torch.randint(vocabulary, size, generator=generator)
        if _LEGACY_END_OF_TEXT != end_of_text < vocabulary:
            # Ends differ from row to row and are followed by padding with the same token.
            for row in range(case["batch"]):
                ids[row, (case["length"] * (row + 1)) // (case["batch"] + 1) :] = end_of_text
        return {"input_ids": ids}

    return make
