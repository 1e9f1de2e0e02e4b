"""The result of decoding an image, its limits, and the reasons for a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError

__all__ = ["REASONS", "Decoded", "ImageError", "Limits"]

# Why an image is refused. Quarantine lists count these words, so they never change.
REASONS: Mapping[str, str] = {
    "missing": "there is no such file",
    "unreadable": "a folder, a pipe, or a file that may not be read",
    "outside": "the path leads out of the permitted folder",
    "empty": "the file has no bytes",
    "unknown": "the content is not a PNG, JPEG or DICOM file",
    "truncated": "the file ends too early",
    "damaged": "the content contradicts itself",
    "large": "more bytes or pixels than the limits allow",
    "frames": "more than one frame",
    "photometric": "the meaning of pixel values is missing or contradictory",
    "unsupported": "a valid file of a kind that is not supported",
    "codec": "the decoder of its compression is not installed",
    "slow": "decoding took longer than the limits allow",
    "memory": "decoding needs more memory than the limits allow",
    "crashed": "the decoder ended its process",
}


class ImageError(CohortError):
    """An image that cannot be used: a message with the file, and one word for the reason.

    Args:
        reason: One of `REASONS`.
        path: The file.
        detail: The fault, without any value of a patient's header.

    Example:
        >>> ImageError("empty", "a.png", "the file has no bytes; copy it again")
        ImageError('a.png: the file has no bytes; copy it again')
        >>> _.reason
        'empty'
    """

    def __init__(self, reason: str, path: str | Path, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.reason, self.path, self.detail = reason, str(path), detail


@dataclass(frozen=True)
class Limits:
    """The limits for one image; a file that exceeds them is refused before memory is allocated.

    Args:
        pixels: Rows times columns that a header may claim. A 4k x 4k detector has 16 megapixels;
            the default is four times that.
        bytes: The size of the file, and of an inflated data set in it.
        seconds: Wall time for one file, in a worker process.
        memory: Bytes in a worker process, in addition to Python and its libraries.
        root: A folder that must contain the files after following `..` and links; None for any.

    Example:
        >>> Limits(pixels=100).pixels
        100
    """

    pixels: int = 64 * 2**20
    bytes: int = 512 * 2**20
    seconds: float = 30.0
    memory: int = 2 * 2**30
    root: Path | None = None


@dataclass(frozen=True)
class Decoded:
    """The grey values of one image.

    Args:
        pixels: Shape (H, W), uint16, dense tissue bright, 0 black and 65535 white whatever the
            depth of the file: a grey level g of b bits becomes round(65535 g / (2^b - 1)), which
            is lossless up to 16 bits. (Of 8 bits it is 257 g, and `pixels // 257` is g.)
        bits: The depth of the file's grey levels.
        about: Facts without patient data. Always `format`, `rows`, `columns`, `bits`, `notes` (a
            list of decisions) and `synthetic` (whether the file declares it); for DICOM also
            `photometric`, `window`, `transfer_syntax`.
    """

    pixels: np.ndarray
    bits: int
    about: dict[str, Any] = field(default_factory=dict)
