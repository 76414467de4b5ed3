"""Turn the rasterised pictures into one training file.

    python prepare.py --raw DIR --out data.npz

The file holds every picture (uint8 RGBA), then the hue-rotated copies of the
demo concepts, and for each picture of the demo set what a caption needs: noun,
colour word and style.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from colours import HUES, dominant_colour, recolour
from concepts import concept_nouns, recoloured_nouns

STYLES = ("3d", "flat", "noto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="folder written by rasterise.mjs")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    index = json.loads((arguments.raw / "pictures.json").read_text())
    size, rows = index["size"], index["rows"]
    pictures = np.fromfile(arguments.raw / "pictures.rgba", np.uint8).reshape(len(rows), size, size, 4)

    nouns, recoloured = concept_nouns(), recoloured_nouns()
    demo: list[dict[str, object]] = []
    copies: list[np.ndarray] = []
    found: dict[str, set[str]] = {}
    done: set[tuple[str, str]] = set()
    for position, row in enumerate(rows):
        noun = nouns.get(row["label"])
        if noun is None or row["group"] == 9:
            continue
        found.setdefault(row["label"], set()).add(row["style"])
        picture = pictures[position]
        colour = dominant_colour(picture)
        entry = {"noun": noun, "label": row["label"], "style": row["style"]}
        demo.append({**entry, "picture": position, "colour": colour, "copy": False})
        if noun not in recoloured or (noun, row["style"]) in done:
            continue  # of several emoji with one noun, one is enough to recolour
        done.add((noun, row["style"]))
        for target in HUES:
            turned = recolour(picture, target)
            if target == colour or dominant_colour(turned, 0.3) != target:
                continue  # the copy must really be what its caption says
            demo.append({**entry, "picture": len(rows) + len(copies), "colour": target, "copy": True})
            copies.append(turned)
    missing = {label: sorted(set(STYLES) - found.get(label, set())) for label in nouns}
    missing = {label: styles for label, styles in missing.items() if styles}
    if missing:
        raise ValueError(f"concepts without art: {missing}")

    words = sorted({word for row in rows for word in [row["label"], *row["tags"]]})
    with open(arguments.out, "wb") as file:
        np.savez_compressed(
            file,
            pictures=np.concatenate([pictures, np.stack(copies)]),
            originals=np.int64(len(rows)),
            demo=np.array(json.dumps(demo)),
            words=np.array(json.dumps(words)),
        )
    originals = sum(not entry["copy"] for entry in demo)
    print(f"{len(rows)} pictures; demo set: {originals} originals, {len(copies)} recoloured copies")


if __name__ == "__main__":
    main()
