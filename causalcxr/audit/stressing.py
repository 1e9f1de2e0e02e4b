"""The stress test: how a classifier fares where the population differs from the one at hand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.auditing import validated
from causalcxr.audit.bootstrap import bootstrap
from causalcxr.audit.bootstrap_draws import BootstrapDraws
from causalcxr.audit.classifiers import Classifier, as_classifier
from causalcxr.audit.column_names import by_names, described, label_of
from causalcxr.audit.paired_tests import bootstrap_mean
from causalcxr.audit.shifts import InterventionShift, PopulationShift, ReweightingShift
from causalcxr.audit.smallest_flips import smallest_flips
from causalcxr.audit.stress_result import Stress
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.audit.worst_groups import worst_groups
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.percentile_interval import percentile_interval
from causalcxr.common.progress import progress
from causalcxr.common.versions import versions
from causalcxr.graph.arguments import actions_of, check_options, names_of
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.scm import SCM

__all__ = ["stress"]

_MEASURES = ("auroc", "tpr", "fpr", "ppv", "npv", "selection_rate", "calibration_debiased")


@dataclass(frozen=True, eq=False)
class _Base:
    """The records as observed: scores, labels, patients, columns, threshold."""

    scorer: Classifier
    model: SCM
    cohort: Cohort
    label: str
    scores: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    patients: np.ndarray
    threshold: float
    measures: tuple[str, ...]
    draws: int
    seed: int

    def figures(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> BootstrapDraws:
        """Return the measures of all records, with the draws of patients that all shifts share."""
        everybody = {"all": np.ones(len(scores), dtype=bool)}
        return bootstrap(
            scores,
            labels,
            everybody,
            patients=self.patients,
            weights=weights,
            threshold=self.threshold,
            measures=self.measures,
            draws=self.draws,
            seed=self.seed,
            blocks=0,
            threads=2,
        )

    def twins(self, action: Intervention) -> tuple[np.ndarray, np.ndarray]:
        """Return the twins' scores and labels, (n,) each."""
        action = action.among(self.cohort.index)
        made = self.model.counterfactual(self.cohort, action, seed=self.seed)
        return self.scorer.scores(made), made.columns(self.model.graph, beyond_range=True)[
            self.label
        ]


