"""Images that a model computes when they are read, in batches, and keeps while memory lasts."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.common.progress import progress
from causalcxr.images.images import Images
from causalcxr.images.resampling import at_a_time, both_sizes

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.scm.scm import SCM

__all__ = ["ModelImages", "calibration_of", "sizes_of", "solver_of"]

_KEPT = 2**28  # pixels of computed images that are kept: 1 GiB


class ModelImages(Images):
    """Radiographs computed by a function of row numbers.

    Args:
        compute: Row numbers (k,) -> images (k, 1, H, W); values outside [0, 1] are clipped.
        available: Which records have an image, shape (n,).
        size: Height and width in pixels.
        own: Row numbers (k,) -> which images are the patients' own radiographs and therefore not
            synthetic, (k,) bool; None if there are no patients.
        factual: The patients' own radiographs, if any; twins have their depth.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], np.ndarray],
        available: np.ndarray,
        size: tuple[int, int],
        own: Callable[[np.ndarray], np.ndarray] | None = None,
        factual: Images | None = None,
    ) -> None:
        super().__init__(available, True if own is None else None)
        self._own = own
        self._compute, self._size, self._factual = compute, size, factual
        self._kept: dict[int, np.ndarray] = {}
        self._source: ModelImages | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size

    @property
    def depth(self) -> int:
        """Bits of the grey levels."""
        return super().depth if self._factual is None else self._factual.depth

    def select(self, rows: object) -> "ModelImages":
        """Return some of the images without computing them; computed ones are shared."""
        rows = self._positions(rows)
        # The selection reads from this object, so that an image is computed once for both.
        chosen = ModelImages(
            lambda some: self[rows[some]],
            self._available[rows],
            self._size,
            lambda some: ~self._synthetic_at(rows[some]),
            self._factual,
        )
        chosen._source, chosen._computed = self, self._computed[rows]
        return chosen

    def only(self, rows: np.ndarray) -> "ModelImages":
        """Return images of the same records, available for some of them only.

        Args:
            rows: Which ones, shape (n,) bool.
        """
        chosen = ModelImages(
            lambda some: self[some],
            self._available & rows,
            self._size,
            lambda some: ~self._synthetic_at(some),
            self._factual,
        )
        chosen._source, chosen._computed = self, self._computed
        return chosen

    def forget(self) -> None:
        """Drop the computed images, here and in the images that these were selected from."""
        self._kept.clear()
        if self._source is not None:
            self._source.forget()

    def _find_synthetic(self, rows: np.ndarray) -> np.ndarray:
        return ~self._own(rows)

    def _pixels(self, row: int) -> np.ndarray:
        return self._kept[row]

    def __getitem__(self, rows: object) -> np.ndarray:
        rows = self._positions(rows)
        needed = np.unique(rows[self._available[rows]])
        todo = [row for row in needed if row not in self._kept]
        step = at_a_time(self.size)
        starts = range(0, len(todo), step)
        for start in progress(starts, "Computing", "images"):
            part = np.array(todo[start : start + step])
            images = np.clip(self._compute(part), 0, 1).astype(np.float32)
            self._kept |= dict(zip(part.tolist(), images[:, 0], strict=True))
        out = super().__getitem__(rows)
        # Large images fill the memory: the oldest are dropped, and computed again if read again.
        for row in list(self._kept)[: max(0, len(self._kept) - _KEPT // math.prod(self.size))]:
            del self._kept[row]
        return out


def solver_of(model: "SCM") -> str:
    """Return how the image's equation is solved, in words; "" if there is none."""
    name = model.graph.image
    solving = getattr(model.fitted[name].mechanism, "solving", "") if name in model.fitted else ""
    return str(solving)


def calibration_of(model: "SCM") -> list[dict[str, Any]]:
    """Return the calibrated weight of each parent of the image; [] if there are none."""
    name = model.graph.image
    mechanism = model.fitted[name].mechanism if name in model.fitted else None
    calibration = getattr(mechanism, "calibration", None)
    return [] if calibration is None else calibration.rows()


def sizes_of(model: "SCM", cohort: "Cohort") -> str:
    """Return the size of a cohort's images and twins, and that of the model; "" without images."""
    name = model.graph.image
    if not cohort.has_images or name not in model.fitted:
        return ""
    return both_sizes(cohort.images.size, model.fitted[name].mechanism.image_size)
