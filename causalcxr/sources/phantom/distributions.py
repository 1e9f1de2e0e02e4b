"""The forms of the phantom's equations: each inverts a distribution function of one uniform u.

A finding is present where u < p. A view is AP, PA or LATERAL, in this order, as u passes p(AP) and
p(AP) + p(PA). So all couplings are comonotone, in the order above also for the nominal View.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

__all__ = [
    "ConditionalDistribution",
    "DiscreteDistribution",
    "FindingDistribution",
    "MarginalDistribution",
    "NoFindingRule",
    "Probability",
    "QuantileDistribution",
    "ViewDistribution",
    "largest_difference",
]

Columns = Mapping[str, np.ndarray]

_MARGIN = 1e-9  # of a cell, on either side, that abducted noise stays away from
_SCALES = {"Age": (60.0, 20.0)}  # centre and unit with which a variable enters a score


class ConditionalDistribution(Protocol):
    """One structural equation."""

    def predict(self, u: np.ndarray | None, columns: Columns) -> np.ndarray:
        """Return the value, (n,), from noise and parents."""


class DiscreteDistribution:
    """A discrete variable, whose levels are in the order in which u passes them."""

    descending = False  # whether the lowest u gives the last level

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the thresholds of u, rising: one fewer than levels."""
        raise NotImplementedError

    def predict(self, u: np.ndarray, columns: Columns) -> np.ndarray:
        """Return the position of the level, (n,)."""
        edges = self.edges(columns)
        passed = np.zeros(len(u))
        for edge in edges:
            passed += u >= edge
        return len(edges) - passed if self.descending else passed

    def cell(self, x: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the interval of u that gives level x, (n,) each."""
        edges = self.edges(columns)
        passed = (len(edges) - x if self.descending else x).astype(int)
        ends = np.stack(np.broadcast_arrays(np.zeros(len(x)), *edges, np.ones(len(x))))
        rows = np.arange(len(x))
        return ends[passed, rows], ends[passed + 1, rows]

    def abduct(self, x: np.ndarray, columns: Columns, v: np.ndarray) -> np.ndarray:
        """Return the noise at the fraction v of the cell of x, (n,); NaN where it is empty."""
        low, high = self.cell(x, columns)
        # The margin keeps rounding from moving u into a neighbouring cell.
        u = low + (_MARGIN + (1 - 2 * _MARGIN) * v) * (high - low)
        return np.where(high > low, u, np.nan)


@dataclass(frozen=True)
class QuantileDistribution:
    """A number by its quantiles, in whole units.

    Args:
        shares: Fractions of the records, rising from 0 to 1.
        values: The quantiles at these fractions.
    """

    shares: tuple[float, ...]
    values: tuple[float, ...]

    def predict(self, u: np.ndarray, columns: Columns) -> np.ndarray:
        """Return the number, (n,)."""
        return np.floor(np.interp(u, self.shares, self.values))


class MarginalDistribution(DiscreteDistribution):
    """A discrete variable without parents.

    Args:
        counts: The counts of the levels.
        descending: Whether the lowest u gives the last level.
    """

    def __init__(self, counts: list[int], descending: bool) -> None:
        self.descending = descending
        # Thresholds are cumulative shares, from the level of the lowest u on.
        shares = np.array(counts[::-1] if descending else counts, dtype=float)
        self._edges = list((shares.cumsum() / shares.sum())[:-1])

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the edges, the same for every record."""
        return self._edges


def largest_difference(p: np.ndarray, share: float) -> np.ndarray:
    """Return the largest risk difference by a cause of this share that keeps the mean at p."""
    return np.minimum(p / share, (1 - p) / (1 - share))


@dataclass(frozen=True)
class Probability:
    """A probability: sigmoid(intercept + weights . parents), and a planted effect on top.

    The planted effect adds scale * largest_difference(p) * (present - share), which keeps p
    between 0 and 1.

    Args:
        weights: Weights of the parents; age in units of twenty years from 60, others by level
            position.
        intercepts: One for all, or one for each position of `stratum`.
        stratum: The variable that selects the intercept.
        cause: The variable of the planted effect, and the position of the level that acts.
        share: The fraction of records in which the cause is present.
        scale: From 0 (no planted effect) to 1 (the strongest).
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
        """Return the probability without the planted effect, (n,) or one for all."""
        position = 0 if self.stratum is None else columns[self.stratum].astype(int)
        return expit(self.intercepts[position] + self.score(columns))

    def given(self, columns: Columns) -> np.ndarray:
        """Return the probability, (n,) or one for all."""
        p = self.base(columns)
        return self.planted(p, self.present(columns)) if self.scale else p

    def present(self, columns: Columns) -> np.ndarray:
        """Return where the cause of the planted effect is present, (n,)."""
        variable, position = self.cause
        return columns[variable] == position

    def planted(self, p: np.ndarray, present: np.ndarray | float) -> np.ndarray:
        """Return the probability with the planted effect from that without."""
        return p + self.scale * largest_difference(p, self.share) * (present - self.share)


@dataclass(frozen=True)
class FindingDistribution(DiscreteDistribution):
    """A finding: P where u is below its probability."""

    probability: Probability
    descending = True

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the probability of P."""
        return [self.probability.given(columns)]


@dataclass(frozen=True)
class ViewDistribution(DiscreteDistribution):
    """A view: the probability of AP, and the share of PA among the rest by data set."""

    probability: Probability
    pa_of_rest: np.ndarray

    def edges(self, columns: Columns) -> list[np.ndarray | float]:
        """Return the probability of AP, and that of AP or PA."""
        ap = self.probability.given(columns)
        return [ap, ap + (1 - ap) * self.pa_of_rest[columns["Dataset"].astype(int)]]


@dataclass(frozen=True)
class NoFindingRule:
    """No Finding: P where none of the pathologies is present."""

    pathologies: tuple[str, ...]

    def predict(self, u: np.ndarray | None, columns: Columns) -> np.ndarray:
        """Return 1 where no pathology is present, else 0, (n,)."""
        any_present = np.zeros(len(columns[self.pathologies[0]]), dtype=bool)
        for name in self.pathologies:
            any_present |= columns[name] == 1
        return 1.0 - any_present
