"""The stress test: the measures of a classifier in populations that differ from the data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.auditing import validated
from causalcxr.audit.bootstrap import bootstrap
from causalcxr.audit.bootstrap_draws import BootstrapDraws
from causalcxr.audit.classifiers import Classifier, as_classifier
from causalcxr.audit.column_names import by_names, label_of, named_columns
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
from causalcxr.scm.identity import couplings
from causalcxr.scm.model_images import sizes_of, solver_of
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

    def measured(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> BootstrapDraws:
        """Return the measures of all records; all shifts share the draws of patients."""
        return bootstrap(
            scores,
            labels,
            {"all": np.ones(len(scores), dtype=bool)},
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
        """Return the scores and labels of the twins, (n,) each."""
        action = action.among(self.cohort.index)
        twins = self.model.counterfactual(self.cohort, action, seed=self.seed)
        columns = twins.columns(self.model.graph, beyond_range=True)
        return self.scorer.scores(twins), columns[self.label]


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
    """Return the measures of a classifier where the population differs.

    The threshold is chosen once, on validation patients if there are any, and then fixed: a
    deployed classifier does not know that the population has changed.

    Args:
        classifier: Scores records, see `as_classifier`.
        model: A fitted model, for interventions.
        cohort: A Cohort or a DataFrame of records, with images if the classifier reads them.
        label: The variable that it predicts; by default the classifier's own target.
        shifts: One or several shifts, see `causalcxr.audit.shifts`.
        dose: A variable and its values: dose-response under do(variable = value).
        search: Columns in whose levels and pairs of levels the worst subgroup is searched.
        search_measure: The measure by which subgroups are worst.
        interventions: Interventions; for each record, the most plausible one that flips its
            decision is reported.
        by: Columns of the groups for which flips are reported.
        threshold: A rule or a number.
        validation: Other patients, on whom the rule chooses.
        measures: Names of measures.
        bootstrap: Bootstrap draws of patients.
        seed: Seed of all random numbers.

    Raises:
        AuditError: If an option does not fit.
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
    # New twins need a classifier that can score them; a table of scores cannot.
    asks = (
        dose is not None or interventions or any(isinstance(s, InterventionShift) for s in shifts)
    )
    if asks and not base.scorer.scores_any:
        raise AuditError(
            f"{base.scorer.name!r} is a table of scores and has none for new twins; give a "
            "classifier that can score them, or only shifts by weights and a search"
        )
    groups = by_names(model.graph, cohort, by)
    # Shifts and dose-response of all records, then the search and the flips.
    table = _shift_table(base, shifts)
    doses = None if dose is None else _dose_table(base, *dose)
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
        "images": sizes_of(model, base.cohort),
        "graph_hash": model.graph.hash,
        "coupling": couplings(model),
        "solver": solver_of(model),
        "bootstrap": bootstrap,
        "seed": seed,
        "versions": versions(),
    }
    return Stress(table, doses, worst, flips, about)


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
    """Return the records with a known label, scored, and the threshold."""
    scorer = as_classifier(classifier, target=label)
    if not (label := label or scorer.target):
        raise AuditError("stress: a label is needed; give label=, the variable that is predicted")
    name = label_of(model.graph, label)
    if scorer.reads_images:
        cohort = cohort.with_images_only()
    # Measures need the label of every record.
    cohort = cohort.select(~np.isnan(cohort.columns(model.graph)[name]))
    labels = cohort.columns(model.graph)[name]
    if len(np.unique(labels)) < 2:
        raise AuditError(
            f"label {name!r}: the {len(labels):,} records are of one class; both are needed"
        )
    scores, rule = scorer.scores(cohort), ThresholdRule.read(threshold)
    # The threshold: chosen once, before any shift.
    other = validated(scorer, model.graph, name, validation)
    chosen_on = (scores, labels) if other is None else (other.scores, other.labels)
    limit = float(rule.choose(*chosen_on))
    table = named_columns(model.graph, cohort)
    patients = cohort.patients.to_numpy()
    fields = (scores, labels, table, patients, limit, measures, draws, seed)
    return _Base(scorer, model, cohort, name, *fields)


def _shift_table(base: _Base, shifts: Sequence[PopulationShift]) -> pd.DataFrame:
    """Return a row a shift and measure."""
    before, parts = base.measured(base.scores, base.labels), []
    for shift in progress(shifts, "Shifting the population", "shifts"):
        after, n = _shifted(base, shift)
        # The draws are paired, so their differences are draws of the change.
        bounds = percentile_interval((after.draws - before.draws)[:, 0])
        table = after.table()
        table.insert(0, "shift", shift.name)
        parts.append(
            table.drop(columns="group").assign(
                base=before.estimate[0],
                change=after.estimate[0] - before.estimate[0],
                change_low=bounds.low,
                change_high=bounds.high,
                effective=n,
            )
        )
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["shift", "measure"])
    )


def _shifted(base: _Base, shift: PopulationShift) -> tuple[BootstrapDraws, float]:
    """Return the measures under a shift, and the effective number of records."""
    if isinstance(shift, ReweightingShift):
        positive = base.model.graph[base.label].levels[-1]
        weights = shift.weights(base.table, base.labels, positive)
        # Kish's effective number: what unequal weights leave of the sample.
        effective = float(weights.sum() ** 2 / (weights**2).sum())
        return base.measured(base.scores, base.labels, weights), effective
    if isinstance(shift, InterventionShift):
        return base.measured(*base.twins(shift.action)), float(len(base.scores))
    raise AuditError(f"shift {shift!r}: expected ReweightingShift or InterventionShift")


def _dose_table(base: _Base, name: str, values: Sequence[float]) -> pd.DataFrame:
    """Return the dose-response, a row a value."""
    columns, rows = [], []
    graph = base.model.graph
    for value in progress(values, f"Doses of {name}", "values"):
        action = do({name: value})
        scores, labels = base.twins(action)
        support = base.model.support_of(base.cohort, action, seed=base.seed)
        columns.append(scores)
        rows.append(
            {
                "variable": graph.find(name),
                "value": value,
                "positive": float((scores >= base.threshold).mean()),
                "label_share": float(np.nanmean(labels)),
                "unsupported": float(support.flagged.mean()),
            }
        )
    # All doses share the draws of patients, so that the curve is comparable along it.
    means = bootstrap_mean(np.stack(columns, 1), base.patients, draws=base.draws, seed=base.seed)
    bounds = means.interval()
    return pd.DataFrame(rows).assign(mean=means.estimate, low=bounds.low, high=bounds.high)
