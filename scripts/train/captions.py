"""Captions of a picture of the demo set: all that are true of it, and a random one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

# Nouns that end in s but are singular, and nouns that take no article.
SINGULAR_IN_S = {"bus", "octopus", "cactus", "dress"}
WITHOUT_ARTICLE = {"corn", "broccoli", "bread", "fire", "cheese"}


def article(phrase: str, noun: str) -> str:
    head = noun.split(" with ")[0].split(" of ")[0]
    if head in WITHOUT_ARTICLE or (head.endswith("s") and head not in SINGULAR_IN_S):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def all_captions(demo: Iterable[dict[str, Any]]) -> list[str]:
    """Every caption once, sorted: the tokenizer's corpus."""
    captions: set[str] = set()
    for entry in demo:
        phrases = {entry["noun"], entry["label"].lower()}
        if entry["colour"] is not None:
            phrases.add(f"{entry['colour']} {entry['noun']}")
        for phrase in phrases:
            for text in (phrase, article(phrase, entry["noun"])):
                captions.update((text, f"{text}, {entry['style']} style"))
    return sorted(captions)


def random_caption(entry: dict[str, Any], random: np.random.Generator) -> str:
    """A true caption; one in ten is empty, which is what guidance subtracts."""
    if random.random() < 0.1:
        return ""
    noun, colour = entry["noun"], entry["colour"]
    phrase = noun
    if entry["copy"]:
        if random.random() < 0.85:
            phrase = f"{colour} {noun}"
    elif colour is not None and random.random() < 0.35:
        phrase = f"{colour} {noun}"
    elif entry["label"].split()[0] != colour and random.random() < 0.1:
        phrase = entry["label"].lower()
    if random.random() < 0.5:
        phrase = article(phrase, noun)
    return phrase if random.random() < 0.27 else f"{phrase}, {entry['style']} style"
