"""The phantom population as a cohort, and its true counterfactuals.

A phantom is its variables and its noise: both are kept, the film is computed when it is asked
for. The truth under an intervention is the same noise through the same equations once more.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.images import Images
from causalcxr.interventions import Intervention
from causalcxr.noise import Draws, record_keys
from causalcxr.sources.phantom.body import Patient
from causalcxr.sources.phantom.film import render
from causalcxr.sources.phantom.population import FINDINGS, sample_noise, structural_equations

__all__ = ["PhantomImages", "load", "recognises", "truth"]

_BATCH = 64
_MOST_CACHED = 2**29  # bytes of films kept: 131,072 of 64 pixels, 32,768 of 128


@lru_cache(maxsize=1)
def _graph() -> Graph:
    return Graph.load("cxr7")


class PhantomImages(Images):
    """Films that are computed when they are asked for, and kept as 8 bits a pixel.

    Args:
        columns: Level positions and years of the variables, each (n,).
        draws: The exogenous numbers of the records.
        size: Pixels along each side.
        fixed: Those of the columns that were set by intervention, (n,) each.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        draws: Draws,
        size: int,
        fixed: dict[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(np.ones(len(draws), dtype=bool))
        self.columns, self.draws, self.fixed, self._size = columns, draws, fixed or {}, size
        few = len(draws) * size**2 <= _MOST_CACHED
        self._cache = np.empty((len(draws), size, size), np.uint8) if few else None
        self._done = np.zeros(len(draws), dtype=bool)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size, self._size

    def select(self, rows: object) -> "PhantomImages":
        """Return the films of some of the records; what has been computed is kept."""
        rows = self._positions(rows)
        columns, fixed = (
            {name: column[rows] for name, column in each.items()}
            for each in (self.columns, self.fixed)
        )
        chosen = PhantomImages(columns, self.draws.rows(rows), self._size, fixed)
        if self._cache is not None and chosen._cache is not None:
            chosen._done = self._done[rows]
            chosen._cache[chosen._done] = self._cache[rows[chosen._done]]
        return chosen

    def _pixels(self, row: int) -> np.ndarray:
        return self.grey_levels(np.array([row]))[0]

    def __getitem__(self, rows: object) -> np.ndarray:
        levels = self.grey_levels(self._positions(rows))
        return levels[:, None].astype(np.float32) / np.float32(255)

    def grey_levels(self, rows: np.ndarray) -> np.ndarray:
        """Return films as 8-bit grey levels, (k, H, W)."""
        out = np.empty((len(rows), *self.size), np.uint8)
        todo = np.flatnonzero(~self._done[rows])
        for start in range(0, len(todo), _BATCH):
            part = todo[start : start + _BATCH]
            out[part] = self._film(rows[part])
            if self._cache is not None:
                self._cache[rows[part]] = out[part]
        if self._cache is not None:
            self._done[rows] = True
            out = self._cache[rows]
        return out

    def _film(self, rows: np.ndarray) -> np.ndarray:
        columns = {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}
        film = render(Patient(columns, self.draws.rows(rows)), self._size)
        return (film[:, 0] * 255).round().byte().numpy()


def _predict(noise: dict[str, np.ndarray], fixed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return every variable by its equation, but for those that are fixed."""
    columns: dict[str, np.ndarray] = {}
    for name, equation in structural_equations().items():
        columns[name] = fixed[name] if name in fixed else equation(noise.get(name), columns)
    return columns


def recognises(path: Path) -> bool:
    """A phantom is made, not found: no path is one."""
    return False


def load(
    path: Path | None = None, *, n: int = 2000, seed: int = 0, size: int = 64, enriched: int = 0
) -> Cohort:
    """Draw a phantom cohort.

    Args:
        path: Not used: phantoms come from nowhere.
        n: Number of patients, one radiograph each. The first k of n are the k of a smaller cohort.
        seed: Of variables, anatomy and detector alike.
        size: Pixels along each side, 32 to 512.
        enriched: 1 to toss a coin for every finding of half of the records, so that an image
            equation sees rare ones often enough. Such a cohort is no sample of the population, and
            has no true twins; what its films show under their variables is the same.

    Example:
        >>> cohort = load(n=4, seed=0)
        >>> cohort.images[:2].shape
        (2, 1, 64, 64)
    """
    if n < 1 or not 32 <= size <= 512:
        raise CohortError(f"phantom: n={n}, size={size}; n must be at least 1 and size 32 to 512")
    index = pd.RangeIndex(n, name="record")
    draws = Draws(record_keys(index), seed)
    noise = sample_noise(draws)
    columns = _predict(noise, {})
    if enriched:
        columns = _predict(noise, _tossed(columns, draws))
    films = PhantomImages(columns, draws, size)
    source = "enriched phantom" if enriched else "phantom"
    return Cohort.from_columns(_graph(), columns, index, images=films, source=source)


def _tossed(columns: dict[str, np.ndarray], draws: Draws) -> dict[str, np.ndarray]:
    """Return the findings, in half of the records as they are and in the others by a coin each."""
    chosen = draws.on("phantom enriched").uniform()[:, 0] < 0.5
    coins = draws.on("phantom coins").uniform(len(FINDINGS)) < 0.5
    return {name: np.where(chosen, coins[:, k], columns[name]) for k, name in enumerate(FINDINGS)}


def truth(cohort: Cohort, intervention: Intervention) -> Cohort:
    """Return the true twins of phantoms under an intervention.

    The equations and the noise are known, so nothing is estimated. A record in which no variable
    changes keeps its image to the last bit. The truth of a truth is that of both interventions;
    the later one holds where they name the same variable.

    Args:
        cohort: Phantoms as `load` drew them, some of them, or their true twins.
        intervention: What is done, see `causalcxr.do`.

    Raises:
        CohortError: If the cohort's images are not phantoms, so that their noise is not known.
    """
    films = cohort.images
    if not isinstance(films, PhantomImages) or cohort.source.startswith("enriched"):
        raise CohortError(
            f"truth: the images come from {cohort.source!r}; only phantoms know their noise"
        )
    fixed = films.fixed | intervention.bind(_graph()).values(films.columns)
    columns = _predict(sample_noise(films.draws), fixed)
    twins = cohort.with_columns(_graph(), columns)
    return twins.with_images(PhantomImages(columns, films.draws, films.size[0], fixed))
