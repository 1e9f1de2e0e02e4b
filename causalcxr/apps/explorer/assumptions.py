"""What an answer depends on: the coupling, the training data, the source of the weights."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalcxr.apps.explorer.question import DRAWS, AbductedPatient, Question
from causalcxr.common.tensors import load_tensors
from causalcxr.scm.model_images import solver_of
from causalcxr.scm.questions.transition_probabilities import COUPLINGS
from causalcxr.scm.scm import SCM

__all__ = ["Assumptions", "find_assumptions", "weights_source"]

_FEW = 20  # a region with fewer training records is reported as sparse


@dataclass(frozen=True)
class Assumptions:
    """Hold what is assumed rather than learned from data.

    Args:
        couplings: Variable -> P(change) under the model's coupling, under each other one, and
            its bounds under any coupling ("lower" and "upper", None if samples were needed).
        warnings: One sentence for each equation with few training data near the twin.
        image: The coupling of the image and how it is computed, in words; "" without an image.
    """

    couplings: dict[str, dict[str, float | None]]
    warnings: tuple[str, ...]
    image: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as the page and the downloaded file hold them."""
        return {
            "couplings": self.couplings,
            "warnings": list(self.warnings),
            "image_coupling": self.image,
        }


def find_assumptions(
    abducted: AbductedPatient, question: Question, *, draws: int = DRAWS
) -> Assumptions:
    """Return how an answer depends on the coupling, and where training data are sparse.

    Args:
        abducted: The patient and the model.
        question: The variables that are set and held.
        draws: Posterior samples, where a probability cannot be enumerated.

    Raises:
        InterventionError: As `SCM.sensitivity` does.
    """
    return Assumptions(
        _couplings(abducted, question, draws),
        tuple(_warnings(abducted, question)),
        solver_of(abducted.model) if abducted.patient.has_images else "",
    )


def _couplings(abducted: AbductedPatient, question: Question, draws: int) -> dict[str, dict]:
    graph = abducted.model.graph
    # Numbers have no coupling to choose.
    if not any(graph[name].is_discrete for name in abducted.network(question).moving):
        return {}
    sensitivity = abducted.model.sensitivity(
        abducted.patient.with_images(None),
        question.action,
        hold=question.hold,
        draws=draws,
        seed=abducted.seed,
    )
    # Changes under the model's coupling, under each other one, and their bounds.
    keys = ["model", *COUPLINGS, "lower", "upper"]
    return {
        name: {key: None if np.isnan(row[key]) else float(row[key]) for key in keys}
        for name, row in sensitivity.changes.iterrows()
        if row["records"]
    }


def _warnings(abducted: AbductedPatient, question: Question) -> list[str]:
    """Return a sentence for each equation that is evaluated where training data are sparse."""
    patient, graph = abducted.patient.with_images(None), abducted.model.graph
    support = abducted.model.support_of(
        patient, question.action, hold=question.hold, few=_FEW, seed=abducted.seed
    )
    warnings = []
    for name, is_exact in support.exact.items():
        row = support[name].iloc[0]
        if not row["flag"] or graph[name].mechanism.kind == "derived":  # a rule learns nothing
            continue
        # Counted by levels: a number has too many values to count its records.
        parents = ", ".join(p for p in graph.parents(name) if graph[p].is_discrete)
        if row["records_twin"] < _FEW:
            count = f"{'' if is_exact else 'at most '}{int(row['records_twin']):,}"
            warnings.append(
                f"{name}: {count} training records share the twin's {parents}; an equation "
                f"learns little from fewer than {_FEW}"
            )
        if row["beyond_twin"] < 1:
            warnings.append(
                f"{name}: the twin's numbers are outside those of all training records"
            )
    return warnings


def weights_source(model: SCM) -> str:
    """Return the source of the radiographs that the image's equation was trained on.

    Returns:
        "" if the model has no equation for an image.
    """
    name = model.graph.image
    if name not in model.fitted:
        return ""
    mechanism = model.fitted[name].mechanism
    weights = getattr(mechanism, "weights", None)
    # Trained with the model, so on the model's own records.
    if weights is None or mechanism.options.get("steps"):
        return model.trained_on
    # Pretrained weights: their card names the data, else their own metadata.
    card = weights.with_suffix(".json")
    content = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    data = content.get("data") if isinstance(content, dict) else None
    source = data.get("source") if isinstance(data, dict) else None
    return str(source or load_tensors(weights)[1].get("source", "another cohort"))
