"""Build the demo model's tokenizer: byte-pair encoding in CLIP's file format.

    python tokenizer.py --data data.npz --out models/demo/tokenizer
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import regex
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

import common
from captions import all_captions
from models import TEXT_LENGTH

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's split: contractions, runs of letters, single digits, runs of the rest.
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_symbols() -> list[str]:
    """One printable character a byte, in the order CLIP's vocabulary lists them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    symbols |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [symbols[byte] for byte in [*printable, *others]]


def learn_merges(counts: Counter[str], limit: int) -> list[tuple[str, str]]:
    """Join the most frequent pair, again and again; ties go to the first in code-point order."""
    symbols = dict(zip([*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)], byte_symbols(), strict=False))
    if any(ord(letter) not in symbols for word in counts for letter in word):
        raise ValueError("the corpus must be ASCII: bytes and letters are one here")
    words = [([*word[:-1], word[-1] + "</w>"], count) for word, count in sorted(counts.items())]
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in words:
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += count
        if not pairs:
            raise ValueError(f"the corpus gives only {len(merges)} of {limit} merges")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces, _ in words:
            place = 0
            while place < len(pieces) - 1:
                if (pieces[place], pieces[place + 1]) == best:
                    pieces[place : place + 2] = [best[0] + best[1]]
                place += 1
    return merges


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1500)
    arguments = parser.parse_args()

    data = common.load_data(arguments.data)
    counts: Counter[str] = Counter()
    for text, weight in [(caption, 20) for caption in all_captions(data.demo)] + [(word, 1) for word in data.words]:
        for word in regex.findall(SPLIT, text.lower()):
            if word.isascii():
                counts[word] += weight

    letters = byte_symbols()
    merges = learn_merges(counts, arguments.size - 2 * len(letters) - 2)
    entries = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {entry: place for place, entry in enumerate(entries)}
    if len(vocabulary) != arguments.size:
        raise ValueError(f"{len(vocabulary)} distinct entries, expected {arguments.size}")

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "vocab.json", vocabulary)
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {
        name: {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        for name, content in (("bos_token", START), ("eos_token", END), ("unk_token", END))
    }
    write_json(out / "special_tokens_map.json", {**special, "pad_token": END})
    write_json(
        out / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": START,
            "clean_up_tokenization_spaces": False,
            "do_lower_case": True,
            "eos_token": END,
            "errors": "replace",
            "model_max_length": TEXT_LENGTH,
            "pad_token": END,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": END,
        },
    )
    fast = Tokenizer(
        BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    fast.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    fast.add_special_tokens([START, END])
    fast.save(str(out / "tokenizer.json"))
    print(f"{len(vocabulary)} entries, {len(merges)} merges, {len(counts)} distinct words")


if __name__ == "__main__":
    main()
