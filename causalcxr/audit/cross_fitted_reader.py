"""The cross-fitted reader: every patient is read by a model that has never seen them.

It learns from the user's own records, which may be those that are audited: patients are divided
into folds, and the model of a fold learns from all others. A patient's records and twins are read
by the model of the patient's fold. Features that are trained on labels are cross-fitted likewise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from causalcxr.audit.attribute_reader import (
    PENALTIES,
    image_features,
    reading_table,
    training_rows,
)
from causalcxr.audit.reader_quality import (
    level_quality,
    number_quality,
    quality_table,
    readers_words,
)
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.cohort.splits import draw_folds
from causalcxr.common.errors import AuditError
from causalcxr.graph.arguments import names_of
from causalcxr.graph.graph import Graph
from causalcxr.radit.features import CrossFittedFeatures, Features

__all__ = ["CrossFittedReader"]

_FOLDS = 5
# Stronger than scikit-learn's 1: trained features fit their own training records closely.
_STRENGTH = 0.01


@dataclass(frozen=True, eq=False)
class _Fold:
    """The models of one fold, of patients outside it.

    Args:
        encoder: Cohort -> (n, d).
        models: For each attribute, an estimator on features.
        calibrations: For each attribute, an estimator on what the model gives.
    """

    encoder: Callable[[Cohort], np.ndarray]
    models: Mapping[str, Pipeline]
    calibrations: Mapping[str, Any]

    def read(self, x: np.ndarray, name: str) -> np.ndarray:
        """Return P(level) of an attribute, (n, k), or its number, (n, 1)."""
        calibration, scores = self.calibrations[name], _scores(self.models[name], x)
        if isinstance(calibration, LogisticRegression):
            return calibration.predict_proba(scores)
        return calibration.predict(scores)[:, None]


@dataclass(frozen=True, eq=False)
class CrossFittedReader:
    """Read attributes from radiographs by models that have not seen the patient.

    Args:
        folds: The models of each fold.
        levels: For each discrete attribute, the levels that it distinguishes.
        table: Quality on unseen patients, a row an attribute: `measure` (AUROC, of numbers the
            correlation), `value`, `low` and `high` (95 %, over patients), `slope` of calibration,
            `n`, `positives`, `patients`.
        seed: Seed of the folds.
        content: Hash of the features, if they were trained; "" for the bundled ones.
    """

    folds: tuple[_Fold, ...]
    levels: Mapping[str, tuple[str, ...]]
    table: pd.DataFrame
    seed: int
    content: str = ""

    @classmethod
    def fit(
        cls,
        cohort: Records,
        graph: Graph,
        names: str | Iterable[str] | None = None,
        *,
        features: CrossFittedFeatures | Callable[[Cohort], np.ndarray] = image_features,
        folds: int = _FOLDS,
        seed: int = 0,
    ) -> "CrossFittedReader":
        """Fit a reader.

        Args:
            cohort: Records with real images, which may be those to be audited; never twins.
            graph: The graph, whose tabular variables can be read.
            names: Names of the variables; by default all that vary enough.
            features: Trained features, whose folds are used; or cohort -> (n, d) for features
                that were not trained on these patients.
            folds: Folds of patients, unless the features have folds.
            seed: Seed of the folds, unless the features have one.

        Raises:
            AuditError: If no variable varies enough in every fold.
        """
        cohort, content = as_cohort(cohort), ""
        if isinstance(features, CrossFittedFeatures):
            folds, seed, content = len(features.folds), features.seed, features.content
            encoders = [_encoder(network) for network in features.folds]
        else:
            encoders = [features] * folds
        fold = draw_folds(cohort.patients, folds, seed)
        columns = cohort.columns(graph)
        names = graph.tabular if names is None else [graph.find(n) for n in names_of(names)]
        targets = {
            name: rows
            for name in names
            if (rows := _targets(graph, name, columns[name], fold)) is not None
        }
        if not targets:
            raise AuditError(
                f"attribute reader: no variable of the {len(cohort):,} records varies in each of "
                f"the {folds} folds; give more records"
            )
        models = _models(cohort, encoders, fold, targets)
        patients = pd.factorize(cohort.patients)[0]
        parts, quality = _calibrated(encoders, models, fold, targets, patients)
        levels = {
            name: tuple(graph[name].levels[k] for k in codes)
            for name, (_, _, codes) in targets.items()
            if codes is not None
        }
        return cls(parts, levels, quality, seed, content)

    @property
    def quality(self) -> pd.Series:
        """AUROC, or correlation, of each attribute on unseen patients."""
        return self.table["value"].rename("quality")

    @property
    def low(self) -> pd.Series:
        """The lower ends of their 95 % intervals."""
        return self.table["low"]

    @property
    def details(self) -> dict[str, Any]:
        """How it was trained, and the quality of each attribute in words, for manifests."""
        return {
            "folds": len(self.folds),
            "seed": self.seed,
            "features": self.content or "bundled",
            "quality": {n: readers_words(row) for n, row in self.table.to_dict("index").items()},
        }

    def read(self, cohort: Records) -> pd.DataFrame:
        """Return what it reads; each patient is read by the models that never saw them.

        Returns:
            A row a record; columns (variable, level), where the level of numbers is "".
        """
        cohort = as_cohort(cohort)
        fold = draw_folds(cohort.patients, len(self.folds), self.seed)
        columns = {
            n: np.empty((len(cohort), len(self.levels.get(n, "1")))) for n in self.table.index
        }
        for k, part in enumerate(self.folds):
            rows = np.flatnonzero(fold == k)
            if len(rows):
                x = part.encoder(cohort.at(rows))
                for name, out in columns.items():
                    out[rows] = part.read(x, name)
        return reading_table(columns, self.levels, cohort.index)


#: Rows with a common level or a number, their values, and the levels (None for numbers).
_Targets = Mapping[str, tuple[np.ndarray, np.ndarray, list[int] | None]]


def _targets(
    graph: Graph, name: str, column: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[int] | None] | None:
    """Return rows, values and levels of a variable; None if a fold could not learn it."""
    training = training_rows(graph[name], column)
    if training is None:
        return None
    rows, y, codes = training
    if codes is not None:
        # Levels are numbered from 0 in their order.
        y = np.searchsorted(codes, y)
    for k in np.unique(fold):
        outside = y[fold[rows] != k]
        enough = np.ptp(outside) > 0 if codes is None else len(np.unique(outside)) == len(codes)
        if not enough:
            return None
    return rows, y, codes


def _encoder(network: Features) -> Callable[[Cohort], np.ndarray]:
    return lambda cohort: image_features(cohort, network)


def _scores(model: Pipeline, x: np.ndarray) -> np.ndarray:
    """Return log odds of levels, (n, 1) or (n, k), or a number, (n, 1)."""
    out = model.decision_function(x) if hasattr(model, "decision_function") else model.predict(x)
    return out.reshape(len(x), -1)


def _models(
    cohort: Cohort,
    encoders: Sequence[Callable[[Cohort], np.ndarray]],
    fold: np.ndarray,
    targets: _Targets,
) -> list[dict[str, tuple[Pipeline, np.ndarray]]]:
    """Return each fold's models, of the other folds, with their scores on all records."""
    out, x, last = [], None, None
    for k, encoder in enumerate(encoders):
        # Features that were not trained on labels are the same for all folds.
        if encoder is not last:
            x, last = encoder(cohort), encoder
        part = {}
        for name, (rows, y, codes) in targets.items():
            inner = (
                RidgeCV(PENALTIES)
                if codes is None
                else LogisticRegression(C=_STRENGTH, max_iter=2000)
            )
            outside = fold[rows] != k
            model = make_pipeline(StandardScaler(), inner).fit(x[rows][outside], y[outside])
            part[name] = model, _scores(model, x[rows])
        out.append(part)
    return out


