"""Does an intervention move what it should not? With and without guidance.

    python -m benchmarks radit_amplification

Linear readers on the bundled features learn sex, view, cardiomegaly and effusion from phantoms,
and read twins. Told per intervention: the change of the log odds of what is set, and the mean
absolute change of those of the others, for the true twins, for RadiT plain, guided by the graph,
and guided in all variables (classifier-free), with weight 2.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import Row
from benchmarks._distances import vectors
from benchmarks._twins import ACTIONS, GRAPH, bound, chance, films, network, reached
from causalcxr import Cohort
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.features import load_features
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_READ = {"Sex": "M", "View": "PA", "Cardiomegaly": "P", "Pleural Effusion": "P"}
_WEIGHT = 2.0


def _readers(cohort: Cohort, found: np.ndarray) -> dict[str, Pipeline]:
    return {
        name: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(
            found, cohort.table[name] == level
        )
        for name, level in _READ.items()
    }


def main(quick: bool = False) -> list[Row]:
    """Return a row an intervention and a way to make twins."""
    n, learned = (2, 300) if quick else (48, 4000)
    features, net = load_features(), network()
    known = Cohort.load("phantom", n=learned, seed=105, enriched=1)
    readers = _readers(known, vectors(features, known.images[:]))
    cohort, table = Cohort.load("phantom", n=2000, seed=102), []
    for name, (where, action) in ACTIONS.items():
        if not (asked := reached(action) & set(_READ)):
            continue
        few = cohort.select(where).head(n)
        true, names = truth(few, action), reached(action)
        ways = {
            "true twins": None,
            "plain": Solving(),
            "guided by the graph": Solving(guidance=_WEIGHT, guided=frozenset(names)),
            "guided in all": Solving(guidance=_WEIGHT, guided=frozenset(net.conditioner.names)),
        }
        before = vectors(features, few.images[:])
        for way, how in ways.items():
            if how is None:
                made = true.images[:]
            else:
                u = bound(net, few, how).abduct(films(few), chance(few))
                made = bound(net, true, how).predict(u).clamp(0, 1).float().numpy()
            after = vectors(features, made)
            moved = {
                key: reader.decision_function(after) - reader.decision_function(before)
                for key, reader in readers.items()
            }
            set_here = next((key for key in action.bind(GRAPH).names if key in asked), None)
            others = [np.abs(moved[key]).mean() for key in moved if key not in names]
            table.append(
                {
                    "intervention": name,
                    "twins": way,
                    "what is set": float(moved[set_here].mean()) if set_here else "",
                    "others": float(np.mean(others)) if others else "",
                }
            )
    return table
