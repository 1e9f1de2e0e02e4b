"""The mark of synthetic images: its words, PNG files with it, images that need none."""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["MARK", "hardly_differs", "same_when_written", "says_synthetic", "write_png"]

MARK = "SYNTHETIC - NOT FOR CLINICAL USE"
_TEXTS = (b"tEXt", b"iTXt", b"zTXt")
_LONGEST = 65536  # bytes of a text that is searched for the mark
_LEVEL = 257  # one grey level of 8 bits, in 16 bits
_WRITTEN = (2**16 - 1, 2**12 - 1)  # the largest grey level of PNG and of DICOM files that we write


def write_png(path: Path | BinaryIO, image: np.ndarray, *, synthetic: bool) -> None:
    """Write an image (H, W) between 0 and 1 as a 16-bit greyscale PNG.

    Args:
        path: The file.
        image: Grey values.
        synthetic: Whether it is synthetic; the file then has the mark in its text.
    """
    levels = np.rint(image.astype(np.float64) * 65535).astype(np.uint16)
    about = PngInfo()
    if synthetic:
        about.add_text("Comment", MARK)
    Image.fromarray(levels).save(path, format="PNG", pnginfo=about)


def says_synthetic(file: BinaryIO) -> bool:
    """Return whether a PNG has the mark in one of its texts; pixels are not read.

    Args:
        file: The file, read from its present position.

    Example:
        >>> import io
        >>> says_synthetic(io.BytesIO(b"no PNG at all"))
        False
    """
    file.seek(8, 1)  # the signature
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _TEXTS and MARK.encode() in _text(kind, file.read(min(length, _LONGEST))):
            return True
        # Texts may also follow the pixels: a program that rewrites the file may move them.
        file.seek(max(length - _LONGEST, 0) + 4 if kind in _TEXTS else length + 4, 1)
    return False


def _text(kind: bytes, data: bytes) -> bytes:
    """Return the content of a text, inflated if it is compressed, up to a limit."""
    _, _, rest = data.partition(b"\0")
    if kind == b"zTXt":
        return _inflated(rest[1:])
    if kind == b"iTXt" and rest[:1] == b"\1":
        return _inflated(rest[2:].split(b"\0", 2)[-1])
    return rest


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LONGEST)
    except zlib.error:
        return b""


def same_when_written(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which images are equal in every pixel when written as PNG or DICOM.

    Args:
        images: Shape (n, 1, H, W), between 0 and 1.
        others: The same shape.

    Returns:
        Shape (n,), bool: equal when rounded to 16 bits or when rounded to 12.

    Example:
        >>> images = np.full((1, 1, 2, 2), 0.5)
        >>> same_when_written(images, images + 1e-6), same_when_written(images, images + 0.001)
        (array([ True]), array([False]))
    """
    same = np.zeros(len(images), dtype=bool)
    for most in _WRITTEN:
        levels, other = (np.rint(each.astype(np.float64) * most) for each in (images, others))
        same |= (levels == other).all(axis=(1, 2, 3))
    return same


def hardly_differs(image: np.ndarray, source: np.ndarray) -> bool:
    """Return whether an image is within one grey level of 8 bits of its source in every pixel.

    Screens show at most 8 bits, and most public radiographs have no more: such an image cannot be
    distinguished from its source.

    Args:
        image: Shape (H, W), uint16.
        source: Shape (H, W), uint16.

    Example:
        >>> source = np.zeros((2, 2), np.uint16)
        >>> hardly_differs(source + np.uint16(257), source), hardly_differs(source + 258, source)
        (True, False)
    """
    if image.shape != source.shape:
        return False
    return int(np.abs(image.astype(np.int64) - source.astype(np.int64)).max()) <= _LEVEL
