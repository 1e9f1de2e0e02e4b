"""Signal detection: sensitivity and bias of a reader, and the ROC curve of graded answers."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from causalcxr.common.percentile_interval import percentile_interval

__all__ = ["Detection", "Roc", "detection", "roc"]

_DRAWS = 10_000


@dataclass(frozen=True)
class Detection:
    """Hold how well a reader separates signal from noise, and the reader's bias.

    Args:
        hits: Signals called signal.
        signals: The number of signals.
        false_alarms: Noise called signal.
        noises: The number of noise trials.
        d_prime: Sensitivity index, 0 at chance.
        criterion: Bias, 0 if there is none; above 0 the reader calls signal too rarely.
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

    d' = (z(H) - z(F)) / s, c = -(z(H) + z(F)) / 2, with s = 1, or sqrt(2) if two images are
    compared, because two observations carry more information than one. Rates are
    (hits + 1/2) / (signals + 1), so that d' is finite for a reader without errors.

    References:
        Corrections for extreme proportions and their biasing effects on estimated values of d'
        (Hautus, 1995), doi:10.3758/BF03203619
        Signal detection theory and psychophysics (Green & Swets, 1966)

    Args:
        signal: The truth, (n,).
        called: The reader's answers, (n,).
        two: Whether two images were compared.

    Example:
        >>> reader = detection(np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0]))
        >>> reader.sensitivity, reader.specificity, round(reader.criterion, 3)
        (1.0, 0.5, -0.484)
    """
    signal, called = np.asarray(signal, dtype=bool), np.asarray(called, dtype=bool)
    signals, noises = int(signal.sum()), int((~signal).sum())
    hits, alarms = int((signal & called).sum()), int((~signal & called).sum())
    # Half an answer more on either side, so that rates of 0 and 1 stay finite.
    hit, alarm = ndtri((hits + 0.5) / (signals + 1)), ndtri((alarms + 0.5) / (noises + 1))
    # With two images the reader has two samples of evidence, so d' is divided by sqrt(2).
    d = float((hit - alarm) / (np.sqrt(2) if two else 1.0))
    return Detection(hits, signals, alarms, noises, d, float(-(hit + alarm) / 2))


@dataclass(frozen=True)
class Roc:
    """Hold the ROC curve of graded answers.

    Args:
        false_alarms: Rates from 0 to 1, one for each grade after the origin.
        hits: The rates of hits at the same points.
        area: The area under the curve, linear between points; NaN if one class is absent.
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
    """Return the empirical ROC curve, its area P(s1 > s0) + P(s1 = s0) / 2 and an interval.

    The interval resamples trials within signal and within noise, since the plan fixes their
    numbers.

    Args:
        signal: The truth, (n,).
        score: The reader's confidence in signal, (n,), on any scale.
        level: Of the interval.
        draws: The number of resamples.
        seed: Of the resamples.

    Example:
        >>> round(roc(np.array([1, 1, 0, 0]), np.array([3, 1, 1, -2])).area, 3)
        0.875
    """
    signal, score = np.asarray(signal, dtype=bool), np.asarray(score)
    # Only the counts of each grade matter, so resamples are multinomial.
    grades, codes = np.unique(score, return_inverse=True)
    counts = [np.bincount(codes[kind], minlength=len(grades)) for kind in (~signal, signal)]
    # One class only: the diagonal, without an area.
    if not all(count.sum() for count in counts):
        diagonal = np.array([0.0, 1.0])
        return Roc(diagonal, diagonal, *[float("nan")] * 3)
    shares = [count / count.sum() for count in counts]
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(c.sum(), c / c.sum(), size=draws) / c.sum() for c in counts]
    bounds = percentile_interval(_area(*drawn), level)
    # From the greatest score down, as the criterion becomes laxer.
    curves = [np.concatenate([[0.0], np.cumsum(share[::-1])]) for share in shares]
    area = float(_area(shares[0][None], shares[1][None])[0])
    return Roc(*curves, area, float(bounds.low), float(bounds.high))


def _area(noise: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the area for each row of shares by grade, (draws, grades) -> (draws,)."""
    # Noise below each grade, ties counting half.
    below = np.cumsum(noise, axis=1) - noise / 2
    return (signal * below).sum(axis=1)
