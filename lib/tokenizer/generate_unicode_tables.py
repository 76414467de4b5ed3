"""Writes unicode-tables.ts: what the `tokenizers` library believes about each code point.

Its regular expressions, its lowercase and its normal form come from three Rust crates with three
versions of Unicode, none of which is the version of the Node that runs us. So every code point is
asked, and the answers are stored as ranges.

    python lib/tokenizer/generate_unicode_tables.py        # rewrites the file beside this script

Needs the packages of scripts/python/requirements.txt (tokenizers comes with transformers).
"""

from pathlib import Path
from unicodedata import decomposition, unidata_version

import tokenizers
from tokenizers import Regex, normalizers

SURROGATES = range(0xD800, 0xE000)
CODE_POINTS = [c for c in range(0x110000) if c not in SURROGATES]
# U+0345 has the highest combining class that occurs, U+0334 the lowest: between them they show
# whether a code point takes part in canonical ordering.
HIGHEST_CLASS, LOWEST_CLASS = "\u0345", "\u0334"
HANGUL_LEADING = set(range(0x1100, 0x1113))
HANGUL_SYLLABLES = set(range(0xAC00, 0xD7A4))
HANGUL_VOWELS_AND_TRAILING = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))

nfd = normalizers.NFD().normalize_str
nfc = normalizers.NFC().normalize_str
lowercase = normalizers.Lowercase().normalize_str


def matches(pattern: str) -> set[int]:
    erase = normalizers.Replace(Regex(pattern), "").normalize_str
    return {c for c in CODE_POINTS if erase(chr(c)) == ""}


def is_reordered(character: str) -> bool:
    before, after = character + LOWEST_CLASS, HIGHEST_CLASS + character
    return nfc(before) != before or nfc(after) != after


def composition() -> tuple[set[int], set[int]]:
    """Code points that can start a composition, and those that normalisation can touch.

    What has a decomposition can start one too: U+1F80 ends in a mark that later marks go before.
    """
    starters = HANGUL_LEADING | HANGUL_SYLLABLES
    followers = set(HANGUL_VOWELS_AND_TRAILING)
    for c in CODE_POINTS:
        if nfc(chr(c)) != chr(c) or is_reordered(chr(c)):
            followers.add(c)
        if nfd(chr(c)) != chr(c):
            starters.add(c)
        parts = decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if len(nfc(chr(first) + chr(second))) == 1:
                starters.add(first)
                followers.add(second)
    return starters, followers


def ranges(members: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for c in sorted(members):
        if found and found[-1][1] == c - 1:
            found[-1] = (found[-1][0], c)
        else:
            found.append((c, c))
    return found


def base36(value: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    if value < 0:
        return "-" + base36(-value)
    return digits[value] if value < 36 else base36(value // 36) + digits[value % 36]


def encode_ranges(members: set[int]) -> str:
    """Gap since the last range's end and length, alternating."""
    numbers, end = [], 0
    for first, last in ranges(members):
        numbers += [first - end, last - first + 1]
        end = last + 1
    return " ".join(map(base36, numbers))


def encode_lowercase() -> tuple[str, dict[int, str]]:
    """Runs of (gap since the last code point, count, step, distance to the lowercase letter)."""
    single, special = {}, {}
    for c in CODE_POINTS:
        lower = lowercase(chr(c))
        if len(lower) > 1:
            special[c] = lower
        elif lower != chr(c):
            single[c] = ord(lower)
    runs: list[list[int]] = []
    for c, lower in single.items():
        if runs:
            first, count, step, distance = runs[-1]
            last = first + (count - 1) * step
            if distance == lower - c and (c - last == step or (count == 1 and c - last <= 2)):
                runs[-1] = [first, count + 1, c - last, distance]
                continue
        runs.append([c, 1, 1, lower - c])
    numbers, end = [], 0
    for first, count, step, distance in runs:
        numbers += [first - end, count, step, distance]
        end = first + (count - 1) * step
    return " ".join(map(base36, numbers)), special


def constant(name: str, text: str) -> str:
    """As the formatter writes it: on one line where that is short enough."""
    whole = f"export const {name} = '{text}';"
    if len(whole) <= 100:
        return whole
    lines = [text[i : i + 92] for i in range(0, len(text), 92)]
    return f"export const {name} =\n" + " +\n".join(f"  '{line}'" for line in lines) + ";"


def main() -> None:
    letters, numbers, spaces = matches(r"[\p{L}]"), matches(r"[\p{N}]"), matches(r"\s")
    others = matches(r"[^\s\p{L}\p{N}]")
    assert len(letters) + len(numbers) + len(spaces) + len(others) == len(CODE_POINTS)
    starters, followers = composition()
    runs, special = encode_lowercase()
    assert special == {0x130: "i\u0307"}, special  # unicode.ts knows this one by heart
    constants = {
        "letters": ("Code points that \\\\p{L} matches.", encode_ranges(letters)),
        "numbers": ("Code points that \\\\p{N} matches.", encode_ranges(numbers)),
        "spaces": ("Code points that \\\\s matches.", encode_ranges(spaces)),
        "starters": ("First code points of canonical compositions.", encode_ranges(starters)),
        "followers": (
            "Code points that NFC replaces, reorders or joins to the one before.",
            encode_ranges(followers),
        ),
        "lowercaseRuns": (
            "Lowercase pairs: gap, count, step, distance; U+0130 is not in it.",
            runs,
        ),
    }
    text = (
        "// Made by generate_unicode_tables.py: do not edit.\n"
        f"// tokenizers {tokenizers.__version__}; compositions were looked for in Unicode "
        f"{unidata_version}.\n"
        "// Ranges are pairs (gap since the end of the last range, length) in base 36.\n"
    )
    for name, (comment, value) in constants.items():
        comment = comment.replace("\\\\", "\\")
        text += f"\n/** {comment} */\n{constant(name, value)}\n"
    Path(__file__).with_name("unicode-tables.ts").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
