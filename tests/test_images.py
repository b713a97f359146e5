"""Every kind of image becomes the RGB picture that a viewer shows, and nothing else gets through."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pvu.errors import BadImageError
from pvu.images import (
    MAX_PIXELS,
    THUMBNAIL_SIDE,
    Preprocessing,
    decode_bytes,
    decode_file,
    open_rgb,
    thumbnail_bytes,
    to_rgb,
)
from tests.fakes import picture

SMALL = Preprocessing(size=32)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image, size = open_rgb(data)
    assert image.mode == "RGB"
    assert image.size == size
    return np.asarray(image).astype(int)


def mean_difference(a: np.ndarray, b: Image.Image | np.ndarray) -> float:
    return float(np.abs(np.asarray(a, int) - np.asarray(b, int)).mean())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("DIB", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, object]) -> None:
    original = picture(1)
    np.testing.assert_array_equal(pixels(encoded(original, kind, **options)), np.asarray(original))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 98}), ("WEBP", {"quality": 98})])
def test_lossy_formats_look_the_same(kind: str, options: dict[str, object]) -> None:
    original = picture(1).resize((96, 80), Image.Resampling.BICUBIC)
    assert mean_difference(pixels(encoded(original, kind, **options)), original) < 6


def test_gif_shows_its_first_frame() -> None:
    first, second = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels(data), np.asarray(first))


def test_multipage_tiff_shows_its_first_page() -> None:
    first, second = picture(1), picture(2)
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels(data), np.asarray(first))


def test_mpo_of_a_phone_opens_as_its_first_picture() -> None:
    first, second = picture(1, (64, 48)), picture(2, (64, 48))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=98)
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture(3, (40, 24)), kind, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(pixels(data), np.asarray(expected))
    assert open_rgb(data)[1] == ((24, 40) if orientation >= 5 else (40, 24))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_full_size_of_a_jpeg_decoded_smaller(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(3, (640, 400)), "JPEG", exif=exif)
    image, size = open_rgb(data, at_least=100)
    assert size == ((400, 640) if orientation >= 5 else (640, 400))
    assert image.size == (size[0] // 4, size[1] // 4)
    full = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).resize(image.size, Image.Resampling.BOX)
    assert mean_difference(image, full) < 4


@pytest.mark.parametrize("exif", [b"Exif\0\0no exif at all", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_picture(exif: bytes) -> None:
    original = picture(1)
    np.testing.assert_array_equal(pixels(encoded(original, "JPEG", exif=exif)), pixels(encoded(original, "JPEG")))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert open_rgb(encoded(picture(1, (40, 24)), "JPEG", exif=exif))[1] == (40, 24)


def test_grey_and_black_and_white() -> None:
    grey = picture(1).convert("L")
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels(encoded(grey, "PNG")), expected)
    bitmap = grey.convert("1")
    np.testing.assert_array_equal(pixels(encoded(bitmap, "PNG")), np.asarray(bitmap)[:, :, None] * [255, 255, 255])


def test_palette() -> None:
    image = picture(1).quantize(32)
    assert image.mode == "P"
    np.testing.assert_array_equal(pixels(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_palette_with_a_transparent_colour_shows_white() -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([200, 10, 20, 30, 40, 50])
    image.putpixel((1, 1), 1)
    got = pixels(encoded(image, "PNG", transparency=0))
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[1, 1].tolist() == [30, 40, 50]


def test_palette_with_an_opacity_for_each_colour_is_blended() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 100, 0, 0, 0, 0, 200])
    image.putdata([0, 1, 2])
    got = pixels(encoded(image, "PNG", transparency=bytes([0, 128, 255])))
    expected = [[255, 255, 255], [round(255 - 155 * 128 / 255), 127, 127], [0, 0, 200]]
    assert np.abs(got[0] - expected).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    rng = np.random.default_rng(0)
    channels = rng.integers(0, 256, (6, 5, len(mode)), np.uint8)
    got = pixels(encoded(Image.fromarray(channels, mode), "PNG"))
    colour, alpha = channels[..., :-1].astype(float), channels[..., -1:].astype(float) / 255
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), got.shape)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (10, 20, 30)), ("L", 77)])
def test_one_colour_marked_transparent_shows_white(mode: str, colour: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (3, 1), colour)
    image.putpixel((2, 0), 0 if mode == "L" else (0, 0, 0))
    got = pixels(encoded(image, "PNG", transparency=colour))
    assert got[0].tolist() == [[255, 255, 255], [255, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    image = picture(1, (64, 64)).resize((16, 16)).resize((64, 64), Image.Resampling.BICUBIC).convert("CMYK")
    got = pixels(encoded(image, kind, **({"quality": 98} if kind == "JPEG" else {})))
    assert mean_difference(got, image.convert("RGB")) < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_brightness(kind: str) -> None:
    values = np.linspace(0, 65535, 30 * 20).astype(np.uint16).reshape(20, 30)
    got = pixels(encoded(Image.fromarray(values), kind))
    assert np.abs(got[..., 0] - values / 257).max() <= 0.51
    assert (got[..., 0] == got[..., 2]).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_dark_sixteen_bit_tiff_stays_dark(order: str) -> None:
    values = np.array([[0, 40], [120, 255]])
    got = pixels(grey_tiff(values.astype(f"{order}u2"), bits=16, sample_format=1))
    assert got[..., 0].tolist() == [[0, 0], [0, 1]]


def test_sixteen_bit_rgb_png() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(">u2")
    got = pixels(png(7, 5, depth=16, colour_type=2, rows=[row.tobytes() for row in values]))
    assert np.abs(got - values.astype(float) / 257).max() <= 1


def grey_tiff(values: np.ndarray, *, bits: int, sample_format: int) -> bytes:
    """An uncompressed grey TIFF in the byte order of ``values``."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    height, width = values.shape
    strip = 8 + 2 + 10 * 12 + 4
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1),
        (273, 4, strip), (277, 3, 1), (278, 4, height), (279, 4, values.nbytes), (339, 3, sample_format),
    ]  # fmt: skip
    data = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        field = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        data += struct.pack(f"{order}HHI", tag, kind, 1) + field
    return data + bytes(4) + values.tobytes()


