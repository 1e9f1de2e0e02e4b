"""Decoding of PNG and JPEG files; headers are checked before memory is allocated."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from causalcxr.common.errors import install
from causalcxr.images.decoded import Decoded, ImageError, Limits
from causalcxr.images.synthetic_mark import says_synthetic

__all__ = [
    "JpegFrame",
    "check_size",
    "decode_jpeg",
    "decode_png",
    "jpeg_frame",
    "luminance",
    "png_header",
]

COLOUR = "colour converted to luminance (ITU-R 601)"
_DEEP_COLOUR = "16-bit colour or alpha read with 8 bits"
_TURNED = "rotated by its EXIF orientation"
_ORIENTATION = 0x0112  # a tag of EXIF
_JPEG = {"format": "JPEG", "synthetic": False}  # we write no JPEG, so none has the mark
_PNG_COLOURS = (2, 3, 6)  # RGB, palette, RGBA; 0 and 4 are grey, without and with alpha
# The errors of Pillow on damaged bytes, observed or possible.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, LookupError,
    ArithmeticError, RuntimeError, zlib.error, struct.error,
)  # fmt: skip
# Start-of-frame markers: C0 to CF except tables (C4, CC) and the reserved C8; F7: JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


@dataclass(frozen=True)
class JpegFrame:
    """The header of a JPEG stream.

    Args:
        marker: The start of its frame: 0xC0 baseline, 0xC3 lossless, 0xF7 JPEG-LS, ...
        bits: The bits of a sample.
        rows: The rows; 0 if they follow the first scan.
        columns: The columns.
        samples: The samples of a pixel: 1 grey, 3 colour, 4 colour for print.
    """

    marker: int
    bits: int
    rows: int
    columns: int
    samples: int


def jpeg_frame(content: bytes) -> JpegFrame | None:
    r"""Return the header of the first frame of a JPEG or JPEG-LS stream, or None.

    Example:
        >>> jpeg_frame(b"\xff\xd8\xff\xc3\x00\x0b\x0c\x00\x02\x00\x03\x01\x01\x11\x00")
        JpegFrame(marker=195, bits=12, rows=2, columns=3, samples=1)
    """
    # Behind the two bytes that start every JPEG.
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF or marker in _BARE:  # padding, or a marker without content
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            if place + 10 > len(content):
                return None
            bits, rows, columns, samples = struct.unpack_from(">BHHB", content, place + 4)
            return JpegFrame(marker, bits, rows, columns, samples)
        # The length of a segment includes its own two bytes, not the marker.
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None


def check_size(path: Path, rows: int, columns: int, limits: Limits) -> None:
    """Refuse an image without pixels, or with more than the limits allow."""
    if rows < 1 or columns < 1:
        raise ImageError("damaged", path, f"the header claims {rows}x{columns} pixels")
    if rows * columns > limits.pixels:
        raise ImageError(
            "large",
            path,
            f"the header claims {rows}x{columns} pixels; more than "
            f"{limits.pixels / 2**20:.4g} megapixels are refused",
        )


def luminance(colour: np.ndarray) -> np.ndarray:
    """Return the luminance (ITU-R 601) of colours (H, W, 3), in their scale, float32."""
    return colour.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])


def png_header(path: Path, content: bytes, limits: Limits) -> tuple[int, int, int, int]:
    """Return rows, columns, bits of a sample and kind of colour, checked."""
    if len(content) < 33 or content[12:16] != b"IHDR":
        raise ImageError("truncated", path, "the PNG ends in its header; copy it again")
    columns, rows, depth, kind = struct.unpack_from(">IIBB", content, 16)
    check_size(path, rows, columns, limits)
    return rows, columns, depth, kind


def decode_png(path: Path, content: bytes, limits: Limits) -> Decoded:
    """Return the grey values of a PNG; see `decode`."""
    _, _, depth, kind = png_header(path, content, limits)
    notes = [COLOUR] * (kind in _PNG_COLOURS) + [_DEEP_COLOUR] * (depth == 16 and kind != 0)
    with _our_errors(path), _opened(content, "PNG") as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError("frames", path, "an animation; give one image per file")
        image.load()
        # 16-bit modes keep their levels; all others become 8-bit grey.
        deep = image.mode in ("I;16", "I;16B", "I")
        pixels = np.asarray(image) if deep else np.asarray(image.convert("L"))
    # The colours of a palette have 8 bits, whatever the depth of its indices.
    bits = min(depth, 16 if deep else 8) if kind != 3 else 8
    about = {"format": "PNG", "synthetic": says_synthetic(io.BytesIO(content))}
    return _decoded(pixels, 16 if deep else 8, bits, about, notes)


def decode_jpeg(path: Path, content: bytes, limits: Limits) -> Decoded:
    """Return the grey values of a JPEG, of 8 bits by Pillow, of others by pylibjpeg."""
    frame = jpeg_frame(content)
    if frame is None:
        raise ImageError("truncated", path, "the JPEG has no frame header; copy it again")
    check_size(path, frame.rows, frame.columns, limits)
    notes = [COLOUR] * (frame.samples > 1)
    # Pillow reads 8 bits of the common processes: baseline, extended, progressive.
    if frame.marker not in (0xC0, 0xC1, 0xC2) or frame.bits != 8:
        return _decode_deep_jpeg(path, content, frame, notes)
    with _our_errors(path), _opened(content, "JPEG") as image:
        upright = image
        if image.getexif().get(_ORIENTATION, 1) != 1:
            upright = ImageOps.exif_transpose(image)
            notes.append(_TURNED)
        pixels = np.asarray(upright.convert("L"))
    return _decoded(pixels, 8, 8, _JPEG, notes)


def _decode_deep_jpeg(path: Path, content: bytes, frame: JpegFrame, notes: list[str]) -> Decoded:
    """Decode JPEG files that Pillow does not read: 12 and 16 bits, lossless, JPEG-LS."""
    try:
        from libjpeg import decode
    except ImportError:
        raise ImageError(
            "codec",
            path,
            f"no decoder of a JPEG of {frame.bits} bits or without loss; {install('codecs-gpl')}",
        ) from None
    with _our_errors(path):
        pixels = decode(content)
    if pixels.shape[:2] != (frame.rows, frame.columns):
        raise ImageError("damaged", path, "the image differs in size from its header")
    pixels = luminance(pixels) if pixels.ndim == 3 else pixels
    return _decoded(pixels, frame.bits, frame.bits, _JPEG, notes)


def _decoded(
    pixels: np.ndarray, depth: int, bits: int, about: dict[str, Any], notes: list[str]
) -> Decoded:
    """Scale grey levels of `depth` bits to 16; `bits` is the depth of the file."""
    most = 2**depth - 1
    if depth == 8 and pixels.dtype == np.uint8:
        spread = pixels.astype(np.uint16) * np.uint16(257)  # 65535 = 257 x 255
    elif depth == 16 and pixels.dtype.kind in "iu":
        spread = pixels.astype(np.uint16)
    else:
        spread = np.rint(pixels * (65535 / most)).clip(0, 65535).astype(np.uint16)
    rows, columns = spread.shape
    facts = {**about, "rows": rows, "columns": columns, "bits": bits, "notes": notes}
    return Decoded(np.ascontiguousarray(spread), bits, facts)


def _opened(content: bytes, name: str) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=[name])


@contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a decoder on damaged bytes into ours, with the path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings on palettes and profiles
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError("large", path, "more pixels than Pillow accepts") from None
    except _DAMAGE as error:
        short = isinstance(error, EOFError) or "truncated" in str(error)
        detail = f"the image is damaged or incomplete: {' '.join(str(error).split())[:200]}"
        raise ImageError("truncated" if short else "damaged", path, detail) from None
