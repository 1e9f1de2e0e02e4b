"""Simulated readers: answers of a known accuracy, consistency and confidence, to test a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from causalcxr.apps.study.answers import Answer
from causalcxr.apps.study.plan import Plan
from causalcxr.common.errors import StudyError

__all__ = ["Simulated", "simulate"]

_LARGEST = 0.999  # correlation
_BEGUN = datetime(2026, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Simulated:
    """Describe a reader to be simulated.

    Args:
        accuracy: Of each presentation, between 0 and 1.
        kappa: The intra-rater kappa that is expected between presentations.
        shared: How much of what makes a trial hard for this reader makes it hard for the others,
            0 to 1; it must leave room for `kappa`.
        awareness: How far confidence follows the evidence, 0 (not at all) to 1.
        seconds: The median time a trial.
    """

    accuracy: tuple[float, ...]
    kappa: float = 0.3
    shared: float = 0.0
    awareness: float = 0.5
    seconds: float = 12.0


def simulate(
    plan: Plan, readers: Sequence[Simulated], *, seed: int = 0
) -> dict[int, list[Answer]]:
    """Return the answers of simulated readers to every question of a plan.

    In presentation p the reader r is right about trial i where z = sqrt(s) t_i + sqrt(c - s) v_ri
    + sqrt(1 - c) e_rip is below its threshold, the normal quantile of the accuracy: t is what all
    readers share, v what the reader sees again, e what is new each time. The correlation c is
    solved from kappa = 2 P(same answer) - 1, which holds where either answer is true equally often
    and the reader leans to none.

    Args:
        plan: The plan.
        readers: A description of each of its readers.
        seed: Of everything that is drawn.

    Raises:
        StudyError: If descriptions do not fit the plan, or no correlation gives a kappa.

    Example:
        >>> from causalcxr.apps.study.plan import Reader, Trial
        >>> trial = Trial(("a", "b"), (True, False), ("1", "7"), {})
        >>> ada = Reader("Ada", "secret", ((0,),), ((True,),))
        >>> plan = Plan("2afc", "", 0, (), (64, 64), False, (trial,), (ada,), {}, {})
        >>> [given.choice for given in simulate(plan, [Simulated((1.0,))])[0]]
        [1]
    """
    if len(readers) != len(plan.readers):
        raise StudyError(
            f"{len(readers)} simulated readers for {len(plan.readers)}; describe each one"
        )
    t = np.random.default_rng([seed, 0]).standard_normal(len(plan.trials))
    return {
        number: _answers(plan, number, reader, t, np.random.default_rng([seed, 1, number]))
        for number, reader in enumerate(readers)
    }


def _answers(
    plan: Plan, number: int, reader: Simulated, t: np.ndarray, rng: np.random.Generator
) -> list[Answer]:
    shape = (plan.presentations, len(plan.trials))
    if len(reader.accuracy) != shape[0] or not all(0 <= a <= 1 for a in reader.accuracy):
        raise StudyError(f"accuracy {reader.accuracy}: give one a presentation, from 0 to 1")
    again = _correlation(reader)
    own = rng.standard_normal(shape[1])
    new = rng.standard_normal(shape)
    z = np.sqrt(reader.shared) * t + np.sqrt(again - reader.shared) * own
    evidence = ndtri(np.array(reader.accuracy))[:, None] - (z + np.sqrt(1 - again) * new)
    right = evidence > 0
    confidence = _confidence(np.abs(evidence), reader.awareness, rng)
    seconds = reader.seconds * np.exp(0.5 * rng.standard_normal(shape))
    return _given(plan, number, right, confidence, seconds)


def _correlation(reader: Simulated) -> float:
    """Return the correlation of two looks at one trial that gives the expected kappa."""
    if len(reader.accuracy) < 2:
        return max(reader.shared, 0.0)
    first, second = np.clip(ndtri(np.array(reader.accuracy[:2])), -8, 8)

    def missing(c: float) -> float:
        law = multivariate_normal(cov=[[1, c], [c, 1]])
        both = float(law.cdf([first, second]))
        return 2 * (2 * both - ndtr(first) - ndtr(second) + 1) - 1 - reader.kappa

    low, high = missing(reader.shared), missing(_LARGEST)
    if not low <= 1e-9 or not high >= 0:
        raise StudyError(
            f"kappa {reader.kappa}: accuracies {reader.accuracy} and shared {reader.shared} allow "
            f"{low + reader.kappa:.2f} to {high + reader.kappa:.2f}"
        )
    return reader.shared if low >= 0 else float(brentq(missing, reader.shared, _LARGEST))


def _confidence(evidence: np.ndarray, awareness: float, rng: np.random.Generator) -> np.ndarray:
    """Return 1 to 5, each as often as the others where evidence is that of chance."""
    follows = ndtri(np.clip(2 * ndtr(evidence) - 1, 1e-9, 1 - 1e-9))
    mixed = awareness * follows
    mixed = mixed + np.sqrt(1 - awareness**2) * rng.standard_normal(evidence.shape)
    return np.clip(np.ceil(5 * ndtr(mixed)), 1, 5).astype(int)


def _given(
    plan: Plan, number: int, right: np.ndarray, confidence: np.ndarray, seconds: np.ndarray
) -> list[Answer]:
    reader, given, clock = plan.readers[number], [], _BEGUN
    for step in range(plan.steps):
        shown = plan.shown(reader, step)
        at = shown.presentation, shown.trial
        truth = 0 if plan.correct(shown, 0) else 1
        taken = round(float(seconds[at]) * 1000, 1)
        clock += timedelta(milliseconds=taken + 400)
        choice = truth if right[at] else 1 - truth
        moment = clock.isoformat(timespec="milliseconds")
        given.append(Answer(step, choice, int(confidence[at]), taken, taken + 400, moment))
    return given
