"""The audit of one classifier under one intervention, every figure with its uncertainty."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.audit_result import Audit
from causalcxr.audit.bootstrap import Validation
from causalcxr.audit.classifiers import Classifier, as_classifier
from causalcxr.audit.column_names import by_names, label_of, named_columns
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.group_measures import GroupMeasures, measure_groups
from causalcxr.audit.groups import Groups, find_groups
from causalcxr.audit.hypotheses import hypotheses
from causalcxr.audit.individual_effects import (
    EffectFrame,
    effect_table,
    flip_matrix,
    flip_table,
)
from causalcxr.audit.making_pairs import make_pairs
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.quality_checks import Gates
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.versions import versions
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.graph.graph import Graph
from causalcxr.scm.scm import SCM

__all__ = ["audit", "audit_pairs", "validated"]

_ALIKE = ("Age",)
_PRIMARIES = ("effect: all",)
_SCORED = ("factual", "twin", "null", "direct")


def audit(
    classifier: Any,
    model: SCM,
    cohort: Records,
    action: Action = None,
    /,
    *,
    label: str | None = None,
    by: str | Sequence[str] = (),
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    reader: AttributeReader | CrossFittedReader | None = None,
    gates: Gates | None = None,
    beyond_range: bool = False,
    threshold: ThresholdRule | float | str | None = None,
    validation: Records | None = None,
    alike: str | Sequence[str] = _ALIKE,
    primaries: str | Sequence[str] = _PRIMARIES,
    alpha: float = 0.05,
    measures: str | Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
    **values: Any,
) -> Audit:
    """Audit a classifier: its measures in groups, and the effect of an intervention on its scores.

    The pairs are made by `make_pairs`, and audited by `audit_pairs`; the options are theirs.

    Args:
        classifier: Scores records, see `as_classifier`.
        model: A fitted model, which makes the twins.
        cohort: A Cohort or a DataFrame of records, with images if the classifier reads them.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        label: The variable that the classifier predicts; by default the classifier's own target.
        by: Columns whose levels and intersections are groups.
        hold: One or several variables that keep their factual value.
        draws: Posterior draws for each record; at least three show the generator's uncertainty.
        reader: Reads attributes from images, for the quality checks; trained on other records.
        gates: Limits of the quality checks.
        beyond_range: See `SCM.do`.
        threshold: A rule such as "youden" (default, with labels) or "sensitivity=.9", or a number
            (.5 without labels).
        validation: Other patients, on whom the rule chooses; by default the audited records.
        alike: Columns in which groups are balanced, beside the label.
        primaries: Hypotheses that were declared in advance; Holm's correction is over these alone.
        alpha: Significance level of the tests.
        measures: Measures of the groups; all by default.
        bootstrap: Bootstrap draws of patients.
        seed: Seed of all random numbers.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        AuditError: If an option does not fit, or no pair is accepted.
        ClassifierError: If the classifier cannot score the records.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    check_options(model.graph, label=label, hold=hold, draws=draws, beyond_range=beyond_range)
    check_options(model.graph, alpha=alpha, bootstrap=bootstrap, seed=seed)
    intervention = action_of(action, values, beyond_range)
    scorer = as_classifier(classifier, target=label)
    if label := label or scorer.target:
        label_of(model.graph, label)
    cohort = as_cohort(cohort)
    by_names(model.graph, cohort, by)
    if scorer.reads_images:
        # Without an image there is neither a score nor a twin to score.
        if not cohort.has_images:
            raise AuditError(f"the cohort has no images, but {scorer.name!r} reads images")
        cohort = cohort.with_images_only()
    pairs = make_pairs(
        model,
        cohort,
        intervention.among(cohort.index),
        hold=hold,
        draws=draws,
        seed=seed,
        reader=reader,
        gates=gates,
    )
    return audit_pairs(
        scorer,
        pairs,
        label=label,
        by=by,
        threshold=threshold,
        validation=validation,
        alike=alike,
        primaries=primaries,
        alpha=alpha,
        measures=measures,
        bootstrap=bootstrap,
        seed=seed,
    )


