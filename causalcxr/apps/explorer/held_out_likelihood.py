"""The likelihood of held-out records under two models, equation by equation."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalcxr.scm.questions.effect_result import clustered_mean
from causalcxr.scm.scm import SCM
from causalcxr.scm.training_data import TrainingData

__all__ = ["HeldOutLikelihood", "held_out"]


@dataclass(frozen=True)
class HeldOutLikelihood:
    """Compare the log-likelihood of held-out values under two models.

    Args:
        split: The split of the records: `test`, or `val` if the cohort has no test split. The
            validation records were used for early stopping.
        records: How many records.
    """

    split: str
    records: int
    _table: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each variable whose equation differs.

        Columns: `before` and `after`, mean log-likelihood of a value in nats; `difference`, after
        minus before; `error`, the standard error of the difference for independent patients; `n`,
        the values that are possible under both; `impossible_before` and `impossible_after`, how
        many values have probability zero under a model.
        """
        return self._table.copy()


def held_out(before: SCM, after: SCM, data: TrainingData) -> HeldOutLikelihood:
    """Return the likelihood of held-out values under each equation that differs.

    Args:
        before: A fitted model.
        after: Another, of the same variables.
        data: The training data of the later model; its test split is used, or else its
            validation records.

    Raises:
        CohortError: If a graph lacks a value of the records.
        ModelError: If a model is not fitted.
    """
    splits = data.cohort.splits
    tested = np.flatnonzero(np.asarray(splits) == "test") if splits is not None else data.val[:0]
    # Validation records only without a test split: early stopping has seen them.
    split, rows = ("test", tested) if len(tested) else ("val", data.val)
    records = data.cohort.at(rows).with_images(None)
    names = [n for n in after.graph.tabular if n in after.fitted and n in before.fitted]
    # Only equations that differ: equal ones have equal likelihoods.
    names = [n for n in names if after.fitted[n].hash != before.fitted[n].hash]
    columns = ["before", "after", "difference", "error", "n"]
    columns += ["impossible_before", "impossible_after"]
    if not names or not len(records):
        return HeldOutLikelihood(split, len(records), pd.DataFrame(index=names, columns=columns))
    one, two = (model.log_prob(records)[names].to_numpy() for model in (before, after))
    # Errors are over patients, whose records are not independent.
    patients = pd.factorize(records.patients)[0]
    cells = {n: _row(one[:, k], two[:, k], patients) for k, n in enumerate(names)}
    table = pd.DataFrame.from_dict(cells, orient="index", columns=columns)
    return HeldOutLikelihood(split, len(records), table.rename_axis("variable"))


def _row(one: np.ndarray, two: np.ndarray, patients: np.ndarray) -> list[float]:
    # Values that are impossible under a model are counted, not averaged.
    both = np.isfinite(one) & np.isfinite(two)
    difference = two[both] - one[both]
    means = [each[both].mean() if both.any() else np.nan for each in (one, two)]
    change, error = clustered_mean(difference, patients[both])
    impossible = [int(np.isneginf(each).sum()) for each in (one, two)]
    return [*means, change, error, int(both.sum()), *impossible]
