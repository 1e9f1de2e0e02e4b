"""Decoding of image files to grey values: PNG, JPEG and DICOM.

The format is determined by the first bytes of a file, not by its name.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from causalcxr.common.errors import CohortError
from causalcxr.images import synthetic_mark as marking
from causalcxr.images.decoded import REASONS, Decoded, ImageError, Limits
from causalcxr.images.png_and_jpeg import decode_jpeg, decode_png, png_header

__all__ = [
    "REASONS",
    "Decoded",
    "ImageError",
    "Limits",
    "decode",
    "decode_many",
    "file_format",
    "fitted",
    "measured",
    "says_synthetic",
]  # fmt: skip

# Opening a pipe must not block (POSIX), and bytes must not be converted (Windows).
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HEAD = 132  # bytes: the preamble of a DICOM file and its magic word
_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
# Formats that are not supported; the message names them.
_OTHERS = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BM": "BMP", b"GIF8": "GIF", b"%PDF": "PDF",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WebP or another RIFF", b"\x93NUMPY": "NumPy",
    b"\xff\x4f\xff\x51": "bare JPEG 2000", b"\0\0\0\x0cjP  ": "bare JPEG 2000",
    b"<": "HTML or XML", b"version https://git-lfs": "Git LFS pointer",
}  # fmt: skip


def decode(path: str | Path, limits: Limits = Limits()) -> Decoded:  # noqa: B008 (it is frozen)
    """Read the grey values of a PNG, JPEG or DICOM file, in this process.

    For untrusted files, `decode_many` does the same in processes with limits on time and memory.
    Here only the limits on bytes and pixels apply; they are checked before memory is allocated.

    Args:
        path: The file, with any suffix.
        limits: The limits for it.

    Raises:
        ImageError: If it cannot be used; `reason` is one of `REASONS`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 255]], np.uint8)).save(f"{folder}/a.png")
        ...     decoded = decode(f"{folder}/a.png")
        >>> decoded.pixels.tolist(), decoded.bits, decoded.about["format"]
        ([[0, 65535]], 8, 'PNG')
    """
    path = Path(path)
    content = _content(path, limits)
    kind = file_format(content)
    if kind not in _DECODERS:
        what = f"a {kind} file" if kind else "of an unknown format"
        raise ImageError("unknown", path, f"{what}; PNG, JPEG and DICOM files are read")
    try:
        return _DECODERS[kind](path, content, limits)
    except MemoryError:
        detail = "needs more memory than is available; lower the limit on pixels, or leave it out"
        raise ImageError("memory", path, detail) from None


def decode_many(
    paths: Iterable[str | Path],
    workers: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    size: tuple[int, int] | None = None,
) -> Iterator[Decoded | ImageError]:
    """Read many files in worker processes with limits on time and memory, in the files' order.

    A file that cannot be used does not affect the others: its error takes its place.

    Args:
        paths: The files; only a few for each worker are read ahead.
        workers: Processes; by default one for each processor core.
        limits: The limits for each file. Without the module `resource` (Windows) memory is
            unlimited.
        size: Height and width to which the workers resize each image by `fitted`.

    Returns:
        One result for each path: `Decoded`, or the `ImageError` that `decode` would raise.

    Example:
        >>> [error] = decode_many(["nowhere.png"], workers=1)
        >>> error.reason
        'missing'
    """
    from causalcxr.images.decoding_pool import decoded_by_workers

    return decoded_by_workers(paths, workers, limits, size)


def fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the complete image in another size, with its proportions kept, on black.

    It is scaled until it fits, antialiased by a triangle filter that widens with the reduction
    and cannot overshoot, and centred.

    Args:
        pixels: Shape (H, W), uint16.
        size: The new height and width.

    Returns:
        Shape `size`, uint16; the same array if it has that size already.

    Raises:
        CohortError: If the pixels or the size are invalid.

    Example:
        >>> fitted(np.full((2, 4), 65535, np.uint16), (4, 4))[:, 0].tolist()
        [0, 65535, 65535, 0]
    """
    height, width = (int(side) for side in size)
    if pixels.ndim != 2 or pixels.dtype != np.uint16 or 0 in pixels.shape:
        raise CohortError(f"an image of shape {pixels.shape}, {pixels.dtype}; give (H, W) uint16")
    if min(height, width) < 1:
        raise CohortError(f"size {height}x{width}; both sides must be at least 1")
    if pixels.shape == (height, width):
        return pixels
    # The smaller ratio, so that the complete image fits.
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    inner = [max(1, round(side * scale)) for side in pixels.shape]
    # As float32, so that grey levels are rounded only once, at the end.
    image = Image.fromarray(pixels.astype(np.float32))
    image = image.resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
    out = np.zeros((height, width), dtype=np.uint16)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    place = out[top : top + inner[0], left : left + inner[1]]
    place[:] = np.rint(np.clip(np.asarray(image), 0, 65535))
    return out


