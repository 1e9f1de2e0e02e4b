"""Does the audit find the bias that was planted, and none where there is none?

    python -m benchmarks audit.truth            (two cores, about 12 minutes; films are kept)

Three classifiers of pleural effusion read phantoms' films by linear readers of bundled features:
one that reads the effusion alone, one to which sex was added, one to which support devices were
added; a fourth, drawn anew for each audit, reads nothing that a patient is. The phantom tells the
true twins, so the true effect on every patient is known: of a pool of patients, the mean is the
truth. 200 audits see 300 patients each, drawn with replacement. Told: how often the 95 %
interval holds the truth (and its Clopper-Pearson bounds), how often a classifier is rejected, and
how often the null floor covers zero excess. Then the same with a learned model's twins (equations
fitted to 20,000 phantoms, bundled RadiT): the bias, the audit's effect less the true one on the
same patients.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from benchmarks import Row
from causalcxr import SCM, Cohort, Graph, do
from causalcxr.audit.attribute_reader import AttributeReader, image_features
from causalcxr.audit.individual_effects import EffectFrame, effect_table
from causalcxr.audit.intervals import clopper_pearson
from causalcxr.common.files import atomic_write
from causalcxr.graph.interventions import Intervention
from causalcxr.sources.phantom import truth

__all__ = ["main"]

GRAPH = Graph.load("cxr7")
_KEPT = Path("runs/audit")
_READ = ("Pleural Effusion", "Sex", "Support Devices")
_QUESTIONS = {
    "do(sex=M)": ("Sex == 'F'", do(sex="M")),
    "do(support_devices=P)": ("`Support Devices` == 'N'", do(support_devices="P")),
}
_FAIR = "chance alone"
Score = Callable[[np.ndarray], np.ndarray]
_SEEN = 300  # patients an audit


def _features(cohort: Cohort, name: str) -> np.ndarray:
    """Return the features of a cohort's films, kept in a folder."""
    path = _KEPT / f"{name}-{len(cohort)}.npy"
    if not path.exists():
        from io import BytesIO

        content = BytesIO()
        np.save(content, image_features(cohort))
        atomic_write(path, content.getvalue())
    return np.load(path, allow_pickle=False)


def _classifiers(reader: AttributeReader) -> dict[str, Score]:
    """Return scores as functions of features (n, 192)."""

    def odds(x: np.ndarray, name: str) -> np.ndarray:
        return logit(np.clip(reader.models[name].predict_proba(x)[:, 1], 1e-4, 1 - 1e-4))

    def fair(x: np.ndarray) -> np.ndarray:
        return expit(odds(x, "Pleural Effusion"))

    return {
        "effusion alone": fair,
        "and sex": lambda x: expit(odds(x, "Pleural Effusion") + 0.5 * odds(x, "Sex")),
        "and devices": lambda x: expit(
            odds(x, "Pleural Effusion") + 3 * odds(x, "Support Devices")
        ),
        _FAIR: _chance(0),
    }


def _chance(key: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return scores that depend on every pixel and on nothing that a patient is."""

    def score(x: np.ndarray) -> np.ndarray:
        salt = key.to_bytes(8, "big")
        digests = (hashlib.blake2b(row.tobytes(), digest_size=8, key=salt).digest() for row in x)
        return np.array([int.from_bytes(d, "big") / 2**64 for d in digests])

    return score


def _audited(
    before: np.ndarray, after: np.ndarray, null: np.ndarray, draws: int, seed: int
) -> pd.DataFrame:
    """Return the effects that an audit of these patients tells, by kind."""
    scores = pd.DataFrame({"factual": before, "twin": after, "null": null})
    n = len(scores)
    frame = EffectFrame(scores, np.arange(n), np.zeros(n, int), {"all": np.ones(n, bool)})
    return effect_table(frame, draws=draws, seed=seed).set_index("kind")


def _coverage(
    question: str, name: str, x: tuple[np.ndarray, np.ndarray], score: Score, *asked: int
) -> Row:
    """Return how often audits of some patients hold the truth about all of them."""
    audits, draws = asked
    before, after = (score(each) for each in x)
    true, rng = float((after - before).mean()), np.random.default_rng(0)
    if name == _FAIR:  # over all such classifiers
        true = 0.0
    held = rejected = covered = 0
    for k in range(audits):
        rows = rng.choice(len(before), min(_SEEN, len(before)))
        seen = (
            [_chance(k)(each[rows]) for each in x]
            if name == _FAIR
            else [before[rows], after[rows]]
        )
        found = _audited(*seen, seen[0], draws, k)
        held += found.loc["total", "low"] <= true <= found.loc["total", "high"]
        rejected += found.loc["total", "p"] < 0.05
        covered += found.loc["null", "low"] <= 0 <= found.loc["null", "high"]
    bounds = clopper_pearson([held, rejected], [audits, audits])
    spans = [f"{low:.3f} to {high:.3f}" for low, high in zip(bounds.low, bounds.high, strict=True)]
    return {
        "question": question,
        "classifier reads": name,
        "twins": "true",
        "true effect": true,
        "interval holds it": held / audits,
        "(exact interval)": spans[0],
        "rejected at .05": rejected / audits,
        "(of it)": spans[1],
        "null covers 0": covered / audits,
    }


def _learned(
    question: str, cohort: Cohort, action: Intervention, scorers: dict, seed: int = 0
) -> list[Row]:
    """Return the bias of a learned model's audit on some patients."""
    trained = Cohort.load("phantom", n=20_000, seed=11)
    model = SCM(GRAPH).fit(trained.with_images(None) if len(cohort) < 16 else trained)
    twin = model.counterfactual(cohort, action, seed=seed)
    x = {"before": image_features(cohort), "after": image_features(twin)}
    x["true"] = image_features(truth(cohort, action))
    null = image_features(model.counterfactual(cohort, do(), recompute=True, seed=seed))
    rows = []
    for name, score in scorers.items():
        if name == _FAIR:
            continue
        found = _audited(score(x["before"]), score(x["after"]), score(null), 2000, seed)
        true = float((score(x["true"]) - score(x["before"])).mean())
        total = found.loc["total"]
        rows.append(
            {
                "question": question,
                "classifier reads": name,
                "twins": "learned",
                "true effect": true,
                "audit": total["mean"],
                "low": total["low"],
                "high": total["high"],
                "bias": total["mean"] - true,
                "null floor": found.loc["null absolute", "mean"],
            }
        )
    return rows


def main(quick: bool = False) -> list[Row]:
    """Return a row a question and classifier with true twins, then with learned ones."""
    taught, pool, audits, draws, few = (
        (200, 60, 10, 200, 0) if quick else (2000, 6000, 200, 1000, 120)
    )
    teacher = Cohort.load("phantom", n=taught, seed=12)
    x = _features(teacher, "teacher")
    reader = AttributeReader.fit(teacher, GRAPH, _READ, features=lambda _: x)
    scorers = _classifiers(reader)
    table, learned = [], []
    for question, (where, action) in _QUESTIONS.items():
        cohort = Cohort.load("phantom", n=pool, seed=13).select(where)
        key = question.replace("(", "-").replace(")", "").replace("=", "-")
        before = _features(cohort, f"{key}-factual")
        after = _features(truth(cohort, action), f"{key}-twin")
        for name, score in scorers.items():
            table.append(_coverage(question, name, (before, after), score, audits, draws))
        if few:
            learned += _learned(question, cohort.head(few), action, scorers)
    return table + learned