def test_float_tiff_from_zero_to_one() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    got = pixels(encoded(Image.fromarray(values), "TIFF"))
    assert np.abs(got[..., 0] - values * 255).max() <= 0.51


def test_float_tiff_of_any_range_is_stretched_and_survives_nan() -> None:
    values = np.array([[-500.0, 0.0], [np.nan, 1500.0]], np.float32)
    got = pixels(encoded(Image.fromarray(values), "TIFF"))[..., 0]
    assert got[0, 0] == 0
    assert got[1, 1] == 255
    assert got[0, 1] == got[1, 0] == round(500 / 2000 * 255)


def test_constant_float_and_wide_integers_do_not_divide_by_zero() -> None:
    assert pixels(encoded(Image.fromarray(np.full((2, 2), 700.0, np.float32)), "TIFF")).shape == (2, 2, 3)
    wide = np.array([[0, 100_000], [50_000, 100_000]], np.int32)
    assert pixels(encoded(Image.fromarray(wide), "TIFF"))[..., 0].tolist() == [[0, 255], [128, 255]]


def test_lab_tiff_is_shown_or_named() -> None:
    """Lab has no alpha, although its name has an A."""
    lab = Image.new("LAB", (4, 4), (128, 128, 128))
    try:
        got = pixels(encoded(lab, "TIFF"))
    except BadImageError as error:
        assert "damaged" not in str(error)  # noqa: PT017
    else:
        assert np.ptp(got[0, 0]) <= 4


def test_a_large_jpeg_is_decoded_smaller_but_never_below_what_is_needed() -> None:
    data = encoded(picture(5, (1600, 1200)), "JPEG", quality=95)
    image, size = open_rgb(data, at_least=448)
    assert size == (1600, 1200)
    assert image.size == (800, 600)
    assert open_rgb(data, at_least=601)[0].size == (1600, 1200)
    assert open_rgb(data)[0].size == (1600, 1200)


def test_draft_gives_nearly_the_pixels_of_a_full_decode() -> None:
    smooth = picture(6, (12, 9)).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    preprocessing = Preprocessing(size=64)
    decoded = decode_bytes(data, preprocessing)
    assert (decoded.width, decoded.height) == (1600, 1200)
    full = preprocessing.apply(open_rgb(data)[0])
    assert mean_difference(decoded.pixels, full) < 2


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (257, 391), (64, 64), (50, 40), (33, 700)])
def test_preprocessing_equals_resize_then_crop(size: tuple[int, int], crop_pct: float, interpolation: str) -> None:
    preprocessing = Preprocessing(size=64, crop_pct=crop_pct, interpolation=interpolation)
    image = picture(7, size)
    short = int(64 / crop_pct)
    scale = short / min(size)
    resample = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    resized = image.resize((round(size[0] * scale), round(size[1] * scale)), resample)
    left, top = (resized.width - 64) // 2, (resized.height - 64) // 2
    expected = np.asarray(resized.crop((left, top, left + 64, top + 64)))
    got = preprocessing.apply(image)
    assert got.shape == (64, 64, 3)
    assert got.dtype == np.uint8
    # Cropping before the resize moves pixels at the border alone.
    assert mean_difference(got[2:-2, 2:-2], expected[2:-2, 2:-2]) < 1.5
    assert mean_difference(got, expected) < 3


