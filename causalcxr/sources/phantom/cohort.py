"""The phantom population as a cohort, and its true counterfactuals."""

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
from causalcxr.sources.phantom.population import sample_noise, structural_equations

__all__ = ["PhantomImages", "load", "recognises", "truth"]

_BATCH = 64
_MOST_CACHED = 2**29


@lru_cache(maxsize=1)
def _graph() -> Graph:
    return Graph.load("cxr7")


class PhantomImages(Images):
    """Films that are computed when they are asked for, and kept as 8 bits a pixel.

    Args:
        columns: Level positions and years of the variables, each (n,).
        draws: The exogenous numbers of the records.
        size: Pixels along each side.
    """

    def __init__(self, columns: dict[str, np.ndarray], draws: Draws, size: int) -> None:
        super().__init__(np.ones(len(draws), dtype=bool))
        self.columns, self.draws, self._size = columns, draws, size
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
        columns = {name: column[rows] for name, column in self.columns.items()}
        chosen = PhantomImages(columns, self.draws.rows(rows), self._size)
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
    columns: dict[str, np.ndarray] = {}
    for name, equation in structural_equations().items():
        columns[name] = fixed[name] if name in fixed else equation(noise.get(name), columns)
    return columns


def recognises(path: Path) -> bool:
    """A phantom is made, not found: no path is one."""
    return False


def load(path: Path | None = None, *, n: int = 2000, seed: int = 0, size: int = 64) -> Cohort:
    """Draw a phantom cohort.

    Args:
        path: Not used: phantoms come from nowhere.
        n: Number of patients, one radiograph each. The first k of n are the k of a smaller cohort.
        seed: Of variables, anatomy and detector alike.
        size: Pixels along each side, 32 to 512.

    Example:
        >>> cohort = load(n=4, seed=0)
        >>> cohort.images[:2].shape
        (2, 1, 64, 64)
    """
    if n < 1 or not 32 <= size <= 512:
        raise CohortError(f"phantom: n={n}, size={size}; n must be at least 1 and size 32 to 512")
    index = pd.RangeIndex(n, name="record")
    draws = Draws(record_keys(index), seed)
    columns = _predict(sample_noise(draws), {})
    return Cohort.from_columns(
        _graph(), columns, index, images=PhantomImages(columns, draws, size), source="phantom"
    )


def truth(cohort: Cohort, intervention: Intervention) -> Cohort:
    """Return the true twins of phantoms: the known equations and the known noise under an intervention.

    Args:
        cohort: Phantoms as `load` drew them, or some of them.
        intervention: What is done, see `causalcxr.do`.

    Raises:
        CohortError: If the cohort's images are not phantoms, so that their noise is not known.
    """
    films = cohort.images
    if not isinstance(films, PhantomImages):
        raise CohortError(f"truth: the images come from {cohort.source!r}; only phantoms know their noise")
    fixed = intervention.bind(_graph()).values(films.columns)
    columns = _predict(sample_noise(films.draws), fixed)
    twins = cohort.with_columns(_graph(), columns)
    return twins.with_images(PhantomImages(columns, films.draws, films.size[0]))
