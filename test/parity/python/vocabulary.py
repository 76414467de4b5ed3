"""A small byte-pair vocabulary for CLIP tokenizers, trained on a few sentences of our own.

CLIP's published vocabulary is in no package that these tests could install, and a tiny text encoder
wants a tiny vocabulary anyway. The form is CLIP's: 256 byte characters, the same with "</w>", one
entry for each merge, then the two special tokens.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

START = "<|startoftext|>"
END = "<|endoftext|>"

CORPUS = """
a red fox asleep on a green hill under the evening sun, oil painting
the old lighthouse keeper paints a small wooden boat in the morning fog
a portrait of a young woman with a silver helmet, sharp focus, highly detailed
two cats and three dogs playing in the snow, photograph, soft light
a city street at night with bright signs and wet stones, in the style of a comic
blue mountains behind a quiet lake, watercolor on paper
a bowl of fruit on a kitchen table, still life, warm colors
blurry, low quality, bad anatomy, extra fingers, cropped, watermark, text
an astronaut riding a horse through a field of flowers, digital art
a robot reading a book in a library full of plants, cinematic lighting
"""


def byte_characters() -> list[str]:
    """The printable stand-in of each byte, in the order of CLIP's vocabulary: bytes that print as
    themselves come first, the others follow as characters from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    plain += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


def train(merges: int) -> list[tuple[str, str]]:
    """Byte-pair merges of CORPUS, most frequent pair first, ties in alphabetical order."""
    counts = Counter(re.findall(r"[a-z]+|[^\sa-z]", CORPUS))
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    found: list[tuple[str, str]] = []
    while len(found) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            raise ValueError(f"the corpus is exhausted after {len(found)} merges")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for word, symbols in words.items():
            words[word] = merged(symbols, best)
    return found


def merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for symbol in symbols:
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return result


def extended(merges: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """The merges followed by made-up ones, until there are as many as asked for: joins of earlier
    results, so that each is reachable. A vocabulary of CLIP's size needs 48,894."""
    result = list(merges)
    seen = {left + right for left, right in merges}
    first = [left + right for left, right in merges if not right.endswith("</w>")]
    last = [left + right for left, right in merges if right.endswith("</w>")]
    # Bytes of the letters that begin accented and Greek ones in UTF-8 print as themselves.
    letters = [chr(code) for code in [*range(ord("a"), ord("z") + 1), *range(0xC3, 0xD0)]]
    ends = last + [letter + "</w>" for letter in letters]
    for left in [*first, *letters]:
        for right in [*ends, *first, *letters]:
            if len(result) == count:
                return result
            if left + right not in seen:
                seen.add(left + right)
                result.append((left, right))
    raise ValueError(f"only {len(result)} merges can be made up, not {count}")


def vocabulary_of(merges: list[tuple[str, str]]) -> dict[str, int]:
    characters = byte_characters()
    tokens = characters + [character + "</w>" for character in characters]
    tokens += [left + right for left, right in merges] + [START, END]
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token occurs twice")
    return {token: index for index, token in enumerate(tokens)}


def write_vocabulary(folder: Path, merges: list[tuple[str, str]]) -> None:
    """Writes vocab.json and merges.txt, the two files that every published tokenizer has."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocabulary_of(merges), ensure_ascii=False)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
