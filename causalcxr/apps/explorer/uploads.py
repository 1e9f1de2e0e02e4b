"""Uploaded radiographs: decoded under limits and kept in memory."""

import hashlib
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.apps.explorer.recent_results import RecentResults
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import Decoded, ImageError, Limits, decode_many, fitted
from causalcxr.images.images import ArrayImages
from causalcxr.images.resampling import is_larger

__all__ = ["MAX_BYTES", "Upload", "Uploads"]

MAX_BYTES = 32 * 2**20  # of a file
_PIXELS = 16 * 2**20
_SIDE = 2048  # pixels of the longer side that is kept
_KEPT = 16  # files; the least recently used one is dropped


@dataclass(frozen=True)
class Upload:
    """Hold one uploaded radiograph.

    Args:
        token: The identifier that the page uses.
        name: The file's name, for display only; it never becomes a path.
        format: PNG, JPEG or DICOM.
        pixels: Shape (H, W), uint16.
        synthetic: Whether the file marks its image as synthetic.
    """

    token: str
    name: str
    format: str
    pixels: np.ndarray
    synthetic: bool = False

    @property
    def record(self) -> str:
        """The record's id, a digest of the pixels: the same image has the same noise."""
        return f"dropped-{hashlib.sha256(self.pixels.tobytes()).hexdigest()[:12]}"

    def cohort(self, facts: Mapping[str, object], size: tuple[int, int] | None) -> Cohort:
        """Return a cohort of this record; values that are not given are missing.

        Args:
            facts: Variable -> level or number.
            size: Height and width at which the model computes; a smaller image is enlarged to
                them. None keeps the image as it is.
        """
        table = pd.DataFrame([dict(facts)], index=[self.record])
        is_large = size is None or is_larger(self.pixels.shape, size)
        pixels = self.pixels if is_large else fitted(self.pixels, size)
        images = ArrayImages(pixels[None], synthetic=self.synthetic)
        return Cohort(table, images, source="an uploaded file")


class Uploads:
    """Keep the latest uploads in memory while the server runs."""

    def __init__(self) -> None:
        self._kept = RecentResults(_KEPT)

    def put(self, content: bytes, name: str) -> Upload:
        """Decode a file in a separate process with limits on time and memory.

        Raises:
            CohortError: If the file is too large, or is no readable image.
        """
        name = _display_name(name)
        if len(content) > MAX_BYTES:
            raise CohortError(f"{name}: larger than {MAX_BYTES // 2**20} MB; give a smaller file")
        # Untrusted bytes: decoded in another process, with limits.
        decoded = _decoded(content, name)
        about, pixels = decoded.about, _smaller(decoded.pixels)
        upload = Upload(secrets.token_hex(8), name, about["format"], pixels, about["synthetic"])
        self._kept.put(upload.token, upload)
        return upload

    def __getitem__(self, token: str) -> Upload:
        upload = self._kept.find(token)
        if upload is None:
            raise CohortError("the uploaded file is no longer in memory; upload it again")
        return upload


def _decoded(content: bytes, name: str) -> Decoded:
    limits = Limits(pixels=_PIXELS, bytes=MAX_BYTES, seconds=20.0, memory=2**30)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        [decoded] = decode_many([path], workers=1, limits=limits)
    if isinstance(decoded, ImageError):
        raise CohortError(f"{name}: {decoded.detail}")
    return decoded


def _smaller(pixels: np.ndarray) -> np.ndarray:
    """Return an image whose longer side is at most 2,048 pixels."""
    height, width = pixels.shape
    scale = _SIDE / max(height, width)
    if scale >= 1:
        return pixels
    return fitted(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def _display_name(name: str) -> str:
    """Return the last part of a file's name as one printable line of limited length."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c if c.isprintable() else "?" for c in last).strip()
    return shown[:80] or "the file"
