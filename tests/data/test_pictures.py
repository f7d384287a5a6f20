import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rebuttal.data.pictures import Unreadable, read_picture

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(256, size=(6, 5, 3), dtype=np.uint8)
GREY = RNG.integers(256, size=(6, 5), dtype=np.uint8)
SIXTY_FOUR = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040


def saved(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(raw, channels=3):
    return read_picture(raw, channels, None).pixels.transpose(1, 2, 0)


def refusal(raw):
    with pytest.raises(Unreadable) as caught:
        read_picture(raw, 3, None)
    assert "0x" not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def png(values, bits, kind, *chunks):
    """A PNG of rows of bytes, of colour type `kind`: Pillow writes none of 2 bits, or with `chunks` of others."""
    height, width = values.shape[0], values.shape[1] * 8 // bits // {0: 1, 2: 3, 3: 1, 4: 2}[kind]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    every = [header, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in every
    )


def tiff(values, **tags):
    """A TIFF of one strip with the tags of that name set."""
    numbers = {"photometric": 262, "bits": 258, "width": 256}
    raw = bytearray(saved(Image.fromarray(values), "tiff"))
    start = struct.unpack("<I", raw[4:8])[0]
    for i in range(struct.unpack("<H", raw[start : start + 2])[0]):
        at = start + 2 + 12 * i
        number = struct.unpack("<H", raw[at : at + 2])[0]
        for name, value in tags.items():
            if numbers[name] == number:
                raw[at + 8 : at + 12] = struct.pack("<HH", value, 0)
    return bytes(raw)


def on_white(colour, alpha):
    """The composite, computed with whole numbers."""
    colour, alpha = colour.astype(int), alpha.astype(int)[..., None]
    return (colour * alpha + 255 * (255 - alpha) + 127) // 255