def stress(
    classifier: Any,
    model: SCM,
    cohort: Records,
    *,
    label: str | None = None,
    shifts: PopulationShift | Iterable[PopulationShift] = (),
    dose: tuple[str, Sequence[float]] | None = None,
    search: str | Sequence[str] = (),
    search_measure: str = "auroc",
    interventions: (
        Intervention | Mapping[str, Any] | Iterable[Intervention | Mapping[str, Any]]
    ) = (),
    by: str | Sequence[str] = (),
    threshold: ThresholdRule | float | str = "youden",
    validation: Records | None = None,
    measures: str | Sequence[str] = _MEASURES,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Stress:
    """Return how a classifier fares where the population differs.

    The threshold is chosen once, on validation patients where they are given, and frozen: a
    deployed classifier does not know that the population has changed.

    Args:
        classifier: What scores records, see `as_classifier`.
        model: A fitted model, for interventions.
        cohort: A Cohort or a DataFrame of records, with images where the classifier reads them.
        label: The variable that it predicts; by default the classifier's own target.
        shifts: One or several, see `causalcxr.audit.shifts`.
        dose: A variable and its values: dose-response under do(variable = value).
        search: Columns among whose levels and pairs of levels the worst subgroup is looked for.
        search_measure: What is worst there.
        interventions: Single questions, of which the most plausible that flips a decision is found
            for each record.
        by: Columns of the groups that are told of those flips.
        threshold: A rule or a number.
        validation: Other patients, on whom the rule chooses.
        measures: Names.
        bootstrap: Draws of patients.
        seed: Of all random numbers.

    Raises:
        AuditError: If it cannot be done as asked.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    check_options(model.graph, label=label, bootstrap=bootstrap, seed=seed)
    cohort = as_cohort(cohort)
    base = _based(
        classifier,
        model,
        cohort,
        label,
        threshold,
        validation,
        names_of(measures),
        bootstrap,
        seed,
    )
    shifts = [shifts] if isinstance(shifts, PopulationShift) else list(shifts)
    interventions = actions_of(interventions)
    asks = (
        dose is not None or interventions or any(isinstance(s, InterventionShift) for s in shifts)
    )
    if asks and not base.scorer.scores_any:
        raise AuditError(
            f"{base.scorer.name!r} is a table of scores, and new twins have none; give a "
            "classifier that can be asked, or shifts by weights and a search alone"
        )
    groups = by_names(model.graph, cohort, by)
    table = _shifted(base, shifts)
    dosed = None if dose is None else _dosed(base, *dose)
    worst = worst_groups(
        base.scores,
        base.labels,
        base.table,
        by_names(model.graph, cohort, search),
        patients=base.patients,
        threshold=base.threshold,
        measure=search_measure,
        draws=bootstrap,
        seed=seed,
    )
    flips = smallest_flips(
        base.scorer,
        model,
        base.cohort,
        interventions,
        base.scores,
        base.threshold,
        by=groups,
        seed=seed,
    )
    about = {
        "classifier": base.scorer.name,
        "label": base.label,
        "threshold": base.threshold,
        "rule": ThresholdRule.read(threshold).words,
        "shifts": [shift.name for shift in shifts],
        "dose": None if dose is None else model.graph.find(dose[0]),
        "records": len(base.cohort),
        "patients": int(base.cohort.patients.nunique()),
        "source": cohort.source,
        "graph_hash": model.graph.hash,
        "bootstrap": bootstrap,
        "seed": seed,
        "versions": versions(),
    }
    return Stress(table, dosed, worst, flips, about)


def _based(
    classifier: Any,
    model: SCM,
    cohort: Cohort,
    label: str | None,
    threshold: ThresholdRule | float | str,
    validation: Records | None,
    measures: tuple[str, ...],
    draws: int,
    seed: int,
) -> _Base:
    scorer = as_classifier(classifier, target=label)
    if not (label := label or scorer.target):
        raise AuditError("a stress test needs a label; say label=, the variable that is predicted")
    name = label_of(model.graph, label)
    if scorer.reads_images:
        cohort = cohort.with_images_only()
    known = ~np.isnan(cohort.columns(model.graph)[name])
    cohort = cohort.select(known)
    labels = cohort.columns(model.graph)[name]
    if len(np.unique(labels)) < 2:
        raise AuditError(f"label {name!r}: {len(labels):,} records of one class; give both")
    scores, rule = scorer.scores(cohort), ThresholdRule.read(threshold)
    given = validated(scorer, model.graph, name, validation)
    limit = (
        rule.choose(scores, labels) if given is None else rule.choose(given.scores, given.labels)
    )
    table = described(model.graph, cohort)[0]
    patients = cohort.patients.to_numpy()
    fields = (scores, labels, table, patients, float(limit), measures, draws, seed)
    return _Base(scorer, model, cohort, name, *fields)


def _shifted(base: _Base, shifts: Sequence[PopulationShift]) -> pd.DataFrame:
    """Return a row a shift and measure."""
    before, rows = base.figures(base.scores, base.labels), []
    positive = base.model.graph[base.label].levels[-1]
    for shift in progress(shifts, "Shifting the population", "shifts"):
        n = float(len(base.scores))
        if isinstance(shift, ReweightingShift):
            weights = shift.weights(base.table, base.labels, positive)
            after = base.figures(base.scores, base.labels, weights)
            n = float(weights.sum() ** 2 / (weights**2).sum())
        elif isinstance(shift, InterventionShift):
            after = base.figures(*base.twins(shift.action))
        else:
            raise AuditError(f"shift {shift!r}: expected ReweightingShift or InterventionShift")
        changes = after.draws - before.draws
        bounds = percentile_interval(changes[:, 0])
        told = after.table()
        told.insert(0, "shift", shift.name)
        told = told.drop(columns="group").assign(
            base=before.estimate[0],
            change=after.estimate[0] - before.estimate[0],
            change_low=bounds.low,
            change_high=bounds.high,
            effective=n,
        )
        rows.append(told)
    return (
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["shift", "measure"])
    )


def _dosed(base: _Base, name: str, values: Sequence[float]) -> pd.DataFrame:
    """Return the dose-response."""
    columns, rows = [], []
    graph = base.model.graph
    for value in progress(values, f"Doses of {name}", "values"):
        action = do({name: value})
        scores, labels = base.twins(action)
        flags = base.model.support_of(base.cohort, action, seed=base.seed)
        columns.append(scores)
        rows.append(
            {
                "variable": graph.find(name),
                "value": value,
                "positive": float((scores >= base.threshold).mean()),
                "label_share": float(np.nanmean(labels)),
                "unsupported": float(flags.flagged.mean()),
            }
        )
    found = bootstrap_mean(np.stack(columns, 1), base.patients, draws=base.draws, seed=base.seed)
    bounds = found.interval()
    return pd.DataFrame(rows).assign(mean=found.estimate, low=bounds.low, high=bounds.high)
