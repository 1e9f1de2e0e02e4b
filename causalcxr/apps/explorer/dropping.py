"""A radiograph from elsewhere: read under limits, kept in memory, never under its own name."""

import hashlib
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.apps.explorer.kept import Kept
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import Decoded, ImageError, Limits, decode_many, fitted
from causalcxr.images.images import ArrayImages

__all__ = ["MOST", "Drop", "Drops"]

MOST = 32 * 2**20  # bytes of a file
_PIXELS = 16 * 2**20
_SIDE = 1024  # pixels of the longer side that is kept
_KEPT = 16  # files; the one that nobody asked for the longest is let go


@dataclass(frozen=True)
class Drop:
    """One radiograph that was dropped in.

    Args:
        token: What the page calls it.
        name: The file's name, for people to read; no path is ever made of it.
        format: PNG, JPEG or DICOM.
        pixels: Shape (H, W), uint16.
        synthetic: Whether the file says that its image is.
    """

    token: str
    name: str
    format: str
    pixels: np.ndarray
    synthetic: bool = False

    @property
    def record(self) -> str:
        """The record's id, of its pixels alone, so that the same image has the same noise."""
        return f"dropped-{hashlib.sha256(self.pixels.tobytes()).hexdigest()[:12]}"

    def cohort(self, facts: Mapping[str, object], size: tuple[int, int] | None) -> Cohort:
        """Return a cohort of this one record; what is not told is missing.

        Args:
            facts: Variable -> level or number.
            size: Height and width that the model takes; None keeps the image as it is.
        """
        table = pd.DataFrame([dict(facts)], index=[self.record])
        pixels = self.pixels if size is None else fitted(self.pixels, size)
        images = ArrayImages(pixels[None], synthetic=self.synthetic)
        return Cohort(table, images, source="a file that was dropped in")


class Drops:
    """Keep the radiographs that were dropped in last, for as long as the server runs."""

    def __init__(self) -> None:
        self._kept = Kept(_KEPT)

    def put(self, content: bytes, name: str) -> Drop:
        """Read a file, in a process of its own with limits on time and memory.

        Raises:
            CohortError: If it is too large, or no image that can be read.
        """
        name = _readable(name)
        if len(content) > MOST:
            raise CohortError(f"{name}: larger than {MOST // 2**20} MB; give a smaller file")
        found = _decoded(content, name)
        about, pixels = found.about, _smaller(found.pixels)
        drop = Drop(secrets.token_hex(8), name, about["format"], pixels, about["synthetic"])
        self._kept.put(drop.token, drop)
        return drop

    def __getitem__(self, token: str) -> Drop:
        found = self._kept.find(token)
        if found is None:
            raise CohortError("the file is no longer here; drop it in again")
        return found


def _decoded(content: bytes, name: str) -> Decoded:
    limits = Limits(pixels=_PIXELS, bytes=MOST, seconds=20.0, memory=2**30)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        [found] = decode_many([path], workers=1, limits=limits)
    if isinstance(found, ImageError):
        raise CohortError(f"{name}: {found.detail}")
    return found


def _smaller(pixels: np.ndarray) -> np.ndarray:
    """Return an image whose longer side is at most 1,024 pixels."""
    height, width = pixels.shape
    scale = _SIDE / max(height, width)
    if scale >= 1:
        return pixels
    return fitted(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def _readable(name: str) -> str:
    """Return a file's name as it can be shown: its last part, one line, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c if c.isprintable() else "?" for c in last).strip()
    return shown[:80] or "the file"
