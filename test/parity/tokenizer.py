"""Answers the live tokenizer test with transformers' CLIPTokenizer.

    python test/parity/tokenizer.py vocabulary FOLDER     # writes vocab.json and merges.txt of CLIP
    python test/parity/tokenizer.py ask REQUEST ANSWER    # JSON files

The vocabulary comes from the package open-clip-torch (MIT), which carries the merges of OpenAI's
CLIP; pip puts the wheel into the cache folder named by --cache. Nothing of it is kept in the
repository.

A request is a list of {folder, prompts, blocks}; an answer has, for each, the ids of the
special tokens, the ids of each prompt (without begin and end token), what they decode to, and for
each block [first, last] of code points a digest of the ids of all of them.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "open_clip_torch==3.3.0"
MERGES = "open_clip/bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SIZE = 49408


def write_vocabulary(folder: Path, cache: Path) -> None:
    wheels = sorted(cache.glob("open_clip_torch-3.3.0-*.whl"))
    if not wheels:
        command = ["pip", "download", "-q", "--no-deps", "-d", str(cache), WHEEL]
        subprocess.run([sys.executable, "-m", *command], check=True)
        wheels = sorted(cache.glob("open_clip_torch-3.3.0-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        lines = gzip.decompress(wheel.read(MERGES)).decode("utf-8").split("\n")
    # The file has more merges than CLIP uses: a header, then 48894 that count.
    merges = lines[1 : VOCABULARY_SIZE - 2 * 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == len(set(tokens)) == VOCABULARY_SIZE
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def digest(backend, first: int, last: int) -> str:
    """Each code point in the middle of letters, digits, marks and punctuation."""
    prompts = []
    for c in range(first, last + 1):
        if not 0xD800 <= c <= 0xDFFF:
            x = chr(c)
            prompts.append(f"a{x}b1{x}2!{x}.{x} {x}e\u0323{x}\u0301")
    encodings = backend.encode_batch(prompts, add_special_tokens=False)
    text = "\n".join(",".join(map(str, encoding.ids)) for encoding in encodings)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def answer(entry: dict) -> dict:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(entry["folder"])
    prompts = entry["prompts"]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"] if prompts else []
    encoded = {}
    if prompts and tokenizer.model_max_length < 1000:
        encoded = dict(tokenizer(prompts, padding="max_length", truncation=True))
    return {
        "special": [
            tokenizer.pad_token_id,
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.unk_token_id,
        ],
        "size": len(tokenizer),
        "modelMaxLength": tokenizer.model_max_length,
        "ids": ids,
        "decoded": [tokenizer.decode(row) for row in ids],
        "decodedWithoutSpecial": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
        "inputIds": encoded.get("input_ids"),
        "attentionMask": encoded.get("attention_mask"),
        "digests": [
            digest(tokenizer.backend_tokenizer, first, last) for first, last in entry["blocks"]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    vocabulary = commands.add_parser("vocabulary")
    vocabulary.add_argument("folder", type=Path)
    vocabulary.add_argument("--cache", type=Path, required=True)
    ask = commands.add_parser("ask")
    ask.add_argument("request", type=Path)
    ask.add_argument("answer", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "vocabulary":
        write_vocabulary(arguments.folder, arguments.cache)
        return
    request = json.loads(arguments.request.read_text(encoding="utf-8"))
    answers = [answer(entry) for entry in request]
    arguments.answer.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
