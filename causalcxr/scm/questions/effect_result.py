"""The result of an effect: two cohorts, the difference row by row, a table with errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.figure import Page
from causalcxr.common.result import Shown
from causalcxr.graph.graph import Graph
from causalcxr.scm.questions.effect_plot import page

__all__ = ["Effect", "clustered_mean", "features"]


@dataclass(frozen=True, eq=False)
class Effect(Shown):
    """The twins of each record under an action and under its baseline, and their difference.

    Args:
        active: The twins under the action, as far as the kind of effect passes it on.
        baseline: The twins under the baseline; the records themselves without a baseline.
        recanting: For each outcome, the variables that affect it both with and without the action,
            see `recanting_witnesses`; the means of these outcomes depend on the form of the
            equations and on the coupling. Empty for total effects.
        about: The settings of the question as JSON, for a manifest.
        before: The baseline as numbers, see `differences`; shape (n,) each.
        after: The same under the action.
    """

    active: Cohort
    baseline: Cohort
    recanting: Mapping[str, tuple[str, ...]]
    about: Mapping[str, Any]
    before: Mapping[tuple[str, str], np.ndarray]
    after: Mapping[tuple[str, str], np.ndarray]

    @property
    def differences(self) -> pd.DataFrame:
        """Active minus baseline, row by row, NaN where either is missing.

        The columns are (variable, level): numbers have the level "" and their unit; for levels it
        is the difference of the indicators, -1, 0 or 1.
        """
        table = {key: self.after[key] - self.before[key] for key in self.before}
        frame = pd.DataFrame(table, index=self.active.index)
        frame.columns = pd.MultiIndex.from_tuples(list(table), names=["variable", "level"])
        return frame

    @property
    def table(self) -> pd.DataFrame:
        """The effect on every variable, one row per continuous variable and per level.

        Columns: `variable`, `level` ("" for numbers); `n`, the rows observed in both twins;
        `baseline` and `active`, the mean or P(level); `change` and its standard error `se`;
        `changed`, the share of rows whose value differs, and its `changed_se`. Standard errors are
        those of the mean over patients: records and draws of one patient form a cluster. They do
        not include the uncertainty of the fitted equations.
        """
        patient = pd.factorize(self.active.patients)[0]
        # A variable changes if any of its levels does.
        moved: dict[str, np.ndarray] = {}
        for (name, _), after in self.after.items():
            differs = _where_observed(after != self.before[name, _], after, self.before[name, _])
            moved[name] = np.fmax(moved.get(name, differs), differs)
        rows = []
        for (name, level), after in self.after.items():
            # Compare only where both sides are observed.
            before = _where_observed(self.before[name, level], after, self.before[name, level])
            change, se = clustered_mean(after - before, patient)
            share, share_se = clustered_mean(moved[name], patient)
            observed = ~np.isnan(before)
            mean = [
                clustered_mean(column[observed], patient[observed])[0]
                for column in (before, after)
            ]
            rows.append((name, level, int(observed.sum()), *mean, change, se, share, share_se))
        columns = ["variable", "level", "n", "baseline", "active"]
        return pd.DataFrame(rows, columns=[*columns, "change", "se", "changed", "changed_se"])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The effect, and the differences record by record, as they are written."""
        return {"effect": self.table, "record by record": self.differences}

    @property
    def heading(self) -> str:
        """The question, in one line."""
        return self.words

    def summary(self) -> pd.DataFrame:
        """Return one row per continuous variable and level that changes in some record.

        The first of two levels is left out, as it is one minus the other.
        """
        table = self.table
        first = ~table.duplicated("variable")
        two = table.groupby("variable")["level"].transform("size") == 2
        kept = table[(table["changed"] > 0) & ~(first & two & (table["level"] != ""))]
        columns = ["n", "baseline", "active", "change", "se", "changed"]
        return kept.set_index(["variable", "level"])[columns]

    def plot(self, path: str | Path | None = None) -> Page:
        """Draw the change of the probability of each level that changes, with 95 % intervals.

        Args:
            path: A file to write the picture to, PNG.
        """
        drawn = page(self.table, self.words, list(self.about["action"]["do"]), self.recanting)
        return drawn.written(path)

    @property
    def words(self) -> str:
        """The question, such as `total effect of do(Sex=M) against the facts, 24 rows`."""
        about = self.about
        kind = "path-specific" if about["kind"] == "path" else about["kind"]
        against = about["baseline_words"] or "the facts"
        return f"{kind} effect of {about['words']} against {against}, {len(self.active):,} rows"

    def __repr__(self) -> str:
        about = self.about
        baseline = about["baseline_words"] or "as observed"
        return f"Effect({about['kind']}, {about['words']} against {baseline}: {self.active!r})"


def features(graph: Graph, columns: Mapping[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Return numbers as they are, and an indicator per level; NaN where missing.

    Args:
        graph: Declares the columns.
        columns: Shape (n,) each: numbers, or positions of levels.

    Returns:
        (variable, level) -> read-only column (n,); numbers have the level "".

    Example:
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> features(graph, {"Sex": np.array([1.0, np.nan])})["Sex", "M"].tolist()
        [1.0, nan]
    """
    result = {}
    for name in graph.tabular:
        column = columns[name]
        for position, level in enumerate(graph[name].levels):
            result[name, level] = _where_observed((column == position) * 1.0, column)
        if not graph[name].is_discrete:
            result[name, ""] = column.copy()
    # Results are shared: protect them from being changed.
    for column in result.values():
        column.flags.writeable = False
    return result


def _where_observed(values: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Return values, NaN in the rows where a column is missing."""
    missing = np.isnan(np.stack(columns)).any(0)
    return np.where(missing, np.nan, values)


def clustered_mean(values: np.ndarray, patient: np.ndarray) -> tuple[float, float]:
    """Return the mean of observed values, and its standard error, clustered by patient."""
    observed = ~np.isnan(values)
    if not observed.any():
        return np.nan, np.nan
    values, cluster = values[observed], pd.factorize(patient[observed])[0]
    mean, clusters = values.mean(), cluster.max() + 1
    if clusters == 1:
        return float(mean), np.nan
    # Sums of residuals per patient, with the correction for a finite number of clusters.
    sums = np.bincount(cluster, values - mean)
    return float(mean), float(np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / len(values))
