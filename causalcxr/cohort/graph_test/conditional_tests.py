"""Tests of conditional independence for mixed types, missing values and clustered records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtr, chdtrc, chndtrinc

from causalcxr.cohort.graph_test.features import VariableFeatures, conditioning_basis
from causalcxr.cohort.graph_test.statements import Statement

__all__ = ["ConditionalTests", "Outcome"]

_FEWEST = 50  # patients
_EXPECTED = 5.0  # records, in each cell of a table of two levels
_HALF = 1.959964  # of a 95 % interval of a standard normal
_DETERMINED = 1e-6  # share of the variance that the conditioning set leaves


class Outcome(NamedTuple):
    """The outcome of one test; NaN where `reason` says why there is none.

    Args:
        n: The number of complete records.
        statistic: Chi-square under independence.
        df: Its degrees of freedom.
        p: The p-value.
        effect: The partial correlation, corrected for its expectation under independence.
        low: The lower end of its interval (95 %).
        high: The upper end.
        observed: Where both variables have two levels: the records in the cell of both rarer
            levels.
        expected: The same number under independence.
        reason: Why the data cannot answer.
    """

    n: int = 0
    statistic: float = np.nan
    df: int = 0
    p: float = np.nan
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    observed: float = np.nan
    expected: float = np.nan
    reason: str = ""


class ConditionalTests:
    """Test statements on one set of records; every outcome is computed once.

    Both variables are regressed on functions of the conditioning set. Under independence the
    products of their residuals have mean zero, if one of the two regressions is right (a
    generalised covariance measure: Shah & Peters, 2020). Their covariance is that under
    independence, plus what the records of one patient share.

    Args:
        features: The features of each variable; None for a constant one.
        patients: The patient of each record, shape (n,), integers.
        unrecorded: The variables without data, for reasons.

    References:
        Shah & Peters, The hardness of conditional independence testing and the generalised
        covariance measure, arXiv:1804.07203.
    """

    def __init__(
        self,
        features: Mapping[str, VariableFeatures | None],
        patients: np.ndarray,
        unrecorded: Sequence[str] = (),
    ) -> None:
        self.features, self.unrecorded = dict(features), tuple(unrecorded)
        self.patients = np.asarray(patients)
        self.missing = {k: each.missing for k, each in self.features.items() if each is not None}
        self.incomplete = {k for k, each in self.missing.items() if each.any()}
        self.outcomes: dict[tuple, Outcome] = {}

    def test(self, statements: Iterable[Statement]) -> list[Outcome]:
        """Return the outcome of each statement.

        Example:
            >>> from causalcxr.cohort.graph_test.features import features_of
            >>> from causalcxr.graph import Variable
            >>> a = np.random.default_rng(0).integers(0, 2, (2, 400)).astype(float)
            >>> names = dict(zip("AB", a))
            >>> each = {k: features_of(Variable(k, "binary"), v) for k, v in names.items()}
            >>> tests = ConditionalTests(each, np.arange(400))
            >>> tests.test([Statement("A", "B", ())])[0].p > 0.05
            True
        """
        statements = list(statements)
        # Statements on the same records with the same conditioning set share one regression.
        groups: dict[tuple, list[Statement]] = {}
        for each in statements:
            if each.key not in self.outcomes and not self._refuse(each):
                names = {each.child, each.other, *each.given}
                key = (each.given, frozenset(names & self.incomplete))
                groups.setdefault(key, []).append(each)
        for (given, incomplete), group in groups.items():
            self._test_group(given, incomplete, group)
        return [self.outcomes[each.key] for each in statements]

    def _refuse(self, statement: Statement) -> bool:
        """Record why a statement cannot be tested, if so."""
        reason = ""
        if statement.given is None:
            names = ", ".join(self.unrecorded)
            reason = f"no set of recorded variables separates them; not recorded: {names}"
        else:
            constant = [n for n in (statement.child, statement.other) if self.features[n] is None]
            if constant:
                reason = f"{constant[0]} has one value only"
        if reason:
            self.outcomes[statement.key] = Outcome(reason=reason)
        return bool(reason)

    def _test_group(
        self, given: Sequence[str], incomplete: frozenset[str], group: Sequence[Statement]
    ) -> None:
        keep = np.ones(len(self.patients), dtype=bool)
        for name in incomplete:
            keep &= ~self.missing[name]
        rows = np.flatnonzero(keep)
        # Sorted by patient, so that sums over a patient are sums over neighbours.
        rows = rows[np.argsort(self.patients[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(self.patients[rows], prepend=-1))
        if len(starts) < _FEWEST:
            reason = f"{len(starts)} patients have all values; {_FEWEST} are needed"
            for each in group:
                self.outcomes[each.key] = Outcome(len(rows), reason=reason)
            return
        present = [self.features[name] for name in given if self.features[name] is not None]
        regression = _BasisRegression(*conditioning_basis(present, rows, len(starts)), starts)
        names = sorted({name for each in group for name in (each.child, each.other)})
        residuals = {name: regression.residuals(self.features[name], rows) for name in names}
        for each in group:
            self.outcomes[each.key] = regression.outcome(
                residuals[each.child], residuals[each.other]
            )


@dataclass(frozen=True)
class _Residuals:
    """What a conditioning set leaves of a variable.

    Args:
        features: Its features.
        values: The tested features, shape (n, k).
        rest: Their residuals, shape (n, k).
        squares: The coefficients of the products of residuals, shape (p, k, k).
        shared: The sum of products over two records of a patient, shape (k, k).
    """

    features: VariableFeatures
    values: np.ndarray
    rest: np.ndarray
    squares: np.ndarray
    shared: np.ndarray

    def part(self, columns: Sequence[int]) -> "_Residuals":
        at = np.ix_(columns, columns)
        squares = self.squares[:, at[0], at[1]]
        return _Residuals(
            self.features, self.values[:, columns], self.rest[:, columns], squares, self.shared[at]
        )

    @property
    def is_discrete(self) -> bool:
        return bool(self.features.levels)

    @property
    def fitted(self) -> np.ndarray:
        return self.values - self.rest


class _BasisRegression:
    """Least squares on the basis of one conditioning set."""

    def __init__(self, basis: np.ndarray, joint: np.ndarray, starts: np.ndarray) -> None:
        self.joint, self.starts, self.n = joint, starts, len(joint)
        counts = np.bincount(joint, minlength=len(basis))
        sizes = np.diff(starts, append=self.n).astype(np.float64)
        self.pairs = float((sizes * (sizes - 1)).sum())  # of two records of one patient
        values, vectors = np.linalg.eigh(basis.T @ (basis * counts[:, None]) / self.n)
        keep = values > 1e-9 * values[-1]
        self.rank = int(keep.sum())
        # Orthonormal over the records; one row for each joint value.
        self.basis = basis @ (vectors[:, keep] / np.sqrt(values[keep] * self.n))

    def residuals(self, features: VariableFeatures, rows: np.ndarray) -> _Residuals:
        values = features.tested[rows]
        rest = values - (self.basis @ self._project(values))[self.joint]
        k = rest.shape[1]
        products = (rest[:, :, None] * rest[:, None, :]).reshape(self.n, k * k)
        squares = self._project(products)
        shared = self._shared(rest, products.sum(axis=0).reshape(k, k))
        return _Residuals(features, values, rest, squares.reshape(-1, k, k), shared)

    def _project(self, values: np.ndarray) -> np.ndarray:
        """Return the inner products of columns with the basis, shape (rank, k)."""
        m = len(self.basis)
        sums = [np.bincount(self.joint, weights=each, minlength=m) for each in values.T]
        return self.basis.T @ np.stack(sums, axis=1)

    def _shared(self, values: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the sum over pairs of records of one patient, symmetric."""
        if not self.pairs:
            return np.zeros_like(own)
        sums = np.add.reduceat(values, self.starts, axis=0)
        return sums.T @ sums - own

    def outcome(self, x: _Residuals, y: _Residuals) -> Outcome:
        """Return the test of independence of two variables given the basis."""
        for each in (x, y):
            left = (each.rest**2).mean(axis=0)
            if (left < _DETERMINED * each.values.var(axis=0)).all():
                name = each.features.name
                return Outcome(self.n, reason=f"{name} is determined by the conditioning set")
        x, y, reason = self._enough(x, y)
        if reason:
            return Outcome(self.n, reason=reason)
        covariance, inflation = self._covariance(x, y)
        sums = (x.rest.T @ y.rest).ravel()
        keep, statistic = _quadratic(sums, covariance)
        p = float(chdtrc(keep, statistic))
        low, effect, high = _effect(statistic, keep, self.n / inflation)
        observed, expected = self._cell(x, y)
        return Outcome(self.n, statistic, keep, p, effect, low, high, observed, expected)

    def _covariance(self, x: _Residuals, y: _Residuals) -> tuple[np.ndarray, float]:
        """Return the covariance of the sums of products, and the design effect of patients.

        With r and s the residuals and H the projection on the basis, the part of single records
        is r_k r_l' H s_m s_n, the variance under independence. It does not count how many
        products are large in this sample, which is too few if two rare levels never meet.
        """
        a, b = x.rest.shape[1], y.rest.shape[1]
        single = np.einsum("pkl,pmn->kmln", x.squares, y.squares).reshape(a * b, a * b)
        single *= self.n / (self.n - self.rank)
        if not self.pairs:
            return single, 1.0
        products = (x.rest[:, :, None] * y.rest[:, None, :]).reshape(self.n, a * b)
        observed = self._shared(products, products.T @ products)
        # Under independence pairs of records share what the two variables share by themselves.
        assumed = np.einsum("kl,mn->kmln", x.shared, y.shared).reshape(a * b, a * b) / self.pairs
        root = _inverse_root(single)
        assumed, observed = (root @ each @ root.T for each in (assumed, observed))
        extra = _positive(assumed)
        extra = extra + _positive(observed - extra)
        inflation = 1 + float(np.trace(extra)) / max(len(root), 1)
        back = np.linalg.pinv(root)
        return single + back @ extra @ back.T, inflation

    def _enough(self, x: _Residuals, y: _Residuals) -> tuple[_Residuals, _Residuals, str]:
        """Leave out levels with too few expected records; say so if none is left."""
        while True:
            counts = self._expected(x, y)
            at = np.unravel_index(np.argmin(counts), counts.shape)
            if counts[at] >= _EXPECTED:
                return x, y, ""
            wide = [
                x.rest.shape[1] if x.is_discrete else 1,
                y.rest.shape[1] if y.is_discrete else 1,
            ]
            if max(wide) == 1:
                names = " and ".join(
                    f"{each.features.name} {each.features.levels[0]}"
                    for each in (x, y)
                    if each.is_discrete
                )
                return x, y, f"{names}: {max(counts[at], 0):.1f} records expected, 5 are needed"
            if wide[0] >= wide[1]:
                x = x.part([k for k in range(wide[0]) if k != at[0]])
            else:
                y = y.part([k for k in range(wide[1]) if k != at[1]])

    def _expected(self, x: _Residuals, y: _Residuals) -> np.ndarray:
        """Return the fewest records expected in a cell of each two levels."""
        if x.is_discrete and y.is_discrete:
            p, q = x.fitted, y.fitted
            both, px, qy = p.T @ q, p.sum(axis=0)[:, None], q.sum(axis=0)[None]
            return np.minimum.reduce([both, px - both, qy - both, self.n - px - qy + both])
        if x.is_discrete or y.is_discrete:
            discrete = x if x.is_discrete else y
            count = discrete.values.sum(axis=0) / 2
            counts = np.minimum(count, self.n / 2 - count)
            return counts[:, None] if x.is_discrete else counts[None]
        return np.full((1, 1), np.inf)

    def _cell(self, x: _Residuals, y: _Residuals) -> tuple[float, float]:
        if not (x.is_discrete and y.is_discrete and x.rest.shape[1] == y.rest.shape[1] == 1):
            return np.nan, np.nan
        observed = float(x.values[:, 0] @ y.values[:, 0])
        return observed, observed - float(x.rest[:, 0] @ y.rest[:, 0])