def measured(path: str | Path, limits: Limits = Limits()) -> tuple[int, int]:  # noqa: B008
    """Return height and width of an image; a PNG is not decoded.

    Raises:
        ImageError: As `decode` does.
    """
    content = _content(Path(path), limits)
    if file_format(content) == "PNG":
        return png_header(Path(path), content, limits)[:2]
    return decode(path, limits).pixels.shape


def says_synthetic(path: str | Path, limits: Limits = Limits()) -> bool:  # noqa: B008
    """Return whether a file declares its image synthetic; pixels are not decoded.

    A PNG declares it by our mark in its text, a DICOM file by SyntheticData (0008,001C).

    Raises:
        ImageError: If it cannot be read, or is a DICOM file whose header is damaged.
    """
    path = Path(path)
    with _opened(path, limits) as file:
        kind = file_format(file.read(_HEAD))
        file.seek(0)
        if kind == "PNG":
            return marking.says_synthetic(file)
    if kind not in ("DICOM", ""):  # detecting a data set without preamble needs the complete file
        return False
    content = _content(path, limits)
    if file_format(content) != "DICOM":
        return False
    from causalcxr.images.dicom_parse import is_synthetic, parsed

    return is_synthetic(parsed(path, content, limits, []))


def file_format(content: bytes) -> str:
    """Return the format of a file by its first bytes: PNG, JPEG, DICOM, another, or "".

    Example:
        >>> file_format(b"GIF89a"), file_format(bytes(128) + b"DICM"), file_format(b"??")
        ('GIF', 'DICOM', '')
    """
    # The preamble of a DICOM file may hold anything, such as a TIFF header.
    if content[128:_HEAD] == b"DICM":
        return "DICOM"
    for magic, name in (_MAGIC | _OTHERS).items():
        if content.startswith(magic):
            return name
    return "DICOM" if _begins_like_dicom(content) else ""


def _begins_like_dicom(content: bytes) -> bool:
    """Return whether a data set begins at the first byte, without preamble, as in old archives.

    Its first element is of group 2 or 8, little or big endian, with a plausible length.
    """
    if len(content) < 8 or content[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):
        return False
    order = "big" if content[:2] == b"\0\x08" else "little"
    if content[4:6].isalpha() and content[4:6].isupper():
        return int.from_bytes(content[2:4], order) <= 0x0300
    length = int.from_bytes(content[4:8], order)
    return int.from_bytes(content[2:4], order) <= 0x0300 and length <= min(len(content), 2**16)


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    """Open a file after checking its kind and size; errors of the system become ours."""
    try:
        # A link may lead out of the folder that the user gave.
        if limits.root is not None and not path.resolve().is_relative_to(limits.root.resolve()):
            raise ImageError("outside", path, f"leads out of {limits.root}; give a file inside it")
        with open(os.open(path, _FLAGS), "rb") as file:
            # Check the open file, not its path: another file may replace it in between.
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ImageError("unreadable", path, "not a file; give the path of an image")
            if about.st_size > limits.bytes:
                detail = f"{about.st_size:,} bytes; more than {limits.bytes:,} are refused"
                raise ImageError("large", path, detail)
            yield file
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("missing", path, "there is no such file; check the path") from None
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a loop of links
        detail = getattr(error, "strerror", None) or "not a valid path"
        raise ImageError("unreadable", path, f"cannot be read: {detail}") from None


def _content(path: Path, limits: Limits) -> bytes:
    """Return a file's bytes, after its kind and size are checked."""
    with _opened(path, limits) as file:
        # `read` allocates the number of bytes at once.
        content = file.read(os.fstat(file.fileno()).st_size)
    if not content:
        raise ImageError("empty", path, "the file is empty; copy it again")
    return content


def _decode_dicom(path: Path, content: bytes, limits: Limits) -> Decoded:
    # pydicom is slow to import, and most cohorts are PNGs.
    from causalcxr.images.dicom_read import decode_dicom

    return decode_dicom(path, content, limits)


_DECODERS: dict[str, Callable[[Path, bytes, Limits], Decoded]] = {
    "PNG": decode_png, "JPEG": decode_jpeg, "DICOM": _decode_dicom,
}  # fmt: skip
