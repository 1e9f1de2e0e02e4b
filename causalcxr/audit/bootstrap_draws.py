"""Bootstrap draws: tables with intervals, and gaps between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalcxr.audit.intervals import bca
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.common.errors import CausalCXRError, nearest
from causalcxr.common.percentile_interval import Bounds, percentile_interval

__all__ = ["METHODS", "BootstrapDraws"]

METHODS = ("percentile", "bca")


@dataclass(frozen=True, eq=False)
class BootstrapDraws:
    """Hold measures of groups, in the data and in each bootstrap draw.

    Debiased figures and others whose draws are not centred at the estimate need method="bca".

    Args:
        groups: Names.
        measures: Names.
        estimate: In the data, shape (groups, measures); NaN where undefined.
        draws: Shape (draws, groups, measures).
        jackknife: Without each block of patients, shape (blocks, groups, measures), or None.
        threshold: The threshold chosen on the data.
        thresholds: The thresholds chosen in each draw, shape (draws,).
        rule: How thresholds are chosen.

    Example:
        >>> none = np.zeros((3, 2, 1))
        >>> BootstrapDraws(("F", "M"), ("tpr",), none[0], none, None, 0.5, none[:, 0, 0],
        ...       ThresholdRule.read(0.5)).gaps("F")["gap"].tolist()
        [0.0]
    """

    groups: tuple[str, ...]
    measures: tuple[str, ...]
    estimate: np.ndarray
    draws: np.ndarray
    jackknife: np.ndarray | None
    threshold: float
    thresholds: np.ndarray
    rule: ThresholdRule

    def select(self, group: str, measure: str) -> np.ndarray:
        """Return the draws of one measure of one group, (draws,)."""
        return self.draws[:, self._at("group", group), self._at("measure", measure)]

    def table(self, level: float = 0.95, method: str = "percentile") -> pd.DataFrame:
        """Return a row a group and measure.

        Args:
            level: Coverage.
            method: "percentile" or "bca".

        Returns:
            Columns `group`, `measure`, `estimate`, `se`, `low`, `high`, and `undefined`, the
            number of draws in which the figure was undefined.
        """
        bounds = self._interval(self.draws, self.estimate, self.jackknife, level, method)
        return self._rows(self.groups, "estimate", self.estimate, self.draws, bounds)

    def gaps(
        self, reference: str, level: float = 0.95, method: str = "percentile"
    ) -> pd.DataFrame:
        """Return the difference of each other group from a reference, which may overlap it.

        Returns:
            Columns `group`, `measure`, `gap`, `se`, `low`, `high`, `undefined`, and `p`,
            two-sided: 2 (b + 1) / (m + 1), where b of m draws lie across 0; at most 1.
        """
        at = self._at("group", reference)
        others = [i for i in range(len(self.groups)) if i != at]
        estimate, draws = (
            a[..., others, :] - a[..., [at], :] for a in (self.estimate, self.draws)
        )
        # The gap is taken in each draw, so groups that share patients stay correlated.
        jackknife = self.jackknife
        jackknife = None if jackknife is None else jackknife[:, others] - jackknife[:, [at]]
        bounds = self._interval(draws, estimate, jackknife, level, method)
        names = tuple(self.groups[i] for i in others)
        table = self._rows(names, "gap", estimate, draws, bounds)
        # p: twice the smaller tail; one is added so that it is never 0.
        n_defined = (~np.isnan(draws)).sum(0)
        tail = np.minimum((draws <= 0).sum(0), (draws >= 0).sum(0))
        p = np.minimum(2 * (tail + 1) / (n_defined + 1), 1)
        table["p"] = np.where(np.isnan(estimate) | (n_defined == 0), np.nan, p).ravel()
        return table

    def spread(
        self, groups: Sequence[str] | None = None, level: float = 0.95, method: str = "percentile"
    ) -> pd.DataFrame:
        """Return the range of each measure over groups: the greatest less the smallest.

        It is positive even among equal groups, because of noise alone.

        Args:
            groups: Names; by default all.
            level: Coverage.
            method: "percentile" or "bca".
        """
        at = [self._at("group", name) for name in (self.groups if groups is None else groups)]

        def span(a: np.ndarray) -> np.ndarray:
            return np.ptp(a[..., at, :], axis=-2)[..., None, :]

        jackknife = None if self.jackknife is None else span(self.jackknife)
        estimate, draws = span(self.estimate), span(self.draws)
        bounds = self._interval(draws, estimate, jackknife, level, method)
        return self._rows(("",), "spread", estimate, draws, bounds).drop(columns="group")

    def _interval(
        self,
        draws: np.ndarray,
        estimate: np.ndarray,
        jackknife: np.ndarray | None,
        level: float,
        method: str,
    ) -> Bounds:
        if method not in METHODS:
            hint = nearest(method, METHODS) or f"; methods are {', '.join(METHODS)}"
            raise CausalCXRError(f"draws: method {method!r} is unknown{hint}")
        if method == "percentile":
            return percentile_interval(draws, level)
        if jackknife is None:
            raise CausalCXRError(
                "draws: bca needs the jackknife; run the bootstrap with blocks=100"
            )
        return bca(draws, estimate, jackknife, level)

    def _rows(
        self,
        groups: Sequence[str],
        name: str,
        estimate: np.ndarray,
        draws: np.ndarray,
        bounds: Bounds,
    ) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([groups, self.measures], names=["group", "measure"])
        columns = {name: estimate, "se": _deviation(draws), "low": bounds.low}
        columns |= {"high": bounds.high, "undefined": bounds.undefined}
        flat = {key: np.asarray(value).ravel() for key, value in columns.items()}
        return pd.DataFrame(flat, index=index).reset_index()

    def _at(self, kind: str, name: str) -> int:
        names = self.groups if kind == "group" else self.measures
        if name not in names:
            hint = nearest(name, names) or f"; choose from {', '.join(names)}"
            raise CausalCXRError(f"draws: no {kind} {name!r}{hint}")
        return names.index(name)


def _deviation(draws: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the defined draws, NaN of fewer than two."""
    defined = ~np.isnan(draws)
    n_defined = defined.sum(0)
    mean = np.where(defined, draws, 0).sum(0) / np.maximum(n_defined, 1)
    squares = (np.where(defined, draws - mean, 0) ** 2).sum(0)
    return np.where(n_defined > 1, np.sqrt(squares / np.maximum(n_defined - 1, 1)), np.nan)
