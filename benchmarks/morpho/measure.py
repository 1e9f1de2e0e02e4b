"""Measure an image of a digit: grey level and thickness of its strokes, and which digit it is.

The grey level is that of the plateau: the upper decile of the pixels above half of the range. The
thickness is twice the distance to the background along the ridge of that distance, in an image
enlarged four times and thresholded at half of the plateau; a line fitted on true images corrects
the remaining error. The digit is predicted by a support vector machine trained on true images.

References:
    Morpho-MNIST (Castro et al.), arXiv:1809.10780: thickness by the distance transform, there on
    the skeleton.
    Deep Structural Causal Models (Pawlowski et al.), arXiv:2006.06485: grey levels above half of
    the range, there by their median, which the edges of thin strokes make too low.
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
_APART = 1e4  # pixels between images, so that no distance reaches another image
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
    """Return the uncalibrated thickness of strokes in pixels, (n,); 0 for an empty image."""
    levels, result = _levels(images), np.empty(len(images))
    for first in range(0, len(images), _ROWS):
        rows = slice(first, first + _ROWS)
        large = _enlarge(images[rows, 0].astype(np.float64))
        inside = large >= levels[rows, None, None] / 2
        errors = ndimage.distance_transform_edt(inside, sampling=(_APART, 1, 1))
        top = inside & (errors >= ndimage.maximum_filter(errors, size=(1, 3, 3)))
        result[rows] = (errors * top).sum((1, 2)) / np.maximum(top.sum((1, 2)), 1)
    return 2 * result / _ENLARGED


@dataclass(frozen=True, eq=False)
class Ruler:
    """Measure images of digits.

    Args:
        line: Constant and slope from `ridge` to thickness.
        reader: Predicts the digit.
    """

    line: tuple[float, float]
    reader: SVC

    @classmethod
    def calibrate(cls, cohort: Cohort) -> "Ruler":
        """Calibrate on true images, and train the reader.

        Args:
            cohort: Digits other than those that will be measured.

        Raises:
            CausalCXRError: If one of the ten digits is missing.
        """
        images, table = cohort.images[:], cohort.table
        if (kinds := table["Digit"].nunique()) < 10:
            raise CausalCXRError(
                f"ruler: {len(cohort)} records have only {kinds} of the 10 digits; "
                "draw more records"
            )
        slope, constant = np.polyfit(ridge(images), table["Thickness"], 1)
        reader = SVC(C=10.0).fit(_normalised(images), table["Digit"].astype(int))
        return cls((float(constant), float(slope)), reader)

    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return digit, thickness in pixels and intensity in grey levels, each (n,).

        Args:
            images: (n, 1, 32, 32), 0 to 1.
        """
        constant, slope = self.line
        return {
            "Digit": self.reader.predict(_normalised(images)),
            "Thickness": constant + slope * ridge(images),
            "Intensity": plateau(images),
        }

    def errors(
        self, images: np.ndarray, target: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the errors of images, each (n,).

        Args:
            images: (n, 1, 32, 32), 0 to 1.
            target: Digit, thickness and intensity that they should have, each (n,).

        Returns:
            Absolute errors of thickness (pixels) and intensity (grey levels); for the digit 0 if
            it is correct, else 1.
        """
        result = self.measure(images)
        is_wrong = (result["Digit"] != np.asarray(target["Digit"])).astype(np.float64)
        errors = {name: np.abs(result[name] - target[name]) for name in ("Thickness", "Intensity")}
        return {"Digit": is_wrong, **errors}


def _normalised(images: np.ndarray) -> np.ndarray:
    """Return images divided by their plateaus, (n, pixels), as input of the reader."""
    return images.reshape(len(images), -1) / _levels(images)[:, None]


def _enlarge(x: np.ndarray) -> np.ndarray:
    """Return images (n, H, W), black beyond their edges, enlarged four times."""
    zoom = (1, _ENLARGED, _ENLARGED)
    return ndimage.zoom(x, zoom, order=1, mode="grid-constant", grid_mode=True)


def _levels(images: np.ndarray) -> np.ndarray:
    """Return the plateau, 0 to 1, at least one grey level."""
    return np.maximum(plateau(images), 1) / 255
