"""What a classifier is to an audit: one probability a record, checked before it is believed."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from scipy.special import expit

from causalcxr.audit.classifier_outputs import as_numbers
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import ClassifierError

__all__ = ["Classifier", "checked_scores"]

_OUTPUTS = ("probability", "logit")


class Classifier(ABC):
    """Give every record of a cohort a score between 0 and 1.

    Args:
        name: What it is called in reports.
        target: The variable that it predicts, where it is one.
        outputs: `probability`, or `logit`, which is turned into one.

    Attributes:
        reads_images: Whether it looks at the radiographs.
        scores_any: Whether it can be asked about records that it has not seen, such as new twins.
    """

    reads_images = True
    scores_any = True

    def __init__(
        self, name: str, target: str | None = None, *, outputs: str = "probability"
    ) -> None:
        if outputs not in _OUTPUTS:
            raise ClassifierError(
                f"classifier {name!r}: outputs is {outputs!r}; expected {' or '.join(_OUTPUTS)}"
            )
        self.name, self.target, self.outputs = name, target, outputs

    def scores(self, cohort: Records) -> np.ndarray:
        """Return the probability of each record, (n,), float64.

        Raises:
            ClassifierError: If what it returns are no probabilities, one a record.
            CohortError: If it reads images and a record has none.
        """
        cohort = as_cohort(cohort)
        raw = self._raw(cohort)
        if self.outputs == "logit":
            raw = expit(as_numbers(raw, self.name))
        return checked_scores(raw, len(cohort), self.name)

    def in_world(self, world: str) -> "Classifier | None":
        """Return who scores the records of a world (factual, twin, null, direct, validation).

        One who can look at any record is the same in all of them; scores that were computed
        elsewhere may be there for some worlds only: None for the others.
        """
        return self

    @abstractmethod
    def _raw(self, cohort: Cohort) -> np.ndarray:
        """Return what the classifier says of each record."""

    def __repr__(self) -> str:
        of = f" of {self.target}" if self.target else ""
        return f"{type(self).__name__}({self.name!r}{of})"


def checked_scores(scores: Any, n: int, name: str) -> np.ndarray:
    """Return scores as float64, or say what is wrong with them.

    Args:
        scores: What a classifier returned.
        n: How many records were asked about.
        name: The classifier's name, for messages.

    Raises:
        ClassifierError: If they are not one a record, not finite, or not between 0 and 1.

    Example:
        >>> checked_scores([0.5, 2.0], 2, "net")
        Traceback (most recent call last):
        causalcxr.common.errors.ClassifierError: classifier 'net': scores go from 0.5 to 2, and \
probabilities from 0 to 1; where these are logits, say outputs='logit'
    """
    values = as_numbers(scores, name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n,):
        raise ClassifierError(
            f"classifier {name!r}: scores have shape {values.shape} for {n} records; return one "
            "a record, or say column= for which of several"
        )
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ClassifierError(
            f"classifier {name!r}: the score at position {row} is {values[row]}; check its weights"
        )
    if n and not (values.min() >= 0 and values.max() <= 1):
        raise ClassifierError(
            f"classifier {name!r}: scores go from {values.min():.3g} to {values.max():.3g}, and "
            "probabilities from 0 to 1; where these are logits, say outputs='logit'"
        )
    return values
