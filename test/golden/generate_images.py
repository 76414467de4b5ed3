"""Writes images.json: small image files of many kinds and the RGB bytes that Pillow reads in them.

    python test/golden/generate_images.py

Transparent pictures are expected on white, laid there by Pillow's `paste`; everything else as
`exif_transpose` and `convert("RGB")` give it, which is what diffusers' `load_image` does.
Needs the packages of scripts/python/requirements.txt.
"""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageCms, ImageOps

SIZE = (11, 7)


def channel(index: int) -> Image.Image:
    """A gradient with a little structure, different for each channel."""
    width, height = SIZE
    values = [
        (x * 23 + y * (9 + 7 * index) + (x * y * (3 + index)) % 61) % 256
        for y in range(height)
        for x in range(width)
    ]
    image = Image.new("L", SIZE)
    image.putdata(values)
    return image


def colors(mode: str) -> Image.Image:
    return Image.merge(mode, [channel(i) for i in range(len(mode))])


def png(width: int, height: int, depth: int, color_type: int, rows: list[bytes], *extra) -> bytes:
    """A PNG of a kind that Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = chunk(b"IHDR", header) + b"".join(chunk(*e) for e in extra)
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def wide_rows(channels: int) -> list[bytes]:
    width, height = SIZE
    return [
        b"".join(
            struct.pack(">H", (x * 5851 + y * 9001 + c * 20011) % 65536)
            for x in range(width)
            for c in range(channels)
        )
        for y in range(height)
    ]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(colors("RGB"), "JPEG", quality=95, exif=exif)


def palette(transparent: bool) -> bytes:
    image = colors("RGB").quantize(16)
    options = {"transparency": bytes([0, 128, 255, 64] + [255] * 12)} if transparent else {}
    return saved(image, "PNG", **options)


def animation(kind: str) -> bytes:
    frames = [colors("RGB"), ImageOps.invert(colors("RGB"))]
    if kind == "GIF":
        frames = [frame.quantize(8, dither=Image.Dither.NONE) for frame in frames]
    options = {"lossless": True} if kind == "WEBP" else {}
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def files() -> dict[str, bytes]:
    width, height = SIZE
    gray_transparent = (b"tRNS", struct.pack(">H", 23))
    color_transparent = (b"tRNS", struct.pack(">HHH", 0, 0, 0))
    rows8 = [bytes((x * 23 + y) % 256 for x in range(width)) for y in range(height)]
    rgb_rows = [colors("RGB").crop((0, y, width, y + 1)).tobytes() for y in range(height)]
    bits = [bytes([0b10110100, 0b11000000]) for _ in range(height)]
    pairs = [bytes([0b00011011, 0b11100100, 0b01101100]) for _ in range(height)]
    made = {
        "rgb.png": saved(colors("RGB"), "PNG"),
        "rgba.png": saved(colors("RGBA"), "PNG"),
        "grey.png": saved(channel(0), "PNG"),
        "grey-alpha.png": saved(Image.merge("LA", [channel(0), channel(1)]), "PNG"),
        "grey-1-bit.png": png(width, height, 1, 0, bits),
        "grey-2-bit.png": png(width, height, 2, 0, pairs),
        "grey-16-bit.png": png(width, height, 16, 0, wide_rows(1)),
        "grey-transparent.png": png(width, height, 8, 0, rows8, gray_transparent),
        "rgb-16-bit.png": png(width, height, 16, 2, wide_rows(3)),
        "rgba-16-bit.png": png(width, height, 16, 6, wide_rows(4)),
        "rgb-transparent.png": png(width, height, 8, 2, rgb_rows, color_transparent),
        "palette.png": palette(False),
        "palette-transparent.png": palette(True),
        "rgb-profile.png": saved(colors("RGB"), "PNG", icc_profile=swapped_profile()),
        "rgb.jpg": saved(colors("RGB"), "JPEG", quality=90),
        "rgb-444.jpg": saved(colors("RGB"), "JPEG", quality=90, subsampling=0),
        "progressive.jpg": saved(colors("RGB"), "JPEG", quality=90, progressive=True),
        "grey.jpg": saved(channel(0), "JPEG", quality=90),
        "cmyk.jpg": saved(colors("CMYK"), "JPEG", quality=95),
        "rgb.webp": saved(colors("RGB"), "WEBP", quality=90),
        "lossless.webp": saved(colors("RGB"), "WEBP", lossless=True),
        "rgba.webp": saved(colors("RGBA"), "WEBP", lossless=True, exact=True),
        "rgb.tiff": saved(colors("RGB"), "TIFF"),
        "cmyk.tiff": saved(colors("CMYK"), "TIFF"),
        "grey.tiff": saved(channel(0), "TIFF"),
        "one-frame.gif": saved(colors("RGB").quantize(8, dither=Image.Dither.NONE), "GIF"),
        "animation.gif": animation("GIF"),
        "animation.webp": animation("WEBP"),
        "animation.png": animation("PNG"),
    }
    made |= {f"orientation-{n}.jpg": oriented(n) for n in range(1, 9)}
    return made


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries changed places: hard to overlook."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The date of making, which would make every run's file another one.
    data[24:36] = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    red, green = data.find(b"rXYZ"), data.find(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def expected(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        # Pillow cuts everything above 255 off, which turns such pictures white; the high byte is
        # what they look like (a departure on purpose).
        values = [value >> 8 for value in image.get_flattened_data()]
        image = Image.new("L", image.size)
        image.putdata(values)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")


def main() -> None:
    golden = {"pillow": PIL.__version__, "images": []}
    for name, data in files().items():
        image = expected(data)
        golden["images"].append(
            {
                "name": name,
                "file": base64.b64encode(data).decode("ascii"),
                "size": image.size,
                "rgb": base64.b64encode(image.tobytes()).decode("ascii"),
            }
        )
    text = json.dumps(golden, indent=1)
    Path(__file__).with_name("images.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
