"""The audit: one classifier, one intervention, and every figure with its uncertainty."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.audit_result import Audit
from causalcxr.audit.bootstrap import Validation
from causalcxr.audit.classifiers import Classifier, as_classifier
from causalcxr.audit.column_names import by_names, described, label_of
from causalcxr.audit.group_measures import GroupMeasures, measure_groups
from causalcxr.audit.groups import find_groups
from causalcxr.audit.hypotheses import hypotheses
from causalcxr.audit.individual_effects import EffectFrame, effect_table, flip_matrix, flip_table
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
    reader: AttributeReader | None = None,
    gates: Gates | None = None,
    beyond_range: bool = False,
    threshold: ThresholdRule | float | str | None = None,
    validation: Records | None = None,
    alike: str | Sequence[str] = _ALIKE,
    primaries: str | Sequence[str] = ("effect: all",),
    alpha: float = 0.05,
    measures: str | Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
    **values: Any,
) -> Audit:
    """Audit a classifier: what is observed in groups, and what an intervention does to its scores.

    Args:
        classifier: What scores records, see `as_classifier`.
        model: A fitted model, which makes the twins.
        cohort: A Cohort or a DataFrame of records, with images where the classifier reads them.
        action: What is done: `do(sex="M")`, or write `sex="M"` here directly.
        label: The variable that the classifier predicts; by default the classifier's own target.
        by: Columns whose levels and intersections are groups.
        hold: Variables, or one, that keep their factual value.
        draws: Posterior draws for each record; at least three show the generator's uncertainty.
        reader: Who reads attributes off images, for the gates; taught by other records.
        gates: Where the gates stand.
        beyond_range: See `SCM.do`.
        threshold: A rule such as "youden" (with labels, the default) or "sensitivity=.9", or a
            number (.5 without labels).
        validation: Other patients, on whom the rule chooses; by default the audited records.
        alike: Columns in which groups are made alike, beside the label.
        primaries: Hypotheses that were declared before; Holm's correction is over these alone.
        alpha: Of the tests.
        measures: Of the groups; all by default.
        bootstrap: Draws of patients.
        seed: Of all random numbers.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        AuditError: If the audit cannot be done as asked.
        ClassifierError: If the classifier cannot be asked.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    check_options(model.graph, label=label, hold=hold, draws=draws, beyond_range=beyond_range)
    check_options(model.graph, alpha=alpha, bootstrap=bootstrap, seed=seed)
    asked = action_of(action, values, beyond_range)
    scorer = as_classifier(classifier, target=label)
    if label := label or scorer.target:
        label_of(model.graph, label)
    cohort = as_cohort(cohort)
    by_names(model.graph, cohort, by)
    if scorer.reads_images and not cohort.has_images:
        raise AuditError(f"the cohort has no images, which {scorer.name!r} reads")
    if scorer.reads_images:
        cohort = cohort.with_images_only()
    pairs = make_pairs(
        model,
        cohort,
        asked.among(cohort.index),
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
    primaries: str | Sequence[str] = ("effect: all",),
    alpha: float = 0.05,
    measures: str | Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Audit:
    """Audit a classifier on pairs that are there already.

    Args:
        classifier: What scores records, see `as_classifier`.
        pairs: Records and twins, see `make_pairs`.
        label: The variable that the classifier predicts; without one there is no table of what is
            observed.
        by: Columns whose levels and intersections are groups.
        threshold: A rule such as "youden" (with labels, the default) or "sensitivity=.9", or a
            number (.5 without labels).
        validation: Other patients, on whom the rule chooses; without them it chooses on the
            audited records, which is told.
        alike: Columns in which groups are made alike, beside the label.
        primaries: Hypotheses that were declared before; Holm's correction is over these alone.
        alpha: Of the tests.
        measures: Of the groups; all by default.
        bootstrap: Draws of patients.
        seed: Of all random numbers.

    Raises:
        AuditError: If it cannot be done as asked.
        ClassifierError: If the classifier cannot be asked.
    """
    scorer = as_classifier(classifier, target=label)
    graph, label = pairs.graph, label or scorer.target
    name = label_of(graph, label) if label else None
    names = by_names(graph, pairs.factual, by)
    alike, primaries = names_of(alike), names_of(primaries)
    rule = ThresholdRule.read(threshold if threshold is not None else "youden" if name else 0.5)
    records = _records(scorer, pairs, name, names)
    once = records[pairs.factual.draws == 0]
    columns = described(graph, pairs.factual)[0]
    table = columns[pairs.factual.draws == 0]
    labels = once["label"] if name else None
    groups = find_groups(table, names, labels=labels, patients=once["patient"])
    given = validated(scorer, graph, name, validation)
    seen = _observed(once, groups, table, rule, given, alike, measures, bootstrap, seed, name)
    limit = seen.threshold if seen else _fixed(rule)
    if np.isnan(limit):
        raise AuditError(f"threshold {rule.words}: the labels have one class only; give a number")
    rows = find_groups(columns, names, patients=records["patient"])
    scored = [c for c in ("factual", "twin", "null", "direct") if c in records]
    held = EffectFrame(
        records[scored].where(pd.Series(pairs.valid, records.index), axis=0),
        records["patient"].to_numpy(),
        pairs.factual.draws,
        rows.masks,
        _stays(records) if name else None,
    )
    effects = effect_table(held, draws=bootstrap, seed=seed)
    flips = flip_table(held, limit)
    return Audit(
        pairs=pairs,
        records=records,
        groups=groups.table,
        observed=seen,
        effects=effects,
        flips=flips,
        flip_matrix=flip_matrix(held, limit),
        tests=hypotheses(effects, flips, seen, primaries, alpha),
        about={
            "classifier": scorer.name,
            "label": name,
            "by": list(names),
            "threshold": float(limit),
            "rule": rule.words,
            "threshold_from": _where(rule, given),
            "notes": _notes(scorer, once, groups.table, seen),
            "alike": list(alike),
            "primaries": list(primaries),
            "alpha": alpha,
            "bootstrap": bootstrap,
            "seed": seed,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            **pairs.about,
        },
    )


def _records(
    scorer: Classifier, pairs: Pairs, label: str | None, by: tuple[str, ...]
) -> pd.DataFrame:
    """Return a row a pair: who, which group, the labels, the scores, the verdict."""
    factual, valid = pairs.factual, pairs.valid
    once = factual.draws == 0
    table = pd.DataFrame({"patient": factual.patients}, index=factual.index)
    table[list(by)] = described(pairs.graph, factual)[0][list(by)]
    for column, world in (("label", "factual"), ("label_twin", "twin")):
        known = pairs.worlds[world].columns(pairs.graph, beyond_range=True)
        table[column] = known[label] if label else np.nan
    known = scorer.in_world("factual").scores(factual.select(once))
    known = pd.Series(known, factual.records[once])
    table["factual"] = known.reindex(factual.records).to_numpy()
    for world in ("twin", "null", "direct"):
        if world in pairs.worlds and scorer.in_world(world) is not None:
            table[world] = np.nan
            table.loc[valid, world] = scorer.in_world(world).scores(
                pairs.worlds[world].select(valid)
            )
    if not valid.any():
        reasons = pairs.gates["why"].value_counts()
        raise AuditError(
            f"no pair is believed: {reasons.index[0]} ({reasons.iloc[0]:,} of {len(pairs):,}); "
            "look at pairs.gates, and set the gates otherwise"
        )
    return table.assign(why=pairs.gates["why"].to_numpy(), valid=valid)


def validated(
    scorer: Classifier, graph: Graph, label: str | None, cohort: Records | None
) -> Validation | None:
    """Return scores and labels of the patients on whom a threshold is chosen, where there are any.

    Raises:
        AuditError: If a classifier of images has none to look at.
    """
    if cohort is None or label is None:
        return None
    cohort = as_cohort(cohort)
    cohort = cohort.with_images_only() if scorer.reads_images else cohort
    if not len(cohort):
        raise AuditError("validation: no record with an image")
    known = scorer.in_world("validation") or scorer.in_world("factual")
    scores = known.scores(cohort)
    return Validation(scores, cohort.columns(graph)[label], cohort.patients.to_numpy())


def _observed(
    once: pd.DataFrame,
    groups: Any,
    table: pd.DataFrame,
    rule: ThresholdRule,
    validation: Validation | None,
    alike: Sequence[str],
    measures: Sequence[str] | None,
    draws: int,
    seed: int,
    label: str | None,
) -> GroupMeasures | None:
    labels = once["label"].to_numpy(float)
    if label is None or np.isnan(labels).all():
        return None
    return measure_groups(
        once["factual"].to_numpy(),
        labels,
        groups,
        table,
        patients=once["patient"].to_numpy(),
        rule=rule,
        validation=validation,
        alike=[name for name in alike if name in table],
        measures=measures,
        draws=draws,
        seed=seed,
    )


def _fixed(rule: ThresholdRule) -> float:
    if rule.kind != "fixed":
        raise AuditError(
            f"threshold {rule.words}: there is no label to choose it by; give a number"
        )
    return float(rule.value)


def _stays(records: pd.DataFrame) -> np.ndarray:
    return (records["label"] == records["label_twin"]).to_numpy()


def _notes(
    scorer: Classifier, once: pd.DataFrame, groups: pd.DataFrame, observed: GroupMeasures | None
) -> list[str]:
    """Return what a reader must know before any figure."""
    notes, scores = [], once["factual"]
    if len(once) > 1 and scores.nunique() == 1:
        notes.append(f"{scorer.name} gives every record the same score, {scores.iloc[0]:.3g}.")
    elif scores.nunique() == 2 and set(scores) <= {0.0, 1.0}:
        notes.append(f"{scorer.name} returns decisions (0 or 1), not probabilities.")
    if observed is not None:
        for name, row in groups.iterrows():
            if row["n"] and not (row["positives"] and row["negatives"]):
                known = "positive" if row["positives"] else "negative"
                word = f"all {known}" if row["positives"] or row["negatives"] else "unlabelled"
                notes.append(
                    f"Group {name} is {word} ({row['n']:,} records): what needs both classes is "
                    "undefined there."
                )
    return notes


def _where(rule: ThresholdRule, validation: Validation | None) -> str:
    if rule.kind == "fixed":
        return "given"
    return "the audited records themselves" if validation is None else "validation patients"
