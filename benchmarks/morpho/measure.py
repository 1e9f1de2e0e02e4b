"""What an image of a digit shows: grey level and thickness of its strokes, and which digit it is.

The grey level is that of the plateau: the upper decile of the pixels above half of the range. The
thickness is twice the distance to the background along the ridge of that distance, in an image
enlarged four times and cut at half of the plateau; then a line, fitted on true images, takes the
rest of the error out. The digit is read by a support vector machine that true images have taught.

References:
    Morpho-MNIST (Castro et al.), arXiv:1809.10780: thickness by the distance transform, there on
    the skeleton.
    Deep Structural Causal Models (Pawlowski et al.), arXiv:2006.06485: grey levels above half of
    the range, there by their median, which edges lower where strokes are thin.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.svm import SVC

from causalcxr import Cohort
from causalcxr.common.errors import CausalCXRError

__all__ = ["Ruler", "plateau", "ridge"]

_ENLARGED = 4
_APART = 1e4  # pixels between images: no distance is one to another image
_ROWS = 64


def plateau(images: np.ndarray) -> np.ndarray:
    """Return the grey level of strokes, (n,), 0 to 255.

    Args:
        images: (n, 1, H, W), 0 to 1.

    Example:
        >>> image = np.zeros((1, 1, 8, 8)); image[..., 2:5, :] = 0.4
        >>> plateau(image).round(6).tolist()
        [102.0]
    """
    pixels = images.reshape(len(images), -1).astype(np.float64)
    half = (pixels.min(1) + pixels.max(1)) / 2
    inside = np.where(pixels >= half[:, None], pixels, np.nan)
    return 255 * np.nanquantile(inside, 0.9, axis=1)


def ridge(images: np.ndarray) -> np.ndarray:
    """Return the thickness of strokes in pixels, (n,), before it is calibrated; 0 without any."""
    levels, found = _levels(images), np.empty(len(images))
    for first in range(0, len(images), _ROWS):
        rows = slice(first, first + _ROWS)
        large = _enlarged(images[rows, 0].astype(np.float64))
        inside = large >= levels[rows, None, None] / 2
        far = ndimage.distance_transform_edt(inside, sampling=(_APART, 1, 1))
        top = inside & (far >= ndimage.maximum_filter(far, size=(1, 3, 3)))
        found[rows] = (far * top).sum((1, 2)) / np.maximum(top.sum((1, 2)), 1)
    return 2 * found / _ENLARGED


@dataclass(frozen=True, eq=False)
class Ruler:
    """Measure images of digits.

    Args:
        line: Constant and slope from `ridge` to thickness.
        reader: Tells the digit.
    """

    line: tuple[float, float]
    reader: SVC

    @classmethod
    def of(cls, cohort: Cohort) -> "Ruler":
        """Calibrate on true images, and teach the reader.

        Args:
            cohort: Digits; others than those that are to be measured.

        Raises:
            CausalCXRError: If some digit is not among them.
        """
        images, table = cohort.images[:], cohort.table
        if (kinds := table["Digit"].nunique()) < 10:
            raise CausalCXRError(f"ruler: {kinds} digits among {len(cohort)}; draw more records")
        slope, constant = np.polyfit(ridge(images), table["Thickness"], 1)
        reader = SVC(C=10.0).fit(_shown(images), table["Digit"].astype(int))
        return cls((float(constant), float(slope)), reader)

    def measured(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return digit, thickness in pixels and intensity in grey levels, each (n,).

        Args:
            images: (n, 1, 32, 32), 0 to 1.
        """
        constant, slope = self.line
        return {
            "Digit": self.reader.predict(_shown(images)),
            "Thickness": constant + slope * ridge(images),
            "Intensity": plateau(images),
        }

    def errors(self, images: np.ndarray, asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return how far images are from what was asked for, each (n,).

        Args:
            images: (n, 1, 32, 32), 0 to 1.
            asked: Digit, thickness and intensity, each (n,).

        Returns:
            Absolute errors of thickness (pixels) and intensity (grey levels); of the digit 0 where
            it is right and 1 where it is not.
        """
        found = self.measured(images)
        wrong = (found["Digit"] != np.asarray(asked["Digit"])).astype(np.float64)
        far = {name: np.abs(found[name] - asked[name]) for name in ("Thickness", "Intensity")}
        return {"Digit": wrong, **far}


def _shown(images: np.ndarray) -> np.ndarray:
    """Return images as the reader sees them: all plateaus alike, (n, pixels)."""
    return images.reshape(len(images), -1) / _levels(images)[:, None]


def _enlarged(x: np.ndarray) -> np.ndarray:
    """Return images (n, H, W), black beyond their edges, with pixels a quarter as wide."""
    zoom = (1, _ENLARGED, _ENLARGED)
    return ndimage.zoom(x, zoom, order=1, mode="grid-constant", grid_mode=True)


def _levels(images: np.ndarray) -> np.ndarray:
    """Return the plateau, 0 to 1, and one grey level where an image is empty."""
    return np.maximum(plateau(images), 1) / 255
