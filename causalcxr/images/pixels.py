"""Grey values as floats between 0 and 1, checked, and resized."""

import numpy as np
from PIL import Image

from causalcxr.common.errors import CohortError

__all__ = ["check_values", "resized", "to_float"]

_SCALES = {np.dtype(np.uint8): np.float32(255), np.dtype(np.uint16): np.float32(65535)}


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Return grey values between 0 and 1, bit-exact for integers."""
    scale = _SCALES.get(pixels.dtype)
    pixels = pixels.astype(np.float32)
    return pixels if scale is None else pixels / scale


def check_values(array: np.ndarray, available: np.ndarray) -> None:
    """Refuse grey values outside 0 to 1, one image at a time to save memory."""
    if array.dtype in _SCALES:
        return
    if array.dtype.kind != "f":
        raise CohortError(
            f"images are {array.dtype}; expected uint8, uint16 or floats between 0 and 1"
        )
    for row in np.flatnonzero(available):
        low, high = (array[row].min(), array[row].max()) if array[row].size else (0, 0)
        # In this form NaN is refused, too.
        if not (low >= 0 and high <= 1):
            raise CohortError(
                f"the image at position {row} has values from {low:g} to {high:g}; "
                "floats must be finite and between 0 and 1"
            )


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an antialiased image of another size, as uint16, so that reading is repeatable.

    The triangle filter widens with the reduction (no aliasing) and cannot overshoot (no false
    edges).
    """
    image = Image.fromarray(to_float(pixels))
    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.rint(np.clip(np.asarray(image, dtype=np.float64), 0, 1) * 65535).astype(np.uint16)
