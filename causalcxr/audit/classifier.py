"""The interface of a classifier: one probability per record, checked."""

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
        name: Name in reports.
        target: The variable that it predicts, if known.
        outputs: `probability`, or `logit`, which is converted to a probability.

    Attributes:
        reads_images: Whether it reads the radiographs.
        scores_any: Whether it can score any record, such as new twins.
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
            ClassifierError: If it does not return one probability per record.
            CohortError: If it reads images and a record has none.
        """
        cohort = as_cohort(cohort)
        raw = self._raw(cohort)
        if self.outputs == "logit":
            raw = expit(as_numbers(raw, self.name))
        return checked_scores(raw, len(cohort), self.name)

    def in_world(self, world: str) -> "Classifier | None":
        """Return the classifier for a world (factual, twin, null, direct, validation).

        A classifier that can score any record is the same in all worlds; a table of scores may
        have some worlds only: None for the others.
        """
        return self

    @abstractmethod
    def _raw(self, cohort: Cohort) -> np.ndarray:
        """Return the output of the classifier for each record."""

    def __repr__(self) -> str:
        of = f" of {self.target}" if self.target else ""
        return f"{type(self).__name__}({self.name!r}{of})"


def checked_scores(scores: Any, n: int, name: str) -> np.ndarray:
    """Return scores as float64; anything but probabilities is refused.

    Args:
        scores: The output of a classifier.
        n: Number of records.
        name: The classifier's name, for messages.

    Raises:
        ClassifierError: If there is not one per record, or one is not finite or not in [0, 1].

    Example:
        >>> checked_scores([0.5, 2.0], 2, "net")
        Traceback (most recent call last):
        causalcxr.common.errors.ClassifierError: classifier 'net': scores range from 0.5 to 2, \
not from 0 to 1; if these are logits, give outputs='logit'
    """
    values = as_numbers(scores, name)
    # A single output of shape (n, 1) is accepted; several are ambiguous.
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n,):
        raise ClassifierError(
            f"classifier {name!r}: scores have shape {values.shape} for {n} records; return one "
            "per record, or give column= to choose one of several"
        )
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise ClassifierError(
            f"classifier {name!r}: the score at position {row} is {values[row]}; check its weights"
        )
    # Logits taken for probabilities would make every threshold meaningless.
    if n and not (values.min() >= 0 and values.max() <= 1):
        raise ClassifierError(
            f"classifier {name!r}: scores range from {values.min():.3g} to {values.max():.3g}, "
            "not from 0 to 1; if these are logits, give outputs='logit'"
        )
    return values
