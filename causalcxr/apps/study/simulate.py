"""Simulated readers with known accuracy, consistency and confidence, to test a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from causalcxr.apps.study.answers import ReaderAnswer
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.common.errors import StudyError

__all__ = ["Simulated", "simulate"]

_LARGEST = 0.999  # correlation
_START = datetime(2026, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Simulated:
    """Describe a simulated reader.

    Args:
        accuracy: For each presentation, between 0 and 1.
        kappa: The expected intra-rater kappa between presentations.
        shared: The share of a trial's difficulty that all readers have in common, 0 to 1; it must
            be compatible with `kappa`.
        awareness: How closely confidence follows the evidence, 0 (not at all) to 1.
        seconds: The median time per trial.
    """

    accuracy: tuple[float, ...]
    kappa: float = 0.3
    shared: float = 0.0
    awareness: float = 0.5
    seconds: float = 12.0


def simulate(
    plan: StudyPlan, readers: Sequence[Simulated], *, seed: int = 0
) -> dict[int, list[ReaderAnswer]]:
    """Return the answers of simulated readers to every question of a plan.

    In presentation p the reader r is right about trial i if z = sqrt(s) t_i + sqrt(c - s) v_ri
    + sqrt(1 - c) e_rip is below a threshold, the normal quantile of the accuracy. Here t is common
    to all readers, v to all presentations of one reader, and e is new each time. The correlation c
    is solved from kappa = 2 P(same answer) - 1, which holds if both answers are true equally often
    and the reader has no bias.

    Args:
        plan: The plan.
        readers: A description of each of its readers.
        seed: Of all random numbers.

    Raises:
        StudyError: If the descriptions do not fit the plan, or no correlation gives a kappa.

    Example:
        >>> from causalcxr.apps.study.plan import Reader, Trial
        >>> trial = Trial(("a", "b"), (True, False), ("1", "7"), {})
        >>> ada = Reader("Ada", "secret", ((0,),), ((True,),))
        >>> plan = StudyPlan("2afc", "", 0, (), (64, 64), False, (trial,), (ada,), {}, {})
        >>> [answer.choice for answer in simulate(plan, [Simulated((1.0,))])[0]]
        [1]
    """
    if len(readers) != len(plan.readers):
        raise StudyError(
            f"{len(readers)} simulated readers for {len(plan.readers)} in the plan; give one each"
        )
    # The difficulty of the trials, common to all readers.
    t = np.random.default_rng([seed, 0]).standard_normal(len(plan.trials))
    return {
        number: _answers(plan, number, reader, t, np.random.default_rng([seed, 1, number]))
        for number, reader in enumerate(readers)
    }


def _answers(
    plan: StudyPlan, number: int, reader: Simulated, t: np.ndarray, rng: np.random.Generator
) -> list[ReaderAnswer]:
    shape = (plan.presentations, len(plan.trials))
    if len(reader.accuracy) != shape[0] or not all(0 <= a <= 1 for a in reader.accuracy):
        raise StudyError(f"accuracy {reader.accuracy}: give one per presentation, from 0 to 1")
    c = _correlation(reader)
    v = rng.standard_normal(shape[1])
    e = rng.standard_normal(shape)
    # Parts common to all readers, to this reader, and new in each presentation.
    z = np.sqrt(reader.shared) * t + np.sqrt(c - reader.shared) * v
    evidence = ndtri(np.array(reader.accuracy))[:, None] - (z + np.sqrt(1 - c) * e)
    confidence = _confidence(np.abs(evidence), reader.awareness, rng)
    seconds = reader.seconds * np.exp(0.5 * rng.standard_normal(shape))
    return _recorded(plan, number, evidence > 0, confidence, seconds)


def _correlation(reader: Simulated) -> float:
    """Return the correlation between two presentations that gives the expected kappa."""
    if len(reader.accuracy) < 2:
        return max(reader.shared, 0.0)
    # Accuracies of 0 and 1 have infinite quantiles.
    first, second = np.clip(ndtri(np.array(reader.accuracy[:2])), -8, 8)

    def excess(c: float) -> float:
        """Return the kappa of a correlation minus the expected one."""
        distribution = multivariate_normal(cov=[[1, c], [c, 1]])
        both = float(distribution.cdf([first, second]))
        return 2 * (2 * both - ndtr(first) - ndtr(second) + 1) - 1 - reader.kappa

    # Kappa rises with the correlation, so the root lies between the ends.
    low, high = excess(reader.shared), excess(_LARGEST)
    if not low <= 1e-9 or not high >= 0:
        raise StudyError(
            f"kappa {reader.kappa}: accuracies {reader.accuracy} and shared {reader.shared} allow "
            f"{low + reader.kappa:.2f} to {high + reader.kappa:.2f}"
        )
    return reader.shared if low >= 0 else float(brentq(excess, reader.shared, _LARGEST))


def _confidence(evidence: np.ndarray, awareness: float, rng: np.random.Generator) -> np.ndarray:
    """Return confidences 1 to 5, equally frequent for a reader at chance."""
    # The strength of evidence as a normal variable, mixed with noise.
    follows = ndtri(np.clip(2 * ndtr(evidence) - 1, 1e-9, 1 - 1e-9))
    mixed = awareness * follows
    mixed = mixed + np.sqrt(1 - awareness**2) * rng.standard_normal(evidence.shape)
    return np.clip(np.ceil(5 * ndtr(mixed)), 1, 5).astype(int)


def _recorded(
    plan: StudyPlan, number: int, right: np.ndarray, confidence: np.ndarray, seconds: np.ndarray
) -> list[ReaderAnswer]:
    """Return the answers as the server would record them, in the reader's order."""
    reader, answers, clock = plan.readers[number], [], _START
    for step in range(plan.steps):
        shown = plan.shown(reader, step)
        cell = shown.presentation, shown.trial
        truth = 0 if plan.correct(shown, 0) else 1
        seen_ms = round(float(seconds[cell]) * 1000, 1)
        server_ms = seen_ms + 400
        clock += timedelta(milliseconds=server_ms)
        choice = truth if right[cell] else 1 - truth
        at = clock.isoformat(timespec="milliseconds")
        answers.append(ReaderAnswer(step, choice, int(confidence[cell]), seen_ms, server_ms, at))
    return answers
