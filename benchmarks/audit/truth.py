"""Whether the audit detects planted bias, and none where there is none.

    python -m benchmarks audit.truth            (two cores, about 12 minutes; features are saved)

Three classifiers of pleural effusion are linear readers of the bundled features of phantom images:
one uses the effusion alone, one also sex, one also support devices. The score of a fourth, drawn
again for each audit, depends on no variable of the patient. The phantom gives true twins, so the
true effect on each patient is known, and its mean over a pool of patients is the truth. 200 audits
resample 300 patients each. The table has the coverage of the 95 % interval (with Clopper-Pearson
bounds), how often a classifier is rejected, and how often the null floor covers zero excess.
`audit.learned` measures the bias of learned twins.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from benchmarks import Row
from causalcxr import Cohort, Graph, do
from causalcxr.audit.attribute_reader import AttributeReader, image_features
from causalcxr.audit.individual_effects import EffectFrame, effect_table
from causalcxr.audit.intervals import clopper_pearson
from causalcxr.common.files import atomic_write
from causalcxr.sources.phantom import truth

__all__ = ["FAIR", "main", "planted_classifiers", "random_score", "run_audit"]

GRAPH = Graph.load("cxr7")
_SAVED = Path("runs/audit")
_ATTRIBUTES = ("Pleural Effusion", "Sex", "Support Devices")
_QUESTIONS = {
    "do(sex=M)": ("Sex == 'F'", do(sex="M")),
    "do(support_devices=P)": ("`Support Devices` == 'N'", do(support_devices="P")),
}
FAIR = "no variable"
Score = Callable[[np.ndarray], np.ndarray]
_PATIENTS = 300  # patients in each audit


def _features(cohort: Cohort, name: str) -> np.ndarray:
    """Return the features of a cohort's images, saved in a folder."""
    path = _SAVED / f"{name}-{len(cohort)}.npy"
    if not path.exists():
        from io import BytesIO

        content = BytesIO()
        np.save(content, image_features(cohort))
        atomic_write(path, content.getvalue())
    return np.load(path, allow_pickle=False)


def planted_classifiers(n: int) -> dict[str, Score]:
    """Return classifiers of effusion as functions of features (n, 192), read from n phantoms."""
    training_cohort = Cohort.load("phantom", n=n, seed=12)
    x = _features(training_cohort, "teacher")
    reader = AttributeReader.fit(training_cohort, GRAPH, _ATTRIBUTES, features=lambda _: x)

    def odds(x: np.ndarray, name: str) -> np.ndarray:
        return logit(np.clip(reader.models[name].predict_proba(x)[:, 1], 1e-4, 1 - 1e-4))

    def fair(x: np.ndarray) -> np.ndarray:
        return expit(odds(x, "Pleural Effusion"))

    return {
        "effusion alone": fair,
        "effusion and sex": lambda x: expit(odds(x, "Pleural Effusion") + 0.5 * odds(x, "Sex")),
        "effusion and devices": lambda x: expit(
            odds(x, "Pleural Effusion") + 3 * odds(x, "Support Devices")
        ),
        FAIR: random_score(0),
    }


def random_score(key: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return scores that depend on every feature, but on no variable of the patient."""

    def score(x: np.ndarray) -> np.ndarray:
        salt = key.to_bytes(8, "big")
        digests = (hashlib.blake2b(row.tobytes(), digest_size=8, key=salt).digest() for row in x)
        return np.array([int.from_bytes(d, "big") / 2**64 for d in digests])

    return score


def run_audit(
    before: np.ndarray, after: np.ndarray, null: np.ndarray, draws: int, seed: int
) -> pd.DataFrame:
    """Return the effects that an audit of these patients reports, by kind."""
    scores = pd.DataFrame({"factual": before, "twin": after, "null": null})
    n = len(scores)
    frame = EffectFrame(scores, np.arange(n), np.zeros(n, int), {"all": np.ones(n, bool)})
    return effect_table(frame, draws=draws, seed=seed).set_index("kind")


def _coverage(
    question: str, name: str, x: tuple[np.ndarray, np.ndarray], score: Score, *sizes: int
) -> Row:
    """Return how often the intervals of audits of a sample contain the effect in the pool."""
    audits, draws = sizes
    before, after = (score(each) for each in x)
    true, rng = float((after - before).mean()), np.random.default_rng(0)
    if name == FAIR:  # the expectation over all such classifiers
        true = 0.0
    n_covered = n_rejected = n_null_covered = 0
    for k in range(audits):
        rows = rng.choice(len(before), min(_PATIENTS, len(before)))
        scores = (
            [random_score(k)(each[rows]) for each in x]
            if name == FAIR
            else [before[rows], after[rows]]
        )
        effects = run_audit(*scores, scores[0], draws, k)
        n_covered += effects.loc["total", "low"] <= true <= effects.loc["total", "high"]
        n_rejected += effects.loc["total", "p"] < 0.05
        n_null_covered += effects.loc["null", "low"] <= 0 <= effects.loc["null", "high"]
    bounds = clopper_pearson([n_covered, n_rejected], [audits, audits])
    intervals = [
        f"{low:.3f} to {high:.3f}" for low, high in zip(bounds.low, bounds.high, strict=True)
    ]
    return {
        "question": question,
        "classifier uses": name,
        "twins": "true",
        "true effect": true,
        "coverage": n_covered / audits,
        "its exact interval": intervals[0],
        "rejected at .05": n_rejected / audits,
        "exact interval of it": intervals[1],
        "null covers 0": n_null_covered / audits,
    }


def main(quick: bool = False) -> list[Row]:
    """Return one row per question and classifier."""
    n_training, pool, audits, draws = (200, 60, 10, 200) if quick else (2000, 6000, 200, 1000)
    scorers = planted_classifiers(n_training)
    table = []
    for question, (where, action) in _QUESTIONS.items():
        cohort = Cohort.load("phantom", n=pool, seed=13).select(where)
        key = question.replace("(", "-").replace(")", "").replace("=", "-")
        before = _features(cohort, f"{key}-factual")
        after = _features(truth(cohort, action), f"{key}-twin")
        for name, score in scorers.items():
            table.append(_coverage(question, name, (before, after), score, audits, draws))
    return table
