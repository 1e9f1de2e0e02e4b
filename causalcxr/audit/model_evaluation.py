"""Model evaluation: how sound a model's counterfactual images are, beside copy, oracle and truth.

Every figure is given beside that of changing nothing (the copy) and, on phantoms, that of the true
twins (the oracle).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.model_evaluation_measures import (
    QuestionImages,
    axiom_rows,
    reader_rows,
    realism_rows,
    similarity_rows,
    truth_rows,
)
from causalcxr.audit.model_evaluation_result import Evaluation
from causalcxr.audit.quality_checks import changed_by
from causalcxr.audit.reader_quality import reader_record
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import AuditError, CohortError
from causalcxr.common.progress import progress
from causalcxr.common.versions import versions
from causalcxr.graph.arguments import actions_of
from causalcxr.graph.interventions import Intervention
from causalcxr.radit.features import Features
from causalcxr.radit.weights import content_hash
from causalcxr.scm.identity import couplings
from causalcxr.scm.model_images import calibration_of, sizes_of, solver_of
from causalcxr.scm.scm import SCM
from causalcxr.sources.phantom import truth

__all__ = ["evaluate"]

_COLUMNS = (
    "question",
    "axiom",
    "measure",
    "value",
    "low",
    "high",
    "copy",
    "oracle",
    "n",
    "reader",
)


def evaluate(
    model: SCM,
    cohort: Records,
    actions: Intervention | Mapping[str, Any] | Iterable[Intervention | Mapping[str, Any]],
    *,
    reader: AttributeReader | CrossFittedReader | None = None,
    features: Features | None = None,
    cycles: Sequence[int] = (1, 10),
    cycled: int = 16,
    draws: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Return how sound a model's counterfactual images are.

    Args:
        model: A fitted model with an image.
        cohort: Records with images that the model was not trained on.
        actions: One or several interventions; each is applied to the records that it changes.
        reader: Reads attributes from images, for effectiveness and amplification; trained on other
            records, or cross-fitted.
        features: The encoder of identity and realism; by default the bundled one.
        cycles: Numbers of null interventions in a row, for composition.
        cycled: Number of records for composition and reversibility.
        draws: Bootstrap draws of patients.
        seed: Seed of all random numbers.

    Returns:
        A table with a row a question and measure: `axiom`, `measure`, `value` with `low` and
        `high`, `copy` (changing nothing), `oracle` (the true twins), `n`, `reader` (its AUROC on
        unseen patients, of numbers the correlation), `patients`.

    Raises:
        AuditError: If there are no images, or an intervention changes no record.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    cohort = as_cohort(cohort)
    if model.graph.image is None or not cohort.has_images:
        raise AuditError("evaluate: the model and the cohort both need images")
    cohort, rows, questions = cohort.with_images_only(), [], []
    options = {"draws": draws, "seed": seed}
    for action in progress(actions_of(actions), "Evaluating", "questions"):
        # Axioms first; the reader and the true twin only where there are any.
        question = _question(model, cohort, action, seed)
        questions.append(question)
        rows += axiom_rows(model, question, cycles, cycled, options)
        rows += similarity_rows(question, options)
        if reader is not None:
            rows += reader_rows(model, question, reader, options)
        rows += realism_rows(question, options, features)
        if "true" in question.images:
            rows += truth_rows(question, options)
    if not questions:
        raise AuditError("evaluate: there is no intervention; give one, such as do(sex='M')")
    about = {
        "model": model.graph.name,
        "graph_hash": model.graph.hash,
        "coupling": couplings(model),
        "solver": solver_of(model),
        "source": cohort.source,
        "images": sizes_of(model, cohort),
        "questions": [question.action.describe() for question in questions],
        **reader_record(reader),
        "features": "bundled" if features is None else content_hash(features.state_dict()),
        "cycles": list(cycles),
        "seed": seed,
        "versions": versions(),
    }
    if calibration := calibration_of(model):
        about["calibration"] = calibration
    pictures = {q.action.describe(): (q.cohort, q.twin, q.images.get("true")) for q in questions}
    # Rows of different measures have different columns; missing ones are NaN.
    table = pd.DataFrame(rows).reindex(columns=[*_COLUMNS, "patients"])
    return Evaluation(table, pictures, about)


def _question(model: SCM, cohort: Cohort, action: Intervention, seed: int) -> QuestionImages:
    """Return the images of the records that an intervention changes, and of their twins."""
    action = action.among(cohort.index)
    graph, bound = model.graph, action.bind(model.graph)
    # Which records change is known from the table; images are computed for these only.
    before = cohort.columns(graph)
    twin = model.counterfactual(cohort.with_images(None), action, seed=seed)
    changed = changed_by(bound.names, before, twin.columns(graph, beyond_range=True))
    if not changed.any():
        raise AuditError(f"evaluate: {bound.describe()} changes no record; give another one")
    # Images of the changed records only.
    records = cohort.select(changed)
    action = action.among(records.index)
    twin = model.counterfactual(records, action, seed=seed)
    images = {
        "factual": records.images[:],
        "twin": twin.images[:],
        "null": model.predict(model.abduct(records, seed=seed), recompute=True).images[:],
    }
    with suppress(CohortError):  # only phantoms have a true twin
        images["true"] = truth(records, action).images[:]
    # What may change: the variables that are set and their descendants.
    reached = frozenset(bound.names) | graph.descendants(*bound.names)
    return QuestionImages(bound, records, twin, images, reached)
