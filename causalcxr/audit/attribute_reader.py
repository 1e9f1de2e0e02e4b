"""The attribute reader: reads attributes from images, independently of the model that makes twins.

Logistic regression (levels) and ridge regression (numbers) on features of radiographs. It must be
trained on real or true images of other patients, never on twins; its cross-validated quality is
kept with it. `CrossFittedReader` can be trained on the patients that are audited.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.progress import progress
from causalcxr.graph.arguments import names_of
from causalcxr.graph.graph import Graph
from causalcxr.graph.variables import Variable
from causalcxr.images.resampling import at_a_time
from causalcxr.metrics.extract import feature_batches
from causalcxr.radit.features import Features

__all__ = ["PENALTIES", "AttributeReader", "image_features", "reading_table", "training_rows"]

_FEW = 20  # records that a level needs
_FOLDS = 5
#: Ridge penalties from weak to strong; cross-validation chooses.
PENALTIES = np.logspace(-1, 5, 13)


def image_features(cohort: Cohort, network: Features | None = None) -> np.ndarray:
    """Return the features of a cohort's radiographs, (n, 192).

    Args:
        cohort: Records with images.
        network: The encoder; by default the bundled one.

    Raises:
        AuditError: If the cohort has no images.
    """
    if cohort.images is None:
        raise AuditError("features of images: the cohort has no images; load it with images")
    if not len(cohort):
        return np.empty((0, 192))
    step = at_a_time(cohort.images.size)
    batches = feature_batches(cohort.images, network, batch=step)
    batches = progress(batches, "Reading", "images", total=len(cohort), each=step)
    return np.concatenate(list(batches)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class AttributeReader:
    """Read attributes from radiographs.

    Args:
        models: For each attribute, a fitted estimator on features.
        levels: For each discrete attribute, the levels that it distinguishes.
        quality: Cross-validated quality on unseen patients: AUROC of levels (mean over pairs of
            them), correlation of numbers.
        features: Cohort -> (n, d).
    """

    models: Mapping[str, Pipeline]
    levels: Mapping[str, tuple[str, ...]]
    quality: pd.Series
    features: Callable[[Cohort], np.ndarray] = field(default=image_features)

    @classmethod
    def fit(
        cls,
        cohort: Records,
        graph: Graph,
        names: str | Iterable[str] | None = None,
        *,
        features: Callable[[Cohort], np.ndarray] = image_features,
    ) -> "AttributeReader":
        """Fit a reader.

        Args:
            cohort: Records with real or true images, other than those to be audited.
            graph: The graph, whose tabular variables can be read.
            names: Names of the variables; by default all that vary enough.
            features: Cohort -> (n, d).

        Raises:
            AuditError: If no variable varies enough.
        """
        cohort = as_cohort(cohort)
        x, columns = features(cohort), cohort.columns(graph)
        models, levels, quality = {}, {}, {}
        # Folds are of patients, so that no patient is both trained on and tested.
        patients = pd.factorize(cohort.patients)[0]
        names = graph.tabular if names is None else [graph.find(n) for n in names_of(names)]
        for name in names:
            training = training_rows(graph[name], columns[name])
            if training is None:
                continue
            rows, y, codes = training
            if codes is None:
                model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
            else:
                levels[name] = tuple(graph[name].levels[k] for k in codes)
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            # Quality by cross-validation; the model that reads is fitted on all rows.
            quality[name] = _quality(model, x[rows], y, patients[rows], codes is not None)
            models[name] = model.fit(x[rows], y)
        if not models:
            raise AuditError(
                f"attribute reader: no variable of the {len(cohort):,} records has two levels of "
                f"{_FEW} records; give more records"
            )
        return cls(models, levels, pd.Series(quality, name="quality"), features)

    @property
    def low(self) -> pd.Series:
        """The lower end of the interval of the quality: unknown, so the quality itself."""
        return self.quality

    @property
    def details(self) -> dict[str, Any]:
        """What manifests record besides the quality: nothing."""
        return {}

    def read(self, cohort: Records) -> pd.DataFrame:
        """Return what it reads: P(level) for levels, the value for numbers.

        Returns:
            A row a record; columns (variable, level), where the level of numbers is "".
        """
        cohort = as_cohort(cohort)
        x = self.features(cohort)
        columns = {
            name: model.predict_proba(x) if name in self.levels else model.predict(x)[:, None]
            for name, model in self.models.items()
        }
        return reading_table(columns, self.levels, cohort.index)


def reading_table(
    read: Mapping[str, np.ndarray], levels: Mapping[str, tuple[str, ...]], index: pd.Index
) -> pd.DataFrame:
    """Return what a reader reads as a table.

    Args:
        read: For each attribute P(level), (n, k), or its number, (n, 1).
        levels: The k levels of discrete attributes.
        index: The records, (n,).

    Returns:
        A row a record; columns (variable, level), where the level of numbers is "".
    """
    columns = {
        (name, level): values[:, k]
        for name, values in read.items()
        for k, level in enumerate(levels.get(name, ("",)))
    }
    table = pd.DataFrame(columns, index=index)
    table.columns = pd.MultiIndex.from_tuples(list(columns), names=["variable", "level"])
    return table


def training_rows(
    variable: Variable, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[int] | None] | None:
    """Return rows, targets and common levels of a variable; None if it varies too little."""
    rows = ~np.isnan(column)
    if not variable.is_discrete:
        y = column[rows]
        return None if len(y) < _FEW or y.std() == 0 else (rows, y, None)
    counts = pd.Series(column[rows]).value_counts()
    common = sorted(counts[counts >= _FEW].index.astype(int))
    if len(common) < 2:
        return None
    # Rare levels are left out: too few examples to learn them.
    rows = np.isin(column, common)
    return rows, column[rows].astype(int), common


def _quality(
    model: Pipeline, x: np.ndarray, y: np.ndarray, patients: np.ndarray, discrete: bool
) -> float:
    """Return the cross-validated AUROC or correlation, NaN if a fold has too few records."""
    folds = GroupKFold(min(_FOLDS, len(np.unique(patients))))
    if not discrete:
        return float(
            np.corrcoef(cross_val_predict(model, x, y, cv=folds, groups=patients), y)[0, 1]
        )
    # A model that never saw a level in training cannot give its probability.
    trained = [y[train] for train, _ in folds.split(x, y, patients)]
    if any(len(np.unique(part)) < len(np.unique(y)) for part in trained):
        return float("nan")
    shares = cross_val_predict(model, x, y, cv=folds, groups=patients, method="predict_proba")
    if shares.shape[1] == 2:
        return float(roc_auc_score(y == y.max(), shares[:, 1]))
    # One against one: unlike one against the rest, it does not depend on how common levels are.
    return float(roc_auc_score(y, shares, multi_class="ovo"))
