"""Writes tokenizer.json: texts and the ids that transformers' CLIPTokenizer gives them.

    python test/golden/generate_tokenizer.py

The vocabulary is a small one that is trained here and laid out like CLIP's: bytes, bytes at a
word's end, merges, begin and end token. Each layout is a folder as checkpoints publish them (the
shapes, not the files). Needs the packages of scripts/python/requirements.txt.
"""

import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import tokenizers
import transformers
from transformers import CLIPTokenizer

MERGE_COUNT = 320
BOS, EOS = "<|startoftext|>", "<|endoftext|>"

CORPUS = """
a photo of a red fox in the snow, highly detailed, soft light
an oil painting of a lighthouse by the sea at sunset, thick brush strokes
portrait of an old sailor, the wrinkles and the white beard, studio light
a watercolour of a small village in the mountains in the morning mist
the astronaut is riding a horse on the moon, digital painting, concept art
a castle on a hill, dramatic clouds, wide angle, 35mm film photo
two cats don't sleep on the sofa, they're watching the birds, it's raining
a bowl of fruit on a wooden table, still life, in the style of the old masters
city street at night, neon signs, rain, reflections, cinematic, 4k, 8k
naïve café straße über señor Ελλάδα привет мир שלום مرحبا नमस्ते 日本語 한국어 emoji 😀
"""

HAND_WRITTEN = [
    "",
    " ",
    "a",
    "A photo of a red fox in the snow!",
    "a cat!",
    "!!! wow !!",
    "don't DON'T they're we've I'm you'll he'd it's rock'n'roll 'sS ''s 's",
    "1234 3.14 1,000 ½ Ⅷ ٣ १ １ 𝟘 ②",
    "snake_case camelCase kebab-case path/to/file.png <tag> {x} [y] (z:1.2)",
    "tabs\tand\nnew\r\nlines  and   spaces \u00a0\u2003\u3000\u0085\u2028 end ",
    "zero\u200bwidth\u200cand\u200djoiners\ufeff and \u180e",
    "İstanbul IĞDIR ıi ß ẞ ŒUVRE ﬁ ﬂ ſ K Å Ω Ǆ ǅ",
    "ΣΊΣΥΦΟΣ ΌΔΟΣ ὈΔΥΣΣΕΎΣ ᾳ ᾼ ᾼ\u0301",
    "e\u0301 e\u0323\u0301 e\u0301\u0323 \u0301alone a\u0334\u0345\u0334 ẛ\u0323 Å A\u030a",
    "が か\u3099 ﾊﾟ 한글 \u1112\u1161\u11ab \uac00\u11a8 \u1112\u1175",
    "क\u093c क़ ড় \u0dd9\u0dcf \u09c7\u09be ລາວ\u0eba\u0eb8 \u0915\u0301\u093c",
    "\u0627\u0653 \u05e9\u05c1\u05bc \U0001d158\U0001d165 \u0344 \u2126 \u2329",
    "😀 👩‍👩‍👧‍👦 🧑🏽‍🚀 🏳️‍🌈 🇩🇪🇫🇷 ❤️ 1️⃣ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "שלום עולם مرحبا بالعالم \u200fRTL\u200e \u202eabc\u202c",
    "漢字かな交じり文 𠮷野家 㐂 豈 \U0002f800",
    "\x00\x01\x1f\x7f control \x1c\x1d\x1e\x1f",
    "\ufffe\uffff\U0001fffe\U0010ffff \ue000 \U000f0000",
    "Ꭰꭰ Ꮿ Ა Ⴀ Ⱥ Ɤ Ꟑ 𐐀 𞤀 𖹀 Ა \U0001e921 \U00010940 \ua7d2 \u088f",
    f"{BOS}a photo{EOS}",
    f"a{EOS}b {BOS} c {EOS}{EOS}",
    "a <|EndOfText|> b <|STARTOFTEXT|> c",
    "<|endoftext| <|endoftext|>> <<|endoftext|> |endoftext|>",
    "</w> a</w> fox</w>",
    "word " * 30,
    "x" * 90,
    "аbсdе mixed скрипт",
    "  <cat-toy>  a <cat-toy>b<CAT-TOY> <Fancy> <fancy>x the<word>the <word> (<word>)",
    "\ufffd broken \ufffd\ufffd",
    "&amp; &lt;b&gt; &#39; &nbsp;",
    "“quotes” ‘single’ ’s don’t — … •·",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309\u030a",
]