def _calibrated(
    encoders: Sequence[Callable[[Cohort], np.ndarray]],
    models: Sequence[Mapping[str, tuple[Pipeline, np.ndarray]]],
    fold: np.ndarray,
    targets: _Targets,
    patients: np.ndarray,
) -> tuple[tuple[_Fold, ...], pd.DataFrame]:
    """Calibrate the models of each fold on other folds, and measure all on unseen patients."""
    calibrations: list[dict[str, Any]] = [{} for _ in encoders]
    quality = {}
    for name, (rows, y, codes) in targets.items():
        own = fold[rows]
        # What each record's own fold, which never saw its patient, makes of it.
        scores = np.stack([part[name][1] for part in models])[own, np.arange(len(own))]
        width = 1 if codes is None else len(codes)
        read = np.empty((len(y), width))
        for k, part in enumerate(calibrations):
            inner = LinearRegression() if codes is None else LogisticRegression(max_iter=2000)
            part[name] = inner.fit(scores[own != k], y[own != k])
            here = scores[own == k]
            if len(here):
                read[own == k] = (
                    part[name].predict(here)[:, None]
                    if codes is None
                    else part[name].predict_proba(here)
                )
        people = patients[rows]
        quality[name] = (
            number_quality(read[:, 0], y, people)
            if codes is None
            else level_quality(read, y, people)
        )
    parts = (
        _Fold(encoder, {name: model for name, (model, _) in part.items()}, calibration)
        for encoder, part, calibration in zip(encoders, models, calibrations, strict=True)
    )
    return tuple(parts), quality_table(quality)
