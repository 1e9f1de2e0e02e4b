"""Images on the way to a browser or a file: 16 bits, with a mark if they are synthetic."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from causalcxr.images.decoding import fitted
from causalcxr.images.marked_png import marked
from causalcxr.images.synthetic_mark import MARK

__all__ = ["encoded", "pair_png", "thumbnail", "to_uint16"]

_GAP = 8  # black columns between two images
_SHOWN = 1024  # pixels of the longer side of an image on the page
_SIDE = 96  # pixels of a thumbnail's longer side


def to_uint16(image: np.ndarray) -> np.ndarray:
    """Return an image (..., H, W) between 0 and 1 as (H, W) uint16.

    Example:
        >>> to_uint16(np.array([[[0.0, 1.0]]])).tolist()
        [[0, 65535]]
    """
    flat = image.reshape(image.shape[-2:]).astype(np.float64)
    return np.rint(np.clip(flat, 0, 1) * 65535).astype(np.uint16)


def encoded(pixels: np.ndarray) -> dict[str, Any]:
    """Return (H, W) uint16 as the page reads it: little-endian bytes in base64.

    An image that is larger than a screen shows is shrunk; downloads have its own size.
    """
    scale = max(pixels.shape) / _SHOWN
    if scale > 1:
        pixels = fitted(pixels, tuple(max(1, round(side / scale)) for side in pixels.shape))
    data = base64.b64encode(pixels.astype("<u2").tobytes()).decode()
    return {"height": pixels.shape[0], "width": pixels.shape[1], "data": data}


def thumbnail(pixels: np.ndarray, *, synthetic: bool) -> bytes:
    """Return a small 8-bit PNG of (H, W) uint16; a synthetic one is marked in its metadata."""
    picture = Image.fromarray((pixels >> 8).astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    about = PngInfo()
    if synthetic:
        about.add_text("Comment", MARK)
    return _png(picture, about)


def pair_png(
    factual: np.ndarray, twin: np.ndarray, derivation: str, *, synthetic: bool = True
) -> bytes:
    """Return factual image and twin side by side as one 16-bit PNG, with the mark below both.

    Args:
        factual: Shape (H, W), uint16.
        twin: The same shape.
        derivation: How the twin was computed, a text inside the file.
        synthetic: Whether one of them is synthetic; a patient's own radiograph has no mark.
    """
    gap = np.zeros((len(factual), _GAP), np.uint16)
    pair, about = np.hstack([factual, gap, twin]), PngInfo()
    if synthetic:
        about.add_text("Comment", MARK)
        about.add_itxt("Description", derivation)
        pair = marked(pair)
    return _png(Image.fromarray(pair), about)


def _png(picture: Image.Image, about: PngInfo) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", pnginfo=about)
    return content.getvalue()