def random_texts(count: int) -> list[str]:
    rng = random.Random(20240)
    words = CORPUS.split()
    blocks = [
        (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x58F), (0x590, 0x8FF),
        (0x900, 0xDFF), (0xE00, 0x13FF), (0x1E00, 0x20FF), (0x2100, 0x2BFF), (0x3000, 0x30FF),
        (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFFEF), (0x10000, 0x10FFF),
        (0x11000, 0x12FFF), (0x1D100, 0x1D7FF), (0x1E000, 0x1FAFF), (0x20000, 0x2FA1F),
    ]  # fmt: skip

    def piece() -> str:
        kind = rng.randrange(4)
        if kind == 0:
            return rng.choice(words)
        if kind == 1:
            return rng.choice(words).title()
        block = rng.choice(blocks)
        return "".join(chr(rng.randint(*block)) for _ in range(rng.randint(1, 5)))

    separators = [" ", " ", "", ", ", "'"]
    return [
        "".join(piece() + rng.choice(separators) for _ in range(rng.randint(1, 8)))
        for _ in range(count)
    ]


def byte_symbols() -> dict[int, str]:
    """Byte to symbol, in CLIP's order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}


def train() -> tuple[list[str], list[list[str]]]:
    """Plain byte-pair training; ties go to the pair that sorts first."""
    names = byte_symbols()
    symbols = list(names.values())
    words = Counter()
    for word in CORPUS.lower().split():
        parts = [names[b] for b in word.encode("utf-8")]
        words[(*parts[:-1], parts[-1] + "</w>")] += 1
    merges = []
    for _ in range(MERGE_COUNT):
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append([left, right])
        joined = Counter()
        for word, count in words.items():
            parts, i = [], 0
            while i < len(word):
                if word[i : i + 2] == (left, right):
                    parts.append(left + right)
                    i += 2
                else:
                    parts.append(word[i])
                    i += 1
            joined[tuple(parts)] += count
        words = joined
    # Two merges can give one token; the vocabulary has it once.
    tokens = [*symbols, *[s + "</w>" for s in symbols], *["".join(m) for m in merges], BOS, EOS]
    return list(dict.fromkeys(tokens)), merges


def flags(content: str, **more) -> dict:
    token = {"content": content, "lstrip": False, "normalized": True, "rstrip": False}
    return {**token, "single_word": False, **more}


def typed(content: str) -> dict:
    return {"__type": "AddedToken", **flags(content)}


def named(make, pad) -> dict:
    return {"bos_token": make(BOS), "eos_token": make(EOS), "pad_token": pad, "unk_token": make(EOS)}


def layouts(bos: int, eos: int) -> dict[str, dict]:
    common = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    old_config = {**common, **named(typed, EOS), "special_tokens_map_file": "./x.json"}
    decoder = {
        str(bos): flags(BOS, special=True),
        str(eos): flags(EOS, special=True),
    }
    exclamation = {"0": flags("!", normalized=False, special=True), **decoder}
    added = {
        **decoder,
        str(eos + 1): flags("<cat-toy>", lstrip=True, rstrip=True, special=False),
        str(eos + 2): flags("<Fancy>", special=False),
        str(eos + 3): flags("<word>", single_word=True, normalized=False, special=True),
    }
    strings = named(str, EOS)
    return {
        "nothing but vocabulary and merges": {},
        "old configuration": {
            "tokenizer_config.json": old_config,
            "special_tokens_map.json": named(flags, EOS),
        },
        "the two files disagree about the pad token": {
            "tokenizer_config.json": old_config,
            "special_tokens_map.json": named(flags, "!"),
        },
        "configuration alone": {"tokenizer_config.json": {**old_config, "pad_token": "!"}},
        "added_tokens_decoder": {
            "tokenizer_config.json": {**common, **strings, "added_tokens_decoder": decoder},
            "special_tokens_map.json": named(flags, flags(EOS, normalized=False)),
        },
        "added_tokens_decoder with exclamation mark": {
            "tokenizer_config.json": {
                **common, **strings, "pad_token": "!", "added_tokens_decoder": exclamation,
            },
            "special_tokens_map.json": named(flags, "!"),
        },
        "plain strings": {
            "tokenizer_config.json": {
                **common, **strings, "added_tokens_decoder": decoder,
                "additional_special_tokens": [], "tokenizer_file": None,
            },
            "special_tokens_map.json": strings,
        },
        "special tokens map alone": {"special_tokens_map.json": named(flags, EOS)},
        "added tokens with flags": {
            "tokenizer_config.json": {**common, **strings, "added_tokens_decoder": added},
        },
        "added_tokens.json": {
            "tokenizer_config.json": old_config,
            "special_tokens_map.json": named(flags, EOS),
            "added_tokens.json": {"<cat-toy>": eos + 1, "<Fancy>": eos + 2},
        },
        "short rows": {
            "tokenizer_config.json": {**old_config, "model_max_length": 12},
            "special_tokens_map.json": named(flags, "!"),
        },
    }  # fmt: skip


def write_folder(folder: Path, tokens: list[str], merges: list[list[str]], files: dict) -> None:
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *[" ".join(merge) for merge in merges], ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def answers(folder: Path, texts: list[str]) -> dict:
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    unlimited = tokenizer.model_max_length > 1e20
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=16)
    return {
        "special": {
            "pad": tokenizer.pad_token_id,
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token_id,
            "unk": tokenizer.unk_token_id,
        },
        "size": len(tokenizer),
        "modelMaxLength": None if unlimited else tokenizer.model_max_length,
        "ids": ids,
        "decoded": [tokenizer.decode(row) for row in ids],
        "decodedWithoutSpecial": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
        "rows": {"inputIds": rows["input_ids"], "attentionMask": rows["attention_mask"]},
    }


def main() -> None:
    tokens, merges = train()
    texts = [*HAND_WRITTEN, *random_texts(114)]
    interesting = [i for i, text in enumerate(texts) if "<" in text or "!" in text][:12]
    assert any("<cat-toy>" in texts[i] for i in interesting)
    golden = {
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "tokens": tokens,
        "merges": [" ".join(merge) for merge in merges],
        "texts": texts,
        "layouts": [],
    }
    with tempfile.TemporaryDirectory() as name:
        for n, (title, files) in enumerate(layouts(len(tokens) - 2, len(tokens) - 1).items()):
            folder = Path(name) / str(n)
            folder.mkdir()
            write_folder(folder, tokens, merges, files)
            chosen = list(range(len(texts))) if n == 0 else interesting
            golden["layouts"].append(
                {"title": title, "files": files, "texts": chosen}
                | answers(folder, [texts[i] for i in chosen])
            )
        # The one-file form as transformers writes it; the test puts vocabulary and merges in.
        saved = Path(name) / "saved"
        CLIPTokenizer.from_pretrained(Path(name) / "2").save_pretrained(saved)
        files = {path.name: json.loads(path.read_text("utf-8")) for path in sorted(saved.iterdir())}
        assert set(files) == {"tokenizer.json", "tokenizer_config.json"}, files.keys()
        files["tokenizer.json"]["model"] |= {"vocab": None, "merges": None}
        golden["layouts"].append(
            {"title": "one file", "files": files, "texts": interesting}
            | answers(saved, [texts[i] for i in interesting])
        )
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":"))
    text = text.replace('],"', '],\n"').replace(',{"title"', ',\n{"title"')
    Path(__file__).with_name("tokenizer.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