# 16 bits


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_64_grey_values_of_16_bits_stay_64_values(kind, channels):
    raw = saved(Image.fromarray(SIXTY_FOUR) if kind != "ppm" else Image.fromarray(SIXTY_FOUR.astype(np.int32)), kind)
    found = pixels(raw, channels)
    assert np.array_equal(found, np.repeat((SIXTY_FOUR // 256)[..., None], channels, axis=2))
    assert len(np.unique(found)) == 64


def test_grey_of_16_bits_is_the_same_whatever_the_order_of_its_bytes():
    assert np.array_equal(pixels(saved(Image.fromarray(SIXTY_FOUR.astype(">u2")), "tiff")), pixels(tiff(SIXTY_FOUR)))


def test_grey_of_8_bits_that_was_stored_in_16_comes_back():
    for factor in (256, 257):
        assert np.array_equal(pixels(saved(Image.fromarray(GREY.astype(np.uint16) * factor)), 1)[..., 0], GREY)


def test_colour_of_16_bits_is_read_as_grey_is():
    values = np.repeat(SIXTY_FOUR[..., None], 3, axis=2).astype(">u2")
    raw = png(values.reshape(8, 24).view(np.uint8), 16, 2)
    assert np.array_equal(pixels(raw), pixels(saved(Image.fromarray(SIXTY_FOUR))))


def test_a_tiff_whose_white_is_zero_is_inverted():
    assert np.array_equal(pixels(tiff(SIXTY_FOUR, photometric=0), 1)[..., 0], (65535 - SIXTY_FOUR) // 256)


def test_the_range_of_12_bits_is_that_of_12_bits():
    packed = np.array([[0x00, 0x0F, 0xFF], [0x80, 0x01, 0x00]], dtype=np.uint8)  # 0x000, 0xFFF and 0x800, 0x100
    raw = tiff(packed, bits=12, width=2)
    assert pixels(raw, 1)[..., 0].tolist() == [[0, 255], [128, 16]]


def test_grey_values_that_8_bits_cannot_keep_apart_are_noticed():
    found = read_picture(saved(Image.fromarray(SIXTY_FOUR // 16)), 3, None).deep
    assert found.merged and found.darkest == 0 and found.brightest == pytest.approx(4095 / 65535)
    assert not read_picture(saved(Image.fromarray(SIXTY_FOUR)), 3, None).deep.merged


@pytest.mark.parametrize(
    ("raw", "mode"),
    [
        (saved(Image.fromarray(SIXTY_FOUR.astype(np.float32)), "tiff"), "F"),
        (saved(Image.fromarray(SIXTY_FOUR.astype(np.float32) / 65535), "tiff"), "F"),
        (b"Pf\n2 2\n-1.0\n" + np.ones(4, dtype="<f4").tobytes(), "F"),
        (saved(Image.fromarray(SIXTY_FOUR.astype(np.int32)), "tiff"), "I"),
        (saved(Image.fromarray(SIXTY_FOUR), "tiff", tiffinfo={339: 2}), "I"),  # signed,
    ],
)
def test_modes_without_a_known_white_are_refused(raw, mode):
    assert refusal(raw).startswith(f"is of Pillow's mode {mode}, for which no value is known to be white; allowed: ")


# Transparency


ALPHA = np.where(np.arange(30).reshape(6, 5) % 3 == 0, 0, np.arange(30).reshape(6, 5) * 8).astype(np.uint8)
RGBA = Image.fromarray(np.dstack([COLOUR, ALPHA]))
LA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_colour_with_alpha_lies_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    found = pixels(saved(RGBA, kind, **options)).astype(int)
    assert np.abs(found - on_white(COLOUR, ALPHA)).max() <= 1
    assert np.all(found[ALPHA == 0] == 255)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_with_alpha_lies_on_white(kind):
    found = pixels(saved(LA, kind), 1).astype(int)
    assert np.abs(found - on_white(GREY[..., None], ALPHA)).max() <= 1


def test_premultiplied_alpha_is_undone_first():
    image = Image.fromarray(np.full((2, 2, 4), (200, 100, 50, 128), dtype=np.uint8))
    raw = saved(image, "tiff")
    assert raw.count(struct.pack("<HHIHH", 338, 3, 1, 2, 0)) == 1  # ExtraSamples: 2 is plain alpha, 1 premultiplied
    raw = raw.replace(struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 338, 3, 1, 1, 0))
    raw = raw.replace(bytes((200, 100, 50, 128)), bytes((100, 50, 25, 128)))
    assert np.abs(pixels(raw).astype(int) - (227, 177, 152)).max() <= 2


SHAPE = np.zeros((8, 8), dtype=np.uint8)
SHAPE[2:6, 3:5] = 1


def palette_image():
    image = Image.fromarray(SHAPE, "L").convert("P")
    image.putpalette([10, 20, 30, 10, 20, 30])
    return image


BLACK = np.dstack([np.zeros((8, 8, 3), dtype=np.uint8), 255 * SHAPE])
IN_ALPHA_ONLY = {
    "RGBA": saved(Image.fromarray(BLACK)),
    "RGBA, WebP": saved(Image.fromarray(BLACK), "webp", lossless=True),
    "LA": saved(Image.fromarray(BLACK).convert("LA")),
    "LA, 16 bits": png(
        np.dstack([np.zeros((8, 8)), 65535.0 * SHAPE]).astype(">u2").reshape(8, 16).view(np.uint8), 16, 4
    ),
    "P, alpha of each colour": saved(palette_image(), transparency=b"\x00\xfe"),
    "P, one transparent colour": saved(palette_image(), transparency=0),
    "P, GIF": saved(palette_image(), "gif", transparency=0, optimize=False),
    "L, transparent grey": saved(Image.fromarray(SHAPE + 55), transparency=55),
    "1, transparent white": saved(Image.fromarray(SHAPE == 0), transparency=255),
    "RGB, transparent colour": saved(Image.fromarray(np.dstack([3 * SHAPE] * 3)), transparency=(0, 0, 0)),
}


@pytest.mark.parametrize("name", IN_ALPHA_ONLY)
def test_a_shape_that_only_transparency_shows_is_seen(name):
    found = pixels(IN_ALPHA_ONLY[name], 1)[..., 0]
    outside, inside = found[SHAPE == 0], found[SHAPE == 1]
    assert np.all(outside == 255) and len(np.unique(inside)) == 1 and inside[0] < 100
    assert read_picture(IN_ALPHA_ONLY[name], 1, None).by_new_rules == (name != "1, transparent white")


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_transparent_grey_of_a_png_is_in_the_bits_of_its_file(bits):
    top = 2**bits - 1
    values = np.array([0, 1, 2, top, 0, 1, 2, top], dtype=np.uint8)
    row = np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :].reshape(1, -1), axis=1)
    expected = [0, 255, 2 * 255 // top, 255] * 2
    assert pixels(png(row, bits, 0, (b"tRNS", struct.pack(">H", 1))), 1)[0, :, 0].tolist() == expected


def test_the_transparent_grey_of_16_bits_is_compared_in_16_bits():
    values = SIXTY_FOUR.copy()
    values[0, :2] = 512, 513
    found = pixels(png(values.astype(">u2").view(np.uint8), 16, 0, (b"tRNS", struct.pack(">H", 513))), 1)[..., 0]
    assert found[0, :3].tolist() == [2, 255, SIXTY_FOUR[0, 2] // 256]


def test_a_transparent_colour_of_16_bits_is_refused():
    values = np.zeros((2, 6), dtype=">u2").view(np.uint8)
    raw = png(values, 16, 2, (b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    assert refusal(raw).startswith("has a transparent colour of 16 bits; allowed: ")


@pytest.mark.parametrize(
    "rgba",
    [
        np.dstack([np.full((8, 8, 3), 255, dtype=np.uint8), 255 * SHAPE]),
        np.dstack([RNG.integers(256, size=(8, 8, 3), dtype=np.uint8), 0 * SHAPE]),
    ],
    ids=["white on nothing", "all transparent"],
)
def test_a_picture_of_which_white_would_leave_nothing_is_refused(rgba):
    assert refusal(saved(Image.fromarray(rgba))).startswith("is of one colour on white")


def test_a_blank_picture_is_blank():
    assert np.all(pixels(saved(Image.fromarray(np.zeros((3, 3, 4), dtype=np.uint8)))) == 255)


# Pictures that were always read rightly


def mode(name):
    if name == "P":
        return Image.fromarray(COLOUR).quantize(7)
    if name == "RGBA":
        return Image.fromarray(np.dstack([COLOUR, np.full((6, 5), 255, dtype=np.uint8)]))
    if name == "LA":
        return Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (5, 6), 255)])
    return Image.fromarray(COLOUR).convert(name)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RGB", "png"),
        ("RGB", "jpeg"),
        ("RGB", "bmp"),
        ("RGB", "webp"),
        ("L", "png"),
        ("L", "jpeg"),
        ("L", "tiff"),
        ("P", "png"),
        ("P", "gif"),
        ("1", "png"),
        ("1", "tiff"),
        ("CMYK", "jpeg"),
        ("CMYK", "tiff"),
        ("YCbCr", "jpeg"),
        ("RGBA", "png"),
        ("LA", "png"),
    ],
)
def test_others_are_as_pillow_converts_them(name, kind, channels):
    raw = saved(mode(name), kind)
    expected = np.asarray(Image.open(io.BytesIO(raw)).convert({1: "L", 3: "RGB"}[channels])).reshape(6, 5, channels)
    assert np.array_equal(pixels(raw, channels), expected)
    assert not read_picture(raw, channels, None).by_new_rules


def test_grey_gives_three_equal_channels():
    assert np.array_equal(pixels(saved(Image.fromarray(GREY))), np.dstack([GREY] * 3))


def test_cmyk_and_lab_have_the_colours_that_they_mean():
    white = Image.new("CMYK", (2, 2), (0, 0, 0, 0))
    cyan = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
    assert pixels(saved(white, "tiff"))[0, 0].tolist() == [255] * 3
    assert pixels(saved(cyan, "jpeg", quality=95))[0, 0].tolist() == pytest.approx([0, 255, 255], abs=3)
    red = Image.new("RGB", (2, 2), (200, 30, 40)).convert("LAB")
    for channels, expected in ((3, [200, 30, 40]), (1, [82])):
        assert pixels(saved(red, "tiff"), channels)[0, 0].tolist() == pytest.approx(expected, abs=3)


# Orientation, frames


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_undone(kind, orientation):
    upright = np.repeat(np.repeat(np.array([[0, 80], [160, 240], [40, 120]], dtype=np.uint8), 8, 0), 8, 1)
    # By the EXIF standard: where the upright picture's row 0 and column 0 are in what is stored.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright[::-1, ::-1].T,
        8: upright.T[:, ::-1],
    }[orientation]
    stored = np.ascontiguousarray(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "jpeg" else {}
    found = read_picture(saved(Image.fromarray(stored), kind, exif=exif, **options), 1, None)
    assert np.abs(found.pixels[0].astype(int) - upright).max() <= 4
    assert found.by_new_rules == (orientation > 1 and kind != "tiff")


def test_damaged_metadata_spoils_no_picture():
    raw = saved(Image.fromarray(COLOUR), "png", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff")
    assert np.array_equal(pixels(raw), COLOUR)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff", "mpo"])
def test_of_several_frames_the_first_is_the_picture(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "webp" else {}
    raw = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(raw)).n_frames == 3
    assert np.abs(pixels(raw).astype(int) - (255, 0, 0)).max() <= 2


# Damaged files

FORMS = {
    "png": saved(Image.fromarray(COLOUR)),
    "png of 16 bits": saved(Image.fromarray(SIXTY_FOUR)),
    "png with alpha": saved(RGBA),
    "jpeg": saved(Image.fromarray(COLOUR), "jpeg"),
    "progressive jpeg": saved(Image.fromarray(COLOUR), "jpeg", progressive=True),
    "gif": saved(Image.fromarray(COLOUR).quantize(30), "gif"),
    "bmp": saved(Image.fromarray(COLOUR), "bmp"),
    "ppm": saved(Image.fromarray(COLOUR), "ppm"),
    "tiff": saved(Image.fromarray(COLOUR), "tiff"),
    "tiff, compressed": saved(Image.fromarray(COLOUR), "tiff", compression="tiff_lzw"),
    "webp": saved(Image.fromarray(COLOUR), "webp", lossless=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_off_is_whole_or_refused(form):
    raw = FORMS[form]
    whole = pixels(raw)
    for length in range(len(raw)):
        try:
            assert np.array_equal(pixels(raw[:length]), whole), length
        except Unreadable as error:
            assert str(error).startswith("is not a readable image (") and "0x" not in str(error)
    assert refusal(raw[: len(raw) // 2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_damaged_bytes_give_pixels_or_one_line(form):
    chance = random.Random(form)
    for _ in range(100):
        raw = bytearray(FORMS[form])
        for _ in range(chance.choice([1, 1, 3, 10])):
            raw[chance.randrange(min(len(raw), 200))] = chance.randrange(256)
        try:
            assert read_picture(bytes(raw), 3, (4, 4)).pixels.shape == (3, 4, 4)
        except Unreadable as error:
            assert "0x" not in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not a readable image (it is empty)"),
        (b"version https://git-lfs", "is not a readable image (its content is no image of a known kind)"),
        (b"P6 0 0 255\n", "is not a readable image (its content is no image of a known kind)"),
        (
            png(np.zeros((0, 9), dtype=np.uint8), 8, 2),
            "is not a readable image (its content is no image of a known kind)",
        ),
    ],
)
def test_what_is_no_picture(raw, reason):
    with pytest.raises(Unreadable) as caught:
        read_picture(raw, 3, None)
    assert str(caught.value) == reason


def test_a_file_that_would_fill_the_memory_is_refused():
    header = png(np.zeros((1, 3), dtype=np.uint8), 8, 2)
    body = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = header[:16] + body + struct.pack(">I", zlib.crc32(b"IHDR" + body)) + header[33:]
    assert "900000000 pixels" in refusal(bomb)
