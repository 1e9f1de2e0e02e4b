"""A reader of attributes that is independent of the model whose twins it judges.

Logistic regression (levels) and ridge regression (numbers) on features of radiographs. It has to
be taught by real or true images, and never by twins; how well it reads is told with it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
from causalcxr.metrics.extract import feature_batches

__all__ = ["AttributeReader", "image_features"]

_BATCH = 64
_FEW = 20  # records of a level below which nothing is learned of it
_FOLDS = 5
_PENALTIES = np.logspace(-1, 5, 13)


def image_features(cohort: Cohort) -> np.ndarray:
    """Return the bundled encoder's features of a cohort's radiographs, (n, 192).

    Raises:
        AuditError: If the cohort has no images.
    """
    if cohort.images is None:
        raise AuditError("features of images are asked for, and the cohort has none")
    if not len(cohort):
        return np.empty((0, 192))
    batches = feature_batches(cohort.images, batch=_BATCH)
    shown = progress(batches, "Reading", "images", total=len(cohort), each=_BATCH)
    return np.concatenate(list(shown)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class AttributeReader:
    """Read attributes off radiographs.

    Args:
        models: For each attribute, a fitted estimator on features.
        levels: For each attribute with levels, those it tells apart; numbers have none.
        quality: How well each attribute is read, patient by patient unseen: AUROC of levels (mean
            over pairs of them), correlation of numbers.
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
        """Teach a reader.

        Args:
            cohort: Records with true images, others than those to be audited.
            graph: Its tabular variables can be read.
            names: Which of them; by default all that vary enough.
            features: Cohort -> (n, d).

        Raises:
            AuditError: If nothing can be learned.
        """
        cohort = as_cohort(cohort)
        x, columns, models, levels, quality = features(cohort), cohort.columns(graph), {}, {}, {}
        patients = pd.factorize(cohort.patients)[0]
        for name in (
            [graph.find(n) for n in names_of(names)] if names is not None else graph.tabular
        ):
            known, variable = ~np.isnan(columns[name]), graph[name]
            y = columns[name][known]
            if variable.is_discrete:
                counts = pd.Series(y).value_counts()
                common = sorted(counts[counts >= _FEW].index.astype(int))
                if len(common) < 2:
                    continue
                rows = np.isin(columns[name], common)
                y = columns[name][rows].astype(int)
                levels[name] = tuple(variable.levels[k] for k in common)
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            else:
                if known.sum() < _FEW or y.std() == 0:
                    continue
                rows = known
                model = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
            quality[name] = _quality(model, x[rows], y, patients[rows], name in levels)
            models[name] = model.fit(x[rows], y)
        if not models:
            raise AuditError(
                f"a reader learns nothing from {len(cohort):,} records: no variable has "
                f"{_FEW} records of two levels"
            )
        return cls(models, levels, pd.Series(quality, name="quality"), features)

    def read(self, cohort: Records) -> pd.DataFrame:
        """Return what it reads: P(level) for levels, the value for numbers.

        Returns:
            One row a record; columns (variable, level), the level "" for numbers.
        """
        cohort = as_cohort(cohort)
        x = self.features(cohort)
        columns: dict[tuple[str, str], np.ndarray] = {}
        for name, model in self.models.items():
            if name not in self.levels:
                columns[name, ""] = model.predict(x)
                continue
            shares = model.predict_proba(x)
            columns |= {(name, v): shares[:, k] for k, v in enumerate(self.levels[name])}
        table = pd.DataFrame(columns, index=cohort.index)
        table.columns = pd.MultiIndex.from_tuples(list(columns), names=["variable", "level"])
        return table


def _quality(
    model: Pipeline, x: np.ndarray, y: np.ndarray, patients: np.ndarray, discrete: bool
) -> float:
    """Return the cross-validated AUROC or correlation, NaN where a fold has too few records."""
    folds = GroupKFold(min(_FOLDS, len(np.unique(patients))))
    if not discrete:
        return float(
            np.corrcoef(cross_val_predict(model, x, y, cv=folds, groups=patients), y)[0, 1]
        )
    trained = [y[train] for train, _ in folds.split(x, y, patients)]
    if any(len(np.unique(part)) < len(np.unique(y)) for part in trained):
        return float("nan")
    shares = cross_val_predict(model, x, y, cv=folds, groups=patients, method="predict_proba")
    if shares.shape[1] == 2:
        return float(roc_auc_score(y == y.max(), shares[:, 1]))
    return float(roc_auc_score(y, shares, multi_class="ovo"))
