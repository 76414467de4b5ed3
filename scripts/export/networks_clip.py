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
        inputs=("input_ids", "attention_mask"),
        outputs=(
            *(("text_embeds",) if projected else ()),
            "last_hidden_state",
            *(() if projected else ("pooler_output",)),
            *(f"hidden_states.{index}" for index in states),
            *(f"normed_hidden_states.{index}" for index in states),
        ),
        run=lambda model, tensors: _encode(model, tensors, config["eos_token_id"]),
        eager=_eager,
        make=_make_tokens(config),
        example_case={"batch": 2, "length": min(9, limit), "masked": 2},
        cases=(
            {"batch": 1, "length": limit, "masked": 0},
            {"batch": 3, "length": min(13, limit), "masked": 4},
            {"batch": 2, "length": 1, "masked": 0},
        ),
        reference="input_ids",
        dtypes={"input_ids": "int64", "attention_mask": "bool"},
    )

    def build() -> nn.Module:
        # Tokens that only a tokenizer needs; the library's defaults may exceed a small vocabulary.
        text_config = CLIPTextConfig(**config, bos_token_id=None, pad_token_id=None)
        return build_on_meta(lambda: _CLASSES[class_name](text_config))

    # Files have these names with and without the prefix; programs have them without.
    return Network(build, (entry,), lambda name: name.removeprefix("text_model."))


def _encode(model: nn.Module, tensors: Inputs, end_of_text: int) -> tuple[Tensor, ...]:
    input_ids, attention_mask = tensors["input_ids"], tensors["attention_mask"]
    # Row for row the tokens that each token sees: itself and earlier ones, but for the masked.
    seen = attention_mask[:, None, None, :].expand(-1, -1, attention_mask.shape[1], -1).tril()
    text = getattr(model, "text_model", model)
    embeddings = text.embeddings
    hidden = embeddings.token_embedding(input_ids)
    hidden = hidden + embeddings.position_embedding.weight[: input_ids.shape[1]]
    states = [hidden]
    for layer in text.encoder.layers:
        hidden = hidden + attention(layer.self_attn, layer.layer_norm1(hidden), seen)
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


def attention(module: nn.Module, hidden: Tensor, seen: Tensor | None = None) -> Tensor:
    """`seen` says row for row which tokens a token attends to; all unless given."""
    heads = module.num_heads
    query, key, value = (
        projection(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    attended = F.scaled_dot_product_attention(query, key, value, seen)
    return module.out_proj(attended.transpose(1, 2).flatten(2))


def _eager(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    output = model(**tensors, output_hidden_states=True)
    text = getattr(model, "text_model", model)
    normed = tuple(text.final_layer_norm(state) for state in output.hidden_states)
    if hasattr(model, "text_projection"):
        return (output.text_embeds, output.last_hidden_state, *output.hidden_states, *normed)
    return (output.last_hidden_state, output.pooler_output, *output.hidden_states, *normed)


def _make_tokens(config: dict[str, Any]) -> MakeInputs:
    vocabulary, end_of_text = config["vocab_size"], config["eos_token_id"]

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        size = (case["batch"], case["length"])
        ids = torch.randint(vocabulary, size, generator=generator)
        if _LEGACY_END_OF_TEXT != end_of_text < vocabulary:
            # Ends differ from row to row and are followed by padding with the same token.
            for row in range(case["batch"]):
                ids[row, (case["length"] * (row + 1)) // (case["batch"] + 1) :] = end_of_text
        mask = torch.ones(size, dtype=torch.bool)
        for row in range(case["batch"]):
            # The first token is seen by all: one that sees nothing has no defined output.
            order = torch.randperm(case["length"] - 1, generator=generator) + 1
            mask[row, order[: case["masked"]]] = False
        return {"input_ids": ids, "attention_mask": mask}

    return make
