"""A small reference for A1111's prompt weights.

No package has this syntax, so this is our own second writing of what it is known to mean, one
token at a time with transformers' tokenizer and text encoder, apart from the library's:

- (x) is 1.1 times as strong, [x] 1/1.1 times, (x:1.5) 1.5 times; brackets multiply; a backslash
  makes one text; one that nothing closes reaches to the end;
- BREAK begins another row; a row holds as many tokens as the encoder takes without its ends, and
  ends at its last comma if that is at most 20 tokens back;
- embeddings are multiplied by the weights, and then each row by what keeps its mean.
"""

from typing import Any

import torch

Weighted = list[tuple[str, float]]


def read(prompt: str) -> list[Weighted]:
    """Characters with their weights, put together again to texts; one list for each BREAK."""
    weights: list[float] = []
    characters: list[str] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(start: int, factor: float) -> None:
        for index in range(start, len(weights)):
            weights[index] *= factor

    at = 0
    while at < len(prompt):
        character = prompt[at]
        at += 1
        if character == "\\" and at < len(prompt) and prompt[at] in "()[]\\":
            characters.append(prompt[at])
            weights.append(1.0)
            at += 1
        elif character in "([":
            opened[character].append(len(characters))
        elif character == ")" and opened["("]:
            close(opened["("].pop(), 1.1)
        elif character == "]" and opened["["]:
            close(opened["["].pop(), 1 / 1.1)
        elif character == ":" and opened["("] and is_weight(prompt[at:].partition(")")):
            end = prompt.index(")", at)
            close(opened["("].pop(), float(prompt[at:end]))
            at = end + 1
        else:
            characters.append(character)
            weights.append(1.0)
    for bracket, factor in (("(", 1.1), ("[", 1 / 1.1)):
        for start in opened[bracket]:
            close(start, factor)

    parts: list[Weighted] = [[]]
    for index, character in enumerate(characters):
        texts = parts[-1]
        if texts and texts[-1][1] == weights[index]:
            texts[-1] = (texts[-1][0] + character, weights[index])
        else:
            texts.append((character, weights[index]))
        if texts[-1][0].endswith("BREAK"):
            texts[-1] = (texts[-1][0].removesuffix("BREAK"), texts[-1][1])
            parts.append([])
    return parts


def is_weight(parts: tuple[str, str, str]) -> bool:
    number, bracket, _ = parts
    return bracket == ")" and number.replace(".", "", 1).strip().isdigit()


def rows(prompt: str, tokenizer: Any, room: int) -> list[list[tuple[int, float]]]:
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    made: list[list[tuple[int, float]]] = []
    for part in read(prompt):
        row: list[tuple[int, float]] = []
        last_comma = -1
        for text, weight in part:
            for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
                if len(row) == room:
                    carried: list[tuple[int, float]] = []
                    if token != comma and last_comma >= 0 and room - last_comma <= 20:
                        row, carried = row[: last_comma + 1], row[last_comma + 1 :]
                    made.append(row)
                    row, last_comma = carried, -1
                if token == comma:
                    last_comma = len(row)
                row.append((token, weight))
        made.append(row)
    return made if made[-1] or len(made) == 1 else made[:-1]


def embed(prompt: str, tokenizer: Any, text_encoder: Any) -> torch.Tensor:
    length = tokenizer.model_max_length
    embedded = []
    for row in rows(prompt, tokenizer, length - 2):
        tokens = [(tokenizer.bos_token_id, 1.0), *row, (tokenizer.eos_token_id, 1.0)]
        tokens += [(tokenizer.pad_token_id, 1.0)] * (length - len(tokens))
        ids = torch.tensor([[token for token, _ in tokens]])
        weights = torch.tensor([weight for _, weight in tokens]).reshape(1, -1, 1)
        plain = text_encoder(ids).last_hidden_state
        weighted = plain * weights
        embedded.append(weighted * (plain.double().mean() / weighted.double().mean()).float())
    return torch.cat(embedded, 1)
