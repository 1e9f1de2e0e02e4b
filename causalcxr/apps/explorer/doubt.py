"""What an answer rests on: the coupling, the training data, and what the weights have seen."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalcxr.apps.explorer.question import DRAWS, Question, Visit
from causalcxr.common.tensors import load_tensors
from causalcxr.scm.questions.transition_probabilities import COUPLINGS
from causalcxr.scm.scm import SCM

__all__ = ["Doubt", "doubt_of", "weights_know"]

_FEW = 20  # training records below which an equation is asked where it knows little


@dataclass(frozen=True)
class Doubt:
    """What is assumption rather than data.

    Args:
        couplings: Variable -> P(change) under the model's coupling, under each other one, and
            between which bounds under any ("lower" and "upper", None where draws were needed).
        warnings: Where training had little to say, one sentence each.
    """

    couplings: dict[str, dict[str, float | None]]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the page and the downloaded file hold it."""
        return {"couplings": self.couplings, "warnings": list(self.warnings)}


def doubt_of(visit: Visit, question: Question, *, draws: int = DRAWS) -> Doubt:
    """Return how much of an answer hangs on the coupling, and where training data are few.

    Args:
        visit: The patient and the model.
        question: What is set and held.
        draws: Posterior draws, where a probability cannot be enumerated.

    Raises:
        InterventionError: As `SCM.sensitivity` does.
    """
    return Doubt(_couplings(visit, question, draws), tuple(_warnings(visit, question)))


def _couplings(visit: Visit, question: Question, draws: int) -> dict[str, dict]:
    moving = [n for n in visit.network(question).moving if visit.model.graph[n].is_discrete]
    if not moving:
        return {}
    found = visit.model.sensitivity(
        visit.patient.with_images(None),
        question.action,
        hold=question.hold,
        draws=draws,
        seed=visit.seed,
    )
    kept = ["model", *COUPLINGS, "lower", "upper"]
    return {
        name: {key: None if np.isnan(row[key]) else float(row[key]) for key in kept}
        for name, row in found.changes.iterrows()
        if row["records"]
    }


def _warnings(visit: Visit, question: Question) -> list[str]:
    """Return a sentence for each equation that is asked where training had little to say."""
    patient, graph = visit.patient.with_images(None), visit.model.graph
    found = visit.model.support_of(
        patient, question.action, hold=question.hold, few=_FEW, seed=visit.seed
    )
    told = []
    for name in found.exact:
        row = found[name].iloc[0]
        if not row["flag"] or graph[name].mechanism.kind == "derived":  # a rule learns nothing
            continue
        parents = [p for p in graph.parents(name) if graph[p].is_discrete]
        if row["records_twin"] < _FEW:
            exact = found.exact[name]
            n = f"{'' if exact else 'at most '}{int(row['records_twin']):,}"
            told.append(
                f"{name}: {n} training records share the twin's {', '.join(parents)}; fewer than "
                f"{_FEW} are little to learn from"
            )
        if row["beyond_twin"] < 1:
            told.append(f"{name}: no training record lies beyond the twin's numbers")
    return told


def weights_know(model: SCM) -> str:
    """Return where the radiographs came from that the image's equation has learned from.

    Returns:
        "" where the model has no equation of an image.
    """
    name = model.graph.image
    if name not in model.fitted:
        return ""
    mechanism = model.fitted[name].mechanism
    weights = getattr(mechanism, "weights", None)
    if weights is None or mechanism.options.get("steps"):
        return model.trained_on
    card = weights.with_suffix(".json")
    told = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    data = told.get("data") if isinstance(told, dict) else None
    known = data.get("source") if isinstance(data, dict) else None
    return str(known or load_tensors(weights)[1].get("source", "another cohort"))