def audit_pairs(
    classifier: Any,
    pairs: Pairs,
    *,
    label: str | None = None,
    by: str | Sequence[str] = (),
    threshold: ThresholdRule | float | str | None = None,
    validation: Records | None = None,
    alike: str | Sequence[str] = _ALIKE,
    primaries: str | Sequence[str] = _PRIMARIES,
    alpha: float = 0.05,
    measures: str | Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Audit:
    """Audit a classifier on existing pairs.

    Args:
        classifier: Scores records, see `as_classifier`.
        pairs: Records and twins, see `make_pairs`.
        label: The variable that the classifier predicts; without it there are no measures.
        by: Columns whose levels and intersections are groups.
        threshold: As in `audit`.
        validation: As in `audit`.
        alike: As in `audit`.
        primaries: As in `audit`.
        alpha: As in `audit`.
        measures: As in `audit`.
        bootstrap: As in `audit`.
        seed: As in `audit`.

    Raises:
        AuditError: If an option does not fit, or no pair is accepted.
        ClassifierError: If the classifier cannot score the records.
    """
    scorer = as_classifier(classifier, target=label)
    graph, label = pairs.graph, label or scorer.target
    name = label_of(graph, label) if label else None
    names = by_names(graph, pairs.factual, by)
    alike, primaries = names_of(alike), names_of(primaries)
    rule = ThresholdRule.read(threshold if threshold is not None else "youden" if name else 0.5)
    # Scores, once a pair; measures, once a record.
    records = _records(scorer, pairs, name, names)
    is_first_draw = pairs.factual.draws == 0
    once = records[is_first_draw]
    columns = named_columns(graph, pairs.factual)
    table = columns[is_first_draw]
    labels = once["label"] if name else None
    groups = find_groups(table, names, labels=labels, patients=once["patient"])
    chosen_on = validated(scorer, graph, name, validation)
    options = {"measures": measures, "draws": bootstrap, "seed": seed, "alike": alike}
    observed = _observed(once, groups, table, rule, chosen_on, name, options)
    limit = observed.threshold if observed else _fixed(rule)
    if np.isnan(limit):
        raise AuditError(f"threshold {rule.words}: the labels have one class only; give a number")
    # Effects and flips, in accepted pairs.
    rows = find_groups(columns, names, patients=records["patient"])
    frame = _effect_frame(records, pairs, rows, has_label=bool(name))
    effects = effect_table(frame, draws=bootstrap, seed=seed)
    flips = flip_table(frame, limit)
    # Provenance, as in the manifest; that of the pairs is merged in last.
    about = {
        "classifier": scorer.name,
        "label": name,
        "by": list(names),
        "threshold": float(limit),
        "rule": rule.words,
        "threshold_from": _threshold_origin(rule, chosen_on),
        "notes": _notes(scorer, once, groups.table, observed),
        "alike": list(alike),
        "primaries": list(primaries),
        "alpha": alpha,
        "bootstrap": bootstrap,
        "seed": seed,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        **pairs.about,
    }
    return Audit(
        pairs=pairs,
        records=records,
        groups=groups.table,
        observed=observed,
        effects=effects,
        flips=flips,
        flip_matrix=flip_matrix(frame, limit),
        tests=hypotheses(effects, flips, observed, primaries, alpha),
        about=about,
    )


def validated(
    scorer: Classifier, graph: Graph, label: str | None, cohort: Records | None
) -> Validation | None:
    """Return scores and labels of the patients on whom a threshold is chosen, None without them.

    Raises:
        AuditError: If a classifier of images has no image to score.
    """
    if cohort is None or label is None:
        return None
    cohort = as_cohort(cohort)
    cohort = cohort.with_images_only() if scorer.reads_images else cohort
    if not len(cohort):
        raise AuditError("validation: no record has an image; give records with images")
    in_world = scorer.in_world("validation") or scorer.in_world("factual")
    scores = in_world.scores(cohort)
    return Validation(scores, cohort.columns(graph)[label], cohort.patients.to_numpy())


def _records(
    scorer: Classifier, pairs: Pairs, label: str | None, by: tuple[str, ...]
) -> pd.DataFrame:
    """Return a row a pair: patient, columns of groups, labels, scores, `why`, `valid`."""
    factual, valid = pairs.factual, pairs.valid
    if not valid.any():
        reasons = pairs.gates["why"].value_counts()
        raise AuditError(
            f"no pair is accepted: {reasons.index[0]} ({reasons.iloc[0]:,} of {len(pairs):,}); "
            "look at pairs.gates, and set gates=Gates(...) otherwise"
        )
    table = pd.DataFrame({"patient": factual.patients}, index=factual.index)
    table[list(by)] = named_columns(pairs.graph, factual)[list(by)]
    for column, world in (("label", "factual"), ("label_twin", "twin")):
        columns = pairs.worlds[world].columns(pairs.graph, beyond_range=True)
        table[column] = columns[label] if label else np.nan
    # A record has one factual score, however many posterior draws of its twin there are.
    once = factual.draws == 0
    scores = scorer.in_world("factual").scores(factual.select(once))
    table["factual"] = pd.Series(scores, factual.records[once]).reindex(factual.records).to_numpy()
    for world in _SCORED[1:]:
        if world in pairs.worlds and scorer.in_world(world) is not None:
            table[world] = np.nan
            accepted = pairs.worlds[world].select(valid)
            table.loc[valid, world] = scorer.in_world(world).scores(accepted)
    return table.assign(why=pairs.gates["why"].to_numpy(), valid=valid)


def _observed(
    once: pd.DataFrame,
    groups: Groups,
    table: pd.DataFrame,
    rule: ThresholdRule,
    validation: Validation | None,
    label: str | None,
    options: dict[str, Any],
) -> GroupMeasures | None:
    """Return the measures of the groups, None if no label is known."""
    labels = once["label"].to_numpy(float)
    if label is None or np.isnan(labels).all():
        return None
    options["alike"] = [name for name in options["alike"] if name in table]
    return measure_groups(
        once["factual"].to_numpy(),
        labels,
        groups,
        table,
        patients=once["patient"].to_numpy(),
        rule=rule,
        validation=validation,
        **options,
    )


def _effect_frame(
    records: pd.DataFrame, pairs: Pairs, groups: Groups, has_label: bool
) -> EffectFrame:
    """Return the scores of the accepted pairs; those of rejected ones are NaN."""
    scored = [name for name in _SCORED if name in records]
    accepted = pd.Series(pairs.valid, records.index)
    stays = (records["label"] == records["label_twin"]).to_numpy()
    return EffectFrame(
        records[scored].where(accepted, axis=0),
        records["patient"].to_numpy(),
        pairs.factual.draws,
        groups.masks,
        stays if has_label else None,
    )


def _fixed(rule: ThresholdRule) -> float:
    if rule.kind != "fixed":
        raise AuditError(f"threshold {rule.words}: it needs a label; give label= or a number")
    return float(rule.value)


def _notes(
    scorer: Classifier, once: pd.DataFrame, groups: pd.DataFrame, observed: GroupMeasures | None
) -> list[str]:
    """Return warnings about the scores and about groups of one class."""
    notes, scores = [], once["factual"]
    if len(once) > 1 and scores.nunique() == 1:
        notes.append(f"{scorer.name} gives every record the same score, {scores.iloc[0]:.3g}.")
    elif scores.nunique() == 2 and set(scores) <= {0.0, 1.0}:
        notes.append(f"{scorer.name} returns decisions (0 or 1), not probabilities.")
    if observed is None:
        return notes
    for name, row in groups.iterrows():
        if row["n"] and not (row["positives"] and row["negatives"]):
            only = "positive" if row["positives"] else "negative"
            word = f"all {only}" if row["positives"] or row["negatives"] else "unlabelled"
            notes.append(
                f"Group {name} is {word} ({row['n']:,} records): measures that need both classes "
                "are undefined there."
            )
    return notes


def _threshold_origin(rule: ThresholdRule, validation: Validation | None) -> str:
    if rule.kind == "fixed":
        return "given"
    return "the audited records themselves" if validation is None else "validation patients"
