"""What decoding an image gives, what it may take, and why it may be refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError

__all__ = ["REASONS", "Decoded", "ImageError", "Limits"]

# Why an image is put aside. The words are what a quarantine list counts, so they are few and stay.
REASONS: Mapping[str, str] = {
    "missing": "there is no such file",
    "unreadable": "a folder, a pipe, or a file that may not be read",
    "outside": "the path leaves the folder that it must stay in",
    "empty": "the file has no bytes",
    "unknown": "the content is no PNG, JPEG or DICOM file",
    "truncated": "the file ends too early",
    "damaged": "the content contradicts itself",
    "large": "more bytes or pixels than the limits allow",
    "frames": "more than one frame",
    "photometric": "it is not said, or not consistently, what a pixel value means",
    "unsupported": "a valid file of a kind that is not read",
    "codec": "the decoder of its compression is not installed",
    "slow": "decoding took longer than the limits allow",
    "memory": "decoding asked for more memory than the limits allow",
    "crashed": "the decoder ended its process",
}


class ImageError(CohortError):
    """An image that cannot be used: one line with the file, and one word for the reason.

    Args:
        reason: One of `REASONS`.
        path: The file.
        detail: What is wrong with it; nothing of a patient's header.

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
    """What one image may take; a file that asks for more is refused before it gets it.

    Args:
        pixels: Rows times columns that a header may claim. A 4k x 4k detector gives 16 megapixels;
            the default is four times that.
        bytes: Of the file, and of a data set that it holds deflated.
        seconds: In a worker process, wall time for one file.
        memory: In a worker process, bytes on top of what Python and its libraries take.
        root: A folder that files must lie in once `..` and links are followed; None for anywhere.

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
            loses none up to 16 bits. (Of 8 bits it is 257 g, of which `pixels // 257` is g.)
        bits: The depth of the file's grey levels.
        about: Harmless facts. Always `format`, `rows`, `columns`, `bits` and `notes`, a list of
            what had to be decided, and `synthetic`, whether the file says that it is; of DICOM
            also `photometric`, `window`, `transfer_syntax`.
    """

    pixels: np.ndarray
    bits: int
    about: dict[str, Any] = field(default_factory=dict)
