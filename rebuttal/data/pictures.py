"""Image files as 8-bit pixels: each mode of Pillow's is read by a stated rule or refused."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

COLOURS = {1: "L", 3: "RGB"}  # Pillow's modes, by channels

# 32-bit integers and floats are none of them: files do not say which value is white.
_EIGHT_BIT = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}
_SIXTEEN_BIT_AS_I = {"PNG", "PPM"}  # formats whose mode I holds 16 bits

_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """What is wrong with an image file, to follow its name."""


@dataclass(frozen=True)
class Deep:
    """The grey values of a picture of more than 8 bits, as parts of its range; `merged`: in 8 bits some are equal."""

    darkest: float
    brightest: float
    merged: bool


@dataclass(frozen=True)
class Picture:
    """`pixels` (C, H, W) uint8. `by_new_rules`: converting it as Pillow does, which is how all were read at first,
    gives other pixels, or none."""

    pixels: np.ndarray
    by_new_rules: bool = False
    deep: Deep | None = None


def read_picture(raw: bytes, channels: int, size: tuple[int, ...] | None) -> Picture:
    """Decode the content of a file, resized to `size` (height, width) if that is given. Raises `Unreadable`."""
    if not raw:
        raise Unreadable("is not a readable image (it is empty)")
    try:
        return _read(raw, COLOURS[channels], size)
    except (MemoryError, Unreadable):
        raise
    except UnidentifiedImageError:  # its message has the address of an object
        raise Unreadable("is not a readable image (its content is no image of a known kind)") from None
    except Exception as error:  # decoders raise whatever damaged bytes make them stumble over
        raise Unreadable(f"is not a readable image ({error or type(error).__name__})") from None


def _read(raw: bytes, colours: str, size: tuple[int, ...] | None) -> Picture:
    image = Image.open(io.BytesIO(raw))
    image.load()
    flat, deep = _flat(image, raw, colours)
    turn = _TURNS.get(_orientation(image) or 1)
    pixels = _pixels(flat if turn is None else flat.transpose(turn), size)
    plain = image.mode in _EIGHT_BIT - {"LAB"} and "transparency" not in image.info and turn is None
    return Picture(pixels, not plain and not _as_at_first(image, colours, size, pixels), deep)


def _as_at_first(image: Image.Image, colours: str, size: tuple[int, ...] | None, pixels: np.ndarray) -> bool:
    try:
        return np.array_equal(_pixels(_opaque(image).convert(colours), size), pixels)
    except (OSError, ValueError):
        return False


def _pixels(image: Image.Image, size: tuple[int, ...] | None) -> np.ndarray:
    if size is not None:
        height, width = size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image, dtype=np.uint8)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata says nothing; the picture itself is whole
        return None


def _flat(image: Image.Image, raw: bytes, colours: str) -> tuple[Image.Image, Deep | None]:
    """Return the picture without transparency, in mode `colours`."""
    deep = None
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format in _SIXTEEN_BIT_AS_I):
        image, deep = _in_eight_bits(image)
    elif image.mode not in _EIGHT_BIT | _WITH_ALPHA:
        raise Unreadable(
            f"is of Pillow's mode {image.mode}, for which no value is known to be white; allowed: 8 bits a channel, or "
            "16 bits of grey"
        )
    if image.mode in _WITH_ALPHA or "transparency" in image.info or _palette_has_alpha(image):
        rgba = _rgba(image, raw)
        if rgba.getchannel("A").getextrema() != (255, 255):
            return _on_white(rgba).convert(colours), deep
    image = _opaque(image)
    return (image.convert("RGB") if image.mode == "LAB" else image).convert(colours), deep


def _opaque(image: Image.Image) -> Image.Image:
    """Return the picture without its transparent colours: Pillow warns when it drops them."""
    if "transparency" not in image.info:
        return image
    image = image.copy()
    del image.info["transparency"]
    return image


def _palette_has_alpha(image: Image.Image) -> bool:
    return image.palette is not None and image.palette.mode == "RGBA"


def _in_eight_bits(image: Image.Image) -> tuple[Image.Image, Deep]:
    """Return grey of more bits by its 8 highest bits, which is how Pillow reads colour of 16 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    values = np.asarray(image).astype(np.int64)
    transparent = values == image.info.get("transparency")
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 2**bits - 1 - values
    grey = (values >> (bits - 8)).astype(np.uint8)
    merged = len(np.unique(grey)) < len(np.unique(values))
    deep = Deep(values.min() / (2**bits - 1), values.max() / (2**bits - 1), merged)
    eight = Image.fromarray(grey)
    if transparent.any():
        eight = Image.merge("LA", (eight, Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8))))
    return eight, deep


def _rgba(image: Image.Image, raw: bytes) -> Image.Image:
    """Return the picture in mode RGBA; `raw` is its file, because Pillow gives the transparent colour of a PNG in the
    file's bits, but pixels in 8."""
    transparent = image.info.get("transparency")
    if image.format == "PNG" and transparent is not None and image.mode in ("L", "RGB"):
        bits = raw[24]
        if bits == 16:
            raise Unreadable("has a transparent colour of 16 bits; allowed: one of 8 bits, or an alpha channel")
        image = image.copy()
        image.info["transparency"] = transparent * (255 // (2**bits - 1)) if image.mode == "L" else transparent
    return image.convert("RGBA")


def _on_white(rgba: Image.Image) -> Image.Image:
    """Return the picture on white. Raises `Unreadable` if nothing would be left of it."""
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if len(flat.getcolors(1) or ()) == 1 and rgba.getcolors(1) is None:
        raise Unreadable(
            "is of one colour on white, its shapes being only in its alpha channel or transparent; allowed: "
            "pictures that can be seen on white"
        )
    return flat
