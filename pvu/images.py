"""Find, verify and decode images. No torch here: decoding workers import this module alone and start fast."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvu.errors import BadImageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"})
# Pillow has decoders for some forty formats; every one that is off is one that a hostile file cannot reach.
# MPO, the JPEG that phones write (a second picture behind the first), opens as JPEG: naming it is an error in Pillow.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF")
# Above this Pillow itself refuses (twice its MAX_IMAGE_PIXELS): a decoded picture would take over 500 MB.
MAX_PIXELS = 178_956_970
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
# Pillow's decoders raise all of these on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, MemoryError, struct.error)
THUMBNAIL_SIDE = 192
THUMBNAIL_QUALITY = 82


@dataclass(frozen=True)
class Preprocessing:
    """From an RGB picture to the model's input: resize the short side, crop the centre, normalise.

    Args:
        size: side of the square input, pixels.
        crop_pct: the share of the short side that the crop keeps; the short side is resized to ``size / crop_pct``.
        mean: per channel, on the 0-1 scale.
        std: per channel, on the 0-1 scale.
        interpolation: "bicubic" or "bilinear".
    """

    size: int = 224
    crop_pct: float = 1.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"

    @property
    def short_side(self) -> int:
        return int(self.size / self.crop_pct)

    def apply(self, image: Image.Image) -> np.ndarray:
        """Resize and crop one RGB picture: (size, size, 3) uint8. Normalising is left to the model's device."""
        resample = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        width, height = image.size
        scale = self.short_side / min(width, height)
        # Crop and resize in one step: the pixels of resize-then-crop, without resizing what is thrown away. The offset
        # is a whole number of resized pixels, so that a picture of the right size is not blurred by half of one.
        resized = (round(width * scale), round(height * scale))
        ratio = (width / resized[0], height / resized[1])
        left, top = ((side - self.size) // 2 for side in resized)
        box = (left * ratio[0], top * ratio[1], (left + self.size) * ratio[0], (top + self.size) * ratio[1])
        if image.size != (self.size, self.size) or scale != 1:
            box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
            image = image.resize((self.size, self.size), resample, box=box)
        return np.asarray(image)


@dataclass(frozen=True)
class DecodedImage:
    """What one decoding pass over an image's bytes gives.

    Args:
        pixels: (size, size, 3) uint8, the model's input before normalisation.
        thumbnail: JPEG bytes, long side at most THUMBNAIL_SIDE.
        width: of the original picture as a viewer shows it, pixels.
        height: likewise.
        content_hash: hexadecimal BLAKE2b (16 bytes) of the file.
    """

    pixels: np.ndarray
    thumbnail: bytes
    width: int
    height: int
    content_hash: str


def open_rgb(data: bytes, *, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode image bytes to RGB as a viewer would show them.

    Args:
        data: the file's bytes.
        at_least: large JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size, never below this many pixels
            on either side.

    Returns:
        The RGB picture, and the (width, height) that the picture has at full size.

    Raises:
        BadImageError: with a reason in plain words.
    """
    if not data:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        opened_size = image.size
        if at_least is not None and image.format in ("JPEG", "MPO"):
            image.draft("RGB", (at_least, at_least))
        reduced = image.size != opened_size
        image.load()
        # Read after load(): a PNG may carry it behind the pixels, and a TIFF has been turned upright by then.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        rgb = to_rgb(image)
    except Image.DecompressionBombError:
        raise BadImageError(f"too large: over {MAX_PIXELS / 1e6:.0f} million pixels") from None
    except UnidentifiedImageError:
        raise BadImageError("not an image, or a damaged header") from None
    except _DAMAGE as error:
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
        raise BadImageError(reason[:200]) from None
    if turn is not None:
        rgb = rgb.transpose(turn)
    if not reduced:
        return rgb, rgb.size
    return rgb, opened_size[::-1] if turn in _SIDEWAYS else opened_size


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any Pillow mode into RGB: 16-bit and float scaled to 8 bits, transparency laid over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scale_to_8_bits(np.asarray(image))).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(background, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bits(values: np.ndarray) -> np.ndarray:
    """16-bit integers by their full range; wider integers and floats by their own, as there is no full range."""
    sixteen_bit = values.dtype.kind == "u" and values.dtype.itemsize == 2  # in either byte order
    if sixteen_bit or (values.dtype.kind in "iu" and values.min() >= 0 and 255 < values.max() < 65536):
        return (values.astype(np.float32) / 257).round().astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if finite.min() >= 0 and finite.max() <= 1 and values.dtype.kind == "f":
        return (finite * 255).round().astype(np.uint8)
    if finite.min() >= 0 and finite.max() <= 255:
        return finite.round().astype(np.uint8)
    low, high = finite.min(), finite.max()
    return ((finite - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)


def thumbnail_bytes(image: Image.Image, side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of an RGB picture, long side at most ``side`` pixels (small pictures keep their size)."""
    scale = side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def decode_bytes(data: bytes, preprocessing: Preprocessing) -> DecodedImage:
    """Everything that the pipeline needs of one image, from one decoding pass.

    Raises:
        BadImageError: if the bytes are not a picture that can be decoded.
    """
    # Twice the input is enough for the resize that follows to look as if it had started from the full picture.
    image, (width, height) = open_rgb(data, at_least=2 * preprocessing.short_side)
    return DecodedImage(
        pixels=preprocessing.apply(image),
        thumbnail=thumbnail_bytes(image),
        width=width,
        height=height,
        content_hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
    )


def decode_file(path: Path, preprocessing: Preprocessing) -> DecodedImage:
    """As :func:`decode_bytes`, for a file.

    Raises:
        BadImageError: if the file cannot be read or decoded.
    """
    return decode_bytes(read_bytes(path), preprocessing)


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImageError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from None
