"""Answers the live prompt weighting tests with Compel 2.0.

    python compel_reference.py FOLDER

FOLDER/request.json has sections by name. First tiny random text encoders are made: FOLDER/sd and
FOLDER/xl. Then each section is answered in FOLDER/<name>.json, and its name printed. A section has

- `parse`, a list of prompts: the answer has for each what Compel reads, or {"error"};
- `embed`, a list of {model, prompts, options}, or `a1111`, a list of prompts: the answer has for
  each the shapes of its tensors, whose numbers follow each other in FOLDER/<name>.f32; for `embed`
  FOLDER/<name>.exact.f32 has what comes of encoders that compute in float64.

What keeps Compel from running is mended here, and nothing of it changes a number:
- its grammar takes four times as long for each level of nesting: pyparsing gets its cache, which
  a nested quotation does not empty;
- transformers 5 has no `text_model` in CLIPTextModel any more;
- it encodes the empty prompt again for every variant of a prompt: what was encoded is kept;
- with several encoders it drops the batch dimension, and then cannot concatenate the parts of an
  `.and()` that has weights; with pooled embeddings it takes these for a part of such a prompt.
"""

import argparse
import gc
import json
import sys
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

sys.path.append(str(Path(__file__).resolve().parent / "python"))

import a1111_reference  # noqa: E402
import pyparsing  # noqa: E402
import torch  # noqa: E402
from compel import Compel, DownweightMode, ReturnedEmbeddingsType  # noqa: E402
from compel.embeddings_provider import EmbeddingsProvider, EmbeddingsProviderMulti  # noqa: E402
from compel.prompt_parser import (  # noqa: E402
    Blend,
    Conjunction,
    CrossAttentionControlSubstitute,
    PromptParser,
)
from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

pyparsing.ParserElement.enable_packrat(None)
forget_parses = pyparsing.ParserElement.reset_cache
pyparsing.ParserElement.reset_cache = staticmethod(lambda: None)

MERGES = 150
CLASSES = {
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
}


