"""Signal detection: sensitivity and bias of a reader, and the ROC of graded answers."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

__all__ = ["Detection", "Roc", "detection", "roc"]

_DRAWS = 10_000


@dataclass(frozen=True)
class Detection:
    """Hold how well a reader tells signal from noise, and which answer they lean to.

    Args:
        hits: Signals called signal.
        signals: How many there were.
        false_alarms: Noise called signal.
        noises: How much there was.
        d_prime: Sensitivity, 0 at chance.
        criterion: Bias, 0 without; above it the reader calls signal too rarely.
    """

    hits: int
    signals: int
    false_alarms: int
    noises: int
    d_prime: float
    criterion: float

    @property
    def sensitivity(self) -> float:
        """The share of signals called signal."""
        return self.hits / self.signals if self.signals else float("nan")

    @property
    def specificity(self) -> float:
        """The share of noise called noise."""
        return 1 - self.false_alarms / self.noises if self.noises else float("nan")


def detection(signal: np.ndarray, called: np.ndarray, two: bool = False) -> Detection:
    """Return sensitivity and bias of yes-or-no answers.

    d' = (z(H) - z(F)) / s, c = -(z(H) + z(F)) / 2, with s = 1, and sqrt(2) where two images are
    compared, as two looks tell more than one. Rates are (hits + 1/2) / (signals + 1), so that a
    reader who makes no mistake has a finite d'.

    References:
        Corrections for extreme proportions and their biasing effects on estimated values of d'
        (Hautus, 1995), doi:10.3758/BF03203619
        Signal detection theory and psychophysics (Green & Swets, 1966)

    Args:
        signal: What is true, (n,).
        called: What the reader said, (n,).
        two: Whether two images were compared.

    Example:
        >>> found = detection(np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0]))
        >>> found.sensitivity, found.specificity, round(found.criterion, 3)
        (1.0, 0.5, -0.484)
    """
    signal, called = np.asarray(signal, dtype=bool), np.asarray(called, dtype=bool)
    signals, noises = int(signal.sum()), int((~signal).sum())
    hits, alarms = int((signal & called).sum()), int((~signal & called).sum())
    hit, alarm = ndtri((hits + 0.5) / (signals + 1)), ndtri((alarms + 0.5) / (noises + 1))
    d = float((hit - alarm) / (np.sqrt(2) if two else 1.0))
    return Detection(hits, signals, alarms, noises, d, float(-(hit + alarm) / 2))


@dataclass(frozen=True)
class Roc:
    """Hold the ROC of graded answers.

    Args:
        false_alarms: From 0 to 1, one point a grade and the origin.
        hits: The same of the hits.
        area: The area under the straight lines between the points; NaN where one kind is absent.
        low: The lower end of its interval.
        high: The upper end.
    """

    false_alarms: np.ndarray
    hits: np.ndarray
    area: float
    low: float
    high: float


def roc(
    signal: np.ndarray,
    score: np.ndarray,
    *,
    level: float = 0.95,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Roc:
    """Return the empirical ROC, its area P(s1 > s0) + P(s1 = s0) / 2 and an interval.

    The interval resamples trials within signal and noise, as their numbers are those of the plan.

    Args:
        signal: What is true, (n,).
        score: How sure the reader was of signal, (n,), of any scale.
        level: Of the interval.
        draws: How many resamples.
        seed: Of the resamples.

    Example:
        >>> round(roc(np.array([1, 1, 0, 0]), np.array([3, 1, 1, -2])).area, 3)
        0.875
    """
    signal, score = np.asarray(signal, dtype=bool), np.asarray(score)
    grades, codes = np.unique(score, return_inverse=True)
    counts = [np.bincount(codes[kind], minlength=len(grades)) for kind in (~signal, signal)]
    if not all(count.sum() for count in counts):
        nothing = np.array([0.0, 1.0])
        return Roc(nothing, nothing, *[float("nan")] * 3)
    shares = [count / count.sum() for count in counts]
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(c.sum(), c / c.sum(), size=draws) / c.sum() for c in counts]
    tail = (1 - level) / 2
    low, high = np.quantile(_area(*drawn), [tail, 1 - tail])
    curves = [np.concatenate([[0.0], np.cumsum(share[::-1])]) for share in shares]
    area = float(_area(shares[0][None], shares[1][None])[0])
    return Roc(*curves, area, float(low), float(high))


def _area(noise: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the area of each row of shares by grade, (draws, grades)."""
    below = np.cumsum(noise, axis=1) - noise / 2
    return (signal * below).sum(axis=1)
