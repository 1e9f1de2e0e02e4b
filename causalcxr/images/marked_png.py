"""A synthetic image as a PNG with a visible mark: a strip below, and a text in the file."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from causalcxr.common.errors import CohortError
from causalcxr.images.synthetic_mark import MARK

__all__ = ["marked", "marked_png"]

_NARROWEST = 256  # pixels: on fewer the mark is illegible, so the image is enlarged


def marked(pixels: np.ndarray) -> np.ndarray:
    """Return an image with the mark on a strip below it; its pixels are unchanged.

    Images of fewer than 256 columns are enlarged by a whole factor, each pixel to a square.

    Args:
        pixels: Shape (H, W), uint16.

    Returns:
        Shape (H k + strip, W k), uint16.

    Raises:
        CohortError: If the pixels are not such an array.

    Example:
        >>> marked(np.zeros((64, 64), np.uint16)).shape[1]
        256
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint16 or 0 in pixels.shape:
        raise CohortError(f"an image of shape {pixels.shape}, {pixels.dtype}; give (H, W) uint16")
    times = -(-_NARROWEST // pixels.shape[1])
    large = pixels.repeat(times, axis=0).repeat(times, axis=1)
    return np.vstack([large, _strip(large.shape[1])])


def marked_png(pixels: np.ndarray, derivation: str) -> bytes:
    """Return a 16-bit greyscale PNG with the mark on it and its derivation in the file."""
    about = PngInfo()
    about.add_text("Comment", MARK)
    about.add_itxt("Description", derivation)
    content = io.BytesIO()
    Image.fromarray(marked(pixels)).save(content, format="PNG", pnginfo=about)
    return content.getvalue()


def _strip(width: int) -> np.ndarray:
    """Return the mark, white on black, as large as the width allows."""
    unit = ImageFont.load_default(100)
    size = max(6, int(100 * 0.94 * width / unit.getlength(MARK)))
    height = size + size // 2 + 6
    strip = Image.new("L", (width, height), 0)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(strip).text((width / 2, height / 2), MARK, fill=255, font=font, anchor="mm")
    return np.asarray(strip).astype(np.uint16) * np.uint16(257)