def _quadratic(sums: np.ndarray, covariance: np.ndarray) -> tuple[int, float]:
    """Return the rank of a covariance and the quadratic form of its pseudo-inverse."""
    root = _inverse_root(covariance)
    return len(root), float(((root @ sums) ** 2).sum())


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    """Return W with W M W' = 1, shape (rank, k)."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    keep = values > 1e-6 * values[-1]
    return (vectors[:, keep] / np.sqrt(values[keep])).T / scale


def _positive(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def _effect(statistic: float, df: int, records: float) -> tuple[float, float, float]:
    """Return the lower end, the estimate and the upper end of a partial correlation.

    The statistic is a noncentral chi-square whose noncentrality is records times the square.
    """
    if statistic < 200:
        below = chdtr(df, statistic)
        low = float(chndtrinc(statistic, df, 0.975)) if below > 0.975 else 0.0
        high = float(chndtrinc(statistic, df, 0.025)) if below > 0.025 else 0.0
    else:  # its root is close to normal
        ends = (np.sqrt(statistic) - _HALF, np.sqrt(statistic) + _HALF)
        low, high = (max(0.0, end**2 - df + 1) for end in ends)
    middle = max(0.0, statistic - df)
    return tuple(min(1.0, float(np.sqrt(each / records))) for each in (low, middle, high))
