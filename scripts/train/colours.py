"""Colour words for pictures: which colour a drawing mostly is, and hue rotation."""

from __future__ import annotations

import numpy as np

HUES = {"red": 0.0, "orange": 28.0, "yellow": 50.0, "green": 125.0, "blue": 215.0, "purple": 272.0, "pink": 325.0}


def to_hsv(rgb: np.ndarray) -> np.ndarray:
    """RGB in 0..1 to hue in degrees, saturation and value in 0..1."""
    high, low = rgb.max(-1), rgb.min(-1)
    spread = high - low
    safe = np.where(spread > 0, spread, 1.0)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sextant = np.select(
        [high == red, high == green],
        [((green - blue) / safe) % 6.0, (blue - red) / safe + 2.0],
        (red - green) / safe + 4.0,
    )
    hue = np.where(spread > 0, sextant * 60.0, 0.0)
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1.0), 0.0)
    return np.stack([hue, saturation, high], -1)


def to_rgb(hsv: np.ndarray) -> np.ndarray:
    """The inverse of to_hsv."""
    hue, saturation, value = hsv[..., 0] / 60.0, hsv[..., 1], hsv[..., 2]
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + hue) % 6.0
        channels.append(value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))
    return np.stack(channels, -1)


def classify(hsv: np.ndarray) -> np.ndarray:
    """A colour word for every pixel."""
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    brownish = (hue >= 8) & (hue < 48) & (value < 0.72) & (saturation > 0.25)
    return np.select(
        [
            value < 0.28,
            (saturation < 0.16) & (value > 0.82),
            saturation < 0.2,
            brownish,
            (hue < 15) | (hue >= 346),
            hue < 40,
            hue < 66,
            hue < 165,
            hue < 245,
            hue < 298,
        ],
        ["black", "white", "grey", "brown", "red", "orange", "yellow", "green", "blue", "purple"],
        "pink",
    )


def dominant_colour(picture: np.ndarray, share: float = 0.6) -> str | None:
    """The colour word that covers at least `share` of an RGBA picture's opaque part."""
    opaque = picture[..., 3] > 200
    if not opaque.any():
        return None
    words, counts = np.unique(classify(to_hsv(picture[opaque][:, :3] / 255.0)), return_counts=True)
    best = int(counts.argmax())
    return str(words[best]) if counts[best] >= share * counts.sum() else None


def recolour(picture: np.ndarray, target: str) -> np.ndarray:
    """Turn the main hue of an RGBA picture to the hue of the word `target`."""
    hsv = to_hsv(picture[..., :3] / 255.0)
    weight = hsv[..., 1] * hsv[..., 2] * (picture[..., 3] / 255.0)
    bins = np.bincount((hsv[..., 0] // 10).astype(int).ravel() % 36, weight.ravel(), 36)
    smooth = bins + np.roll(bins, 1) + np.roll(bins, -1)
    main = int(smooth.argmax()) * 10.0 + 5.0
    distance = (hsv[..., 0] - main + 180.0) % 360.0 - 180.0
    near = np.clip((55.0 - np.abs(distance)) / 15.0, 0.0, 1.0)
    # Keep a third of the spread around the main hue, so that shading survives.
    turned = hsv.copy()
    turned[..., 0] = (HUES[target] + distance / 3.0) % 360.0
    if target in ("yellow", "orange", "pink"):
        turned[..., 2] = hsv[..., 2] ** 0.6
    mixed = near[..., None] * to_rgb(turned) + (1.0 - near[..., None]) * to_rgb(hsv)
    return np.concatenate([np.rint(mixed * 255.0).astype(np.uint8), picture[..., 3:]], -1)
