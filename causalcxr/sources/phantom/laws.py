"""The forms of the phantom's equations: each is an inverse distribution function of one uniform u.

A finding is there where u < p. A view is AP, PA or LATERAL, in this order, as u passes p(AP) and
p(AP) + p(PA). So all couplings are comonotone, that of nominal View too, in the order above.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

__all__ = [
    "Chance",
    "FindingLaw",
    "Law",
    "LevelLaw",
    "NoFindingLaw",
    "QuantileLaw",
    "ShareLaw",
    "ViewLaw",
    "room",
]

Columns = Mapping[str, np.ndarray]

_MARGIN = 1e-9  # of a cell, on either side, that abducted noise stays away from
_SCALES = {"Age": (60.0, 20.0)}  # centre and unit with which a variable enters a score


class Law(Protocol):
    """One structural equation."""

    def predict(self, u: np.ndarray | None, columns: Columns) -> np.ndarray:
        """Return the value, (n,), from noise and parents."""


class LevelLaw:
    """A variable with levels, in the order in which u passes them."""

    descending = False  # whether the lowest u gives the last level

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the numbers that u is compared with, rising: one fewer than levels."""
        raise NotImplementedError

    def predict(self, u: np.ndarray, columns: Columns) -> np.ndarray:
        """Return the position of the level, (n,)."""
        edges = self.edges(columns)
        passed = np.zeros(len(u))
        for edge in edges:
            passed += u >= edge
        return len(edges) - passed if self.descending else passed

    def cell(self, x: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """Return between which u the level is x, (n,) each."""
        edges = self.edges(columns)
        passed = (len(edges) - x if self.descending else x).astype(int)
        ends = np.stack(np.broadcast_arrays(np.zeros(len(x)), *edges, np.ones(len(x))))
        rows = np.arange(len(x))
        return ends[passed, rows], ends[passed + 1, rows]

    def abduct(self, x: np.ndarray, columns: Columns, v: np.ndarray) -> np.ndarray:
        """Return the noise at the share v of the cell of x, (n,); NaN where it is empty."""
        low, high = self.cell(x, columns)
        u = low + (_MARGIN + (1 - 2 * _MARGIN) * v) * (high - low)
        return np.where(high > low, u, np.nan)


@dataclass(frozen=True)
class QuantileLaw:
    """A number by its quantiles, in whole units.

    Args:
        shares: Of the records, rising from 0 to 1.
        values: Below which that share lies.
    """

    shares: tuple[float, ...]
    values: tuple[float, ...]

    def predict(self, u: np.ndarray, columns: Columns) -> np.ndarray:
        """Return the number, (n,)."""
        return np.floor(np.interp(u, self.shares, self.values))


class ShareLaw(LevelLaw):
    """A root with levels.

    Args:
        counts: Of the levels.
        descending: Whether the lowest u gives the last level.
    """

    def __init__(self, counts: list[int], descending: bool) -> None:
        self.descending = descending
        shares = np.array(counts[::-1] if descending else counts, dtype=float)
        self._edges = list((shares.cumsum() / shares.sum())[:-1])

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the edges, the same for every record."""
        return self._edges


def room(p: np.ndarray, share: float) -> np.ndarray:
    """Return the largest risk difference by a cause of this share that keeps the mean at p."""
    return np.minimum(p / share, (1 - p) / (1 - share))


@dataclass(frozen=True)
class Chance:
    """A chance: sigmoid(intercept + weights . parents), and an arrow planted on top.

    The arrow adds scale * room(p) * (present - share), which keeps p between 0 and 1.

    Args:
        weights: Of the parents; age in twenties of years from 60, others by level position.
        intercepts: One for all, or one for each position of `stratum`.
        stratum: The variable that chooses the intercept.
        cause: The variable of the planted arrow, and the position of the level that acts.
        share: Of the records, in which the cause is present.
        scale: From 0 (no arrow) to 1 (the strongest).
    """

    weights: Mapping[str, float]
    intercepts: np.ndarray
    stratum: str | None = None
    cause: tuple[str, int] = ("", 0)
    share: float = 0.5
    scale: float = 0.0

    def score(self, columns: Columns) -> np.ndarray | float:
        """Return weights . parents, (n,)."""
        total: np.ndarray | float = 0.0
        for parent, weight in self.weights.items():
            centre, unit = _SCALES.get(parent, (0.0, 1.0))
            total = total + weight * ((columns[parent] - centre) / unit)
        return total

    def base(self, columns: Columns) -> np.ndarray:
        """Return the chance without the planted arrow, (n,) or one for all."""
        chosen = 0 if self.stratum is None else columns[self.stratum].astype(int)
        return expit(self.intercepts[chosen] + self.score(columns))

    def of(self, columns: Columns) -> np.ndarray:
        """Return the chance, (n,) or one for all."""
        p = self.base(columns)
        return self.planted(p, self.present(columns)) if self.scale else p

    def present(self, columns: Columns) -> np.ndarray:
        """Return where the cause of the planted arrow is, (n,)."""
        variable, position = self.cause
        return columns[variable] == position

    def planted(self, p: np.ndarray, present: np.ndarray | float) -> np.ndarray:
        """Return the chance with the planted arrow from that without."""
        return p + self.scale * room(p, self.share) * (present - self.share)


@dataclass(frozen=True)
class FindingLaw(LevelLaw):
    """A finding: P where u is below its chance."""

    chance: Chance
    descending = True

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the chance of P."""
        return [self.chance.of(columns)]


@dataclass(frozen=True)
class ViewLaw(LevelLaw):
    """A view: the chance of AP, and PA's share of the rest, one number a data set."""

    chance: Chance
    pa_of_rest: np.ndarray

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the chance of AP, and that of AP or PA."""
        ap = self.chance.of(columns)
        return [ap, ap + (1 - ap) * self.pa_of_rest[columns["Dataset"].astype(int)]]


@dataclass(frozen=True)
class NoFindingLaw:
    """What is P where none of the pathologies is."""

    pathologies: tuple[str, ...]

    def predict(self, u: np.ndarray | None, columns: Columns) -> np.ndarray:
        """Return 1 where none is there, else 0, (n,)."""
        found = np.zeros(len(columns[self.pathologies[0]]), dtype=bool)
        for name in self.pathologies:
            found |= columns[name] == 1
        return 1.0 - found