def make_encoders(folder: Path) -> None:
    """One encoder as of Stable Diffusion 1, and a pair as of XL with other lengths and padding."""
    from presets import text_config

    end = "<|endoftext|>"
    first = text_config(32, 2, 32)
    second = text_config(48, 2, 32, hidden_act="gelu", projection_dim=40, eos_token_id=None)
    write(folder / "sd", "", "CLIPTextModel", text_config(32, 2, 77), end)
    write(folder / "xl", "", "CLIPTextModel", first, end)
    write(folder / "xl", "_2", "CLIPTextModelWithProjection", second, "!")
    for name in ("sd", "xl"):
        index: dict[str, Any] = {"_class_name": "None"}
        for part in sorted((folder / name).glob("text_encoder*/config.json")):
            config = json.loads(part.read_text(encoding="utf-8"))
            index[part.parent.name] = ["transformers", config["architectures"][0]]
        (folder / name / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def write(folder: Path, suffix: str, class_name: str, config: dict[str, Any], pad: str) -> None:
    from checkpoint import randomise, write_tokenizer
    from vocabulary import train, vocabulary_of

    size = len(vocabulary_of(train(MERGES)))
    if config["eos_token_id"] is None:
        config["eos_token_id"] = size - 1
    model = CLASSES[class_name](CLIPTextConfig(vocab_size=size, **config))
    randomise(model, 1)
    model.save_pretrained(folder / f"text_encoder{suffix}")
    length = config["max_position_embeddings"]
    write_tokenizer(folder / f"tokenizer{suffix}", MERGES, pad, length)


class Reference(Compel):
    parser = PromptParser()
    read: dict[str, Conjunction] = {}

    @classmethod
    def parse_prompt_string(cls, prompt_string: str) -> Conjunction:
        if prompt_string not in cls.read:
            forget_parses()
            cls.read[prompt_string] = cls.parser.parse_conjunction(prompt_string)
        return cls.read[prompt_string]

    def build_conditioning_tensor_for_conjunction(self, conjunction: Conjunction) -> Any:
        pooled, self.requires_pooled = self.requires_pooled, False
        try:
            return super().build_conditioning_tensor_for_conjunction(conjunction)
        finally:
            self.requires_pooled = pooled


def batched(method: Any) -> Any:
    def run(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        if isinstance(result, tuple):
            return result
        return result if result.dim() == 3 else result.unsqueeze(0)

    return run


is_exact = False


def remembered(method: Any) -> Any:
    known: dict[Any, torch.Tensor] = {}

    def encode(self: Any, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        # Not showing anything and showing all is one, since transformers looks for zeros.
        visible = None if mask is None or bool(mask.all()) else tuple(mask.flatten().tolist())
        kind = (id(self.text_encoder), self.returned_embeddings_type, is_exact)
        key = (*kind, tuple(ids.flatten().tolist()), visible)
        if key not in known:
            if is_exact:
                self.text_encoder.double()
            known[key] = method(self, ids, mask).float()
            self.text_encoder.float()
        return known[key]

    return encode


EmbeddingsProvider._encode_token_ids_to_embeddings = remembered(
    EmbeddingsProvider._encode_token_ids_to_embeddings
)
EmbeddingsProviderMulti.get_embeddings_for_weighted_prompt_fragments = batched(
    EmbeddingsProviderMulti.get_embeddings_for_weighted_prompt_fragments
)


def load(folder: Path) -> dict[str, Any]:
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    encoders, tokenizers = [], []
    for name, value in index.items():
        if name.startswith("text_encoder"):
            encoder = CLASSES[value[1]].from_pretrained(folder / name).eval()
            if not hasattr(encoder, "text_model"):
                encoder.text_model = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)
            encoders.append(encoder)
            tokenizer = name.replace("text_encoder", "tokenizer")
            tokenizers.append(CLIPTokenizer.from_pretrained(folder / tokenizer))
    if len(encoders) == 1:
        return {"tokenizer": tokenizers[0], "text_encoder": encoders[0]}
    return {"tokenizer": tokenizers, "text_encoder": encoders}


def option(value: Any) -> Any:
    """Enumerations come by name."""
    kinds: tuple[type[Enum], ...] = (DownweightMode, ReturnedEmbeddingsType)
    for kind in kinds:
        if value in kind.__members__:
            return kind[value]
    return value


def embed(parts: dict[str, Any], case: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    options = {
        name: option(value) if isinstance(value, str) else value
        for name, value in case["options"].items()
    }
    made = Reference(**parts, **options)(case["prompts"])
    return made if isinstance(made, tuple) else (made,)


def fragments_of(prompt: Any) -> list[dict[str, Any]]:
    found = []
    for child in prompt.children:
        # The edited words are for cross-attention control; the conditioning has the original.
        is_swap = isinstance(child, CrossAttentionControlSubstitute)
        for one in child.original if is_swap else [child]:
            found.append({"text": one.text, "weight": one.weight})
    return found


def part_of(prompt: Any, weight: float) -> dict[str, Any]:
    if not isinstance(prompt, Blend):
        return {"weight": weight, "blend": [{"weight": 1, "fragments": fragments_of(prompt)}]}
    total = sum(prompt.weights) if prompt.normalize_weights else 1
    blend = [
        {"weight": one / total, "fragments": fragments_of(part)}
        for part, one in zip(prompt.prompts, prompt.weights, strict=True)
    ]
    return {"weight": weight, "blend": blend}


def parse(prompt: str) -> dict[str, Any]:
    try:
        read = Reference.parse_prompt_string(prompt)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    parts = [
        part_of(one, weight) for one, weight in zip(read.prompts, read.weights, strict=True)
    ]
    loras = [{"name": lora.model, "weight": lora.weight} for lora in read.lora_weights]
    return {"parts": parts, "loraWeights": loras}


def write_numbers(file: BinaryIO, tensors: tuple[torch.Tensor, ...]) -> None:
    for tensor in tensors:
        file.write(tensor.float().contiguous().numpy().tobytes())


def answer(folder: Path, name: str, section: dict[str, Any], models: dict[str, Any]) -> None:
    global is_exact
    shapes = []
    with (
        (folder / f"{name}.f32").open("wb") as numbers,
        (folder / f"{name}.exact.f32").open("wb") as exact_numbers,
    ):

        def write_tensors(*tensors: torch.Tensor) -> None:
            shapes.append([list(tensor.shape) for tensor in tensors])
            write_numbers(numbers, tensors)

        for case in section.get("embed", []):
            write_tensors(*embed(models[case["model"]], case))
            is_exact = True
            write_numbers(exact_numbers, embed(models[case["model"]], case))
            is_exact = False
        for prompt in section.get("a1111", []):
            write_tensors(a1111_reference.embed(prompt, **models["sd"]))
    read = [parse(prompt) for prompt in section.get("parse", [])]
    (folder / f"{name}.json").write_text(json.dumps(shapes + read), encoding="utf-8")
    print(name, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    # Parsing makes millions of small objects, and none of them a circle worth looking for.
    gc.disable()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    make_encoders(folder)
    print("encoders", flush=True)
    models = {name: load(folder / name) for name in ("sd", "xl")}
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    for name, section in request.items():
        answer(folder, name, section, models)


if __name__ == "__main__":
    main()