def test_preprocessing_leaves_a_picture_of_the_right_size_alone() -> None:
    image = picture(8, (64, 64))
    np.testing.assert_array_equal(Preprocessing(size=64).apply(image), np.asarray(image))


def test_preprocessing_of_a_wider_picture_of_the_right_height_moves_no_pixel() -> None:
    image = picture(8, (101, 64))
    np.testing.assert_array_equal(Preprocessing(size=64).apply(image), np.asarray(image)[:, 18:82])


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 2)])
def test_preprocessing_of_extreme_shapes(size: tuple[int, int]) -> None:
    for crop_pct in (1.0, 0.875):
        assert Preprocessing(size=32, crop_pct=crop_pct).apply(Image.new("RGB", size, "red"))[16, 16].tolist() == [
            255,
            0,
            0,
        ]


def test_thumbnail_keeps_the_shape_and_never_enlarges() -> None:
    big = Image.open(io.BytesIO(thumbnail_bytes(picture(1, (800, 300)))))
    assert big.format == "JPEG"
    assert big.size == (THUMBNAIL_SIDE, 72)
    assert Image.open(io.BytesIO(thumbnail_bytes(picture(1, (30, 20))))).size == (30, 20)
    assert Image.open(io.BytesIO(thumbnail_bytes(Image.new("RGB", (4000, 2))))).size == (THUMBNAIL_SIDE, 1)


def test_decode_bytes_reports_what_it_saw() -> None:
    data = encoded(picture(1, (90, 60)), "PNG")
    decoded = decode_bytes(data, SMALL)
    assert decoded.pixels.shape == (32, 32, 3)
    assert (decoded.width, decoded.height) == (90, 60)
    assert len(decoded.content_hash) == 32
    assert decoded.content_hash == decode_bytes(bytes(data), SMALL).content_hash
    assert decoded.content_hash != decode_bytes(encoded(picture(2, (90, 60)), "PNG"), SMALL).content_hash


def png(width: int, height: int, *, depth: int, colour_type: int, rows: list[bytes]) -> bytes:
    """A PNG of given header and rows, whatever they claim."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_empty_file_is_named() -> None:
    with pytest.raises(BadImageError, match=r"^empty file$"):
        open_rgb(b"")


@pytest.mark.parametrize(
    "data", [b"hello, I am text", b"\0" * 500, b"%PDF-1.7\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0"]
)
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(BadImageError, match=r"not an image|damaged|truncated"):
        open_rgb(data)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "PDF", "TGA"])
def test_formats_that_are_not_listed_are_not_decoded(kind: str) -> None:
    with pytest.raises(BadImageError, match="not an image"):
        open_rgb(encoded(picture(1), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_a_truncated_image_is_named(kind: str) -> None:
    data = encoded(picture(1, (200, 150)), kind)
    with pytest.raises(BadImageError, match=r"truncated|damaged|not an image"):
        open_rgb(data[: len(data) // 2])


def test_a_truncated_jpeg_says_truncated() -> None:
    data = encoded(picture(1, (200, 150)), "JPEG")
    with pytest.raises(BadImageError, match="truncated"):
        open_rgb(data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    bomb = png(60_000, 60_000, depth=8, colour_type=2, rows=[b"\0" * 300])
    assert len(bomb) < 1000
    with pytest.raises(BadImageError, match="too large: over 179 million pixels"):
        open_rgb(bomb)


def test_the_limit_of_pixels_is_pillows_own() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
def test_damaged_bytes_give_a_picture_or_a_bad_image_and_nothing_else(kind: str) -> None:
    options = {"save_all": True, "append_images": [picture(2, (24, 20))]} if kind in ("GIF", "MPO") else {}
    exif = (
        {}
        if kind in ("GIF", "BMP")
        else {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}
    )
    data = encoded(picture(1, (24, 20)), kind, **options, **exif)
    rng = np.random.default_rng(0)
    outcomes = {"picture": 0, "bad": 0}
    for _ in range(400):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400 if rng.random() < 0.7 else len(data)), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del damaged[rng.integers(1, len(damaged)) :]
        try:
            decode_bytes(bytes(damaged), SMALL)
            outcomes["picture"] += 1
        except BadImageError as error:
            assert 0 < len(str(error)) <= 200  # noqa: PT017
            outcomes["bad"] += 1
    assert outcomes["bad"] > 0


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"cannot be read \(No such file"):
        decode_file(tmp_path / "absent.png", SMALL)
    with pytest.raises(BadImageError, match=r"cannot be read \(Is a directory"):
        decode_file(tmp_path, SMALL)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_to_rgb_takes_every_mode(mode: str) -> None:
    image = to_rgb(Image.new(mode, (3, 2)))
    assert image.mode == "RGB"
    assert image.size == (3, 2)
