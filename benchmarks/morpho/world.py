"""The equations of Morpho-MNIST, cohorts drawn from them, and true twins.

    t = 1/2 + Gamma(10, rate 5)
    i = 64 + 191 sigmoid(2 (t - 5/2) + e / 2),   e ~ N(0, 1)

Each of the ten digits is equally likely; the image shows the digit's strokes in a writer's style,
t pixels thick, at grey level i. The original uses the strokes of MNIST; ours are simulated.

By our definition a twin keeps the noise of t and of i, and the style. So under do(digit) the same
writer writes another digit with the same pen.

References:
    Deep Structural Causal Models for Tractable Counterfactual Inference (Pawlowski et al.),
    arXiv:2006.06485.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import gamma

from benchmarks.morpho.strokes import NUMBERS, SIDE, digit_lines, draw_lines
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph import Graph
from causalcxr.graph.interventions import Intervention
from causalcxr.images.images import Images, Rows

__all__ = ["GRAPH", "StrokeImages", "intensities", "load", "solve", "truth"]

GRAPH = Graph.load(Path(__file__).with_name("morpho.yaml"))
_THICKEST = 8.0  # pixels; one draw in 10^8 exceeds it, and is set to it


class StrokeImages(Images):
    """Images of digits, drawn on access as grey levels of 8 bits.

    Args:
        columns: Digit, thickness and intensity, each (n,).
        draws: The exogenous numbers of the records.
        fixed: The columns that were set by intervention, (n,) each.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        draws: Draws,
        fixed: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(np.ones(len(draws), dtype=bool), synthetic=True)
        self.columns, self.draws, self.fixed = dict(columns), draws, dict(fixed or {})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return SIDE, SIDE

    def select(self, rows: Rows) -> "StrokeImages":
        """Return the images of some of the records, without drawing them."""
        rows = self._positions(rows)
        columns, fixed = (
            {name: column[rows] for name, column in each.items()}
            for each in (self.columns, self.fixed)
        )
        return StrokeImages(columns, self.draws.rows(rows), fixed)

    def __getitem__(self, rows: Rows) -> np.ndarray:
        levels = self.grey_levels(self._positions(rows))
        return levels[:, None].astype(np.float32) / np.float32(255)

    def grey_levels(self, rows: Rows = slice(None)) -> np.ndarray:
        """Return images as grey levels, (k, H, W), uint8."""
        rows = self._positions(rows)
        digit, t, i = (self.columns[name][rows] for name in ("Digit", "Thickness", "Intensity"))
        style = self.draws.rows(rows).on("style").normal(NUMBERS)
        return np.rint(draw_lines(digit_lines(digit, style), t, i)).astype(np.uint8)

    def _pixels(self, row: int) -> np.ndarray:
        return self.grey_levels(np.array([row]))[0]


def intensities(thickness: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return grey levels of strokes, (n,), from thickness in pixels and N(0, 1) noise.

    Example:
        >>> intensities(np.array([2.5]), np.array([0.0])).tolist()
        [159.5]
    """
    return 64 + 191 * expit(2 * (thickness - 2.5) + noise / 2)


def solve(draws: Draws, fixed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return digit, thickness and intensity, each (n,), from noise and interventions.

    Args:
        draws: The exogenous numbers of the records.
        fixed: The variables that are set, (n,) each.
    """
    out = dict(fixed)
    if "Digit" not in out:
        out["Digit"] = np.floor(10 * draws.on("Digit").uniform()[:, 0])
    if "Thickness" not in out:
        t = 0.5 + gamma.ppf(draws.on("Thickness").uniform()[:, 0], 10, scale=1 / 5)
        out["Thickness"] = np.minimum(t, _THICKEST)
    if "Intensity" not in out:
        out["Intensity"] = intensities(out["Thickness"], draws.on("Intensity").normal()[:, 0])
    return {name: out[name] for name in GRAPH.tabular}


def load(n: int = 2000, seed: int = 0) -> Cohort:
    """Draw a cohort of digits; its first k records are those of a cohort of size k.

    Args:
        n: Number of digits.
        seed: Of variables and style.

    Raises:
        CohortError: If n is below 1.

    Example:
        >>> load(n=4).images[:].shape
        (4, 1, 32, 32)
    """
    if n < 1:
        raise CohortError(f"morpho: n={n}; n must be at least 1")
    index = pd.RangeIndex(n, name="record")
    draws = Draws(record_keys(index), seed)
    columns = solve(draws, {})
    images = StrokeImages(columns, draws)
    return Cohort.from_columns(GRAPH, columns, index, images, source="morpho")


def truth(cohort: Cohort, action: Intervention) -> Cohort:
    """Return the true twins: the same noise through the same equations, after an intervention.

    Args:
        cohort: Digits from `load`, a selection of them, or their true twins.
        action: The intervention, see `causalcxr.do`.

    Raises:
        CohortError: If the images were not made by `load`, so that their noise is unknown.

    Example:
        >>> from causalcxr.graph.interventions import do
        >>> set(truth(load(n=4), do(digit="7")).table["Digit"])
        {'7'}
    """
    images = cohort.images
    if not isinstance(images, StrokeImages):
        raise CohortError(
            f"truth: the images come from {cohort.source!r}; use digits from morpho, "
            "whose noise is known"
        )
    fixed = images.fixed | action.bind(GRAPH).values(images.columns)
    columns = solve(images.draws, fixed)
    twins = cohort.with_columns(GRAPH, columns)
    return twins.with_images(StrokeImages(columns, images.draws, fixed))
