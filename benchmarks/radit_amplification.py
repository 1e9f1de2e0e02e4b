"""Attribute amplification: whether an intervention changes other variables; with guidance or not.

    python -m benchmarks radit_amplification

Linear readers on the bundled features learn sex, view, cardiomegaly and effusion from phantoms,
and are applied to twins. For each intervention the table has the change of the log odds of the
variable that is set, and the mean absolute change of those that should not change: for the true
twins, and for RadiT plain, guided by the graph, and guided in all variables (classifier-free),
with weight 2.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import Row
from benchmarks._distances import feature_vectors
from benchmarks._image_twins import (
    ACTIONS,
    GRAPH,
    affected,
    bind_parents,
    load_network,
    radiographs,
    record_draws,
)
from causalcxr import Cohort
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.features import load_features
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_READ = {"Sex": "M", "View": "PA", "Cardiomegaly": "P", "Pleural Effusion": "P"}
_WEIGHT = 2.0


def _readers(cohort: Cohort, features: np.ndarray) -> dict[str, Pipeline]:
    return {
        name: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(
            features, cohort.table[name] == level
        )
        for name, level in _READ.items()
    }


def main(quick: bool = False) -> list[Row]:
    """Return one row per intervention and method."""
    n, n_training = (2, 300) if quick else (48, 4000)
    features, net = load_features(), load_network()
    training = Cohort.load("phantom", n=n_training, seed=105, enriched=1)
    readers = _readers(training, feature_vectors(features, training.images[:]))
    cohort, table = Cohort.load("phantom", n=2000, seed=102), []
    for name, (where, action) in ACTIONS.items():
        if not (read_variables := affected(action) & set(_READ)):
            continue
        records = cohort.select(where).head(n)
        true_twins, affected_names = truth(records, action), affected(action)
        methods = {
            "true twins": None,
            "plain": Solving(),
            "guided by the graph": Solving(guidance=_WEIGHT, guided=frozenset(affected_names)),
            "guided in all variables": Solving(
                guidance=_WEIGHT, guided=frozenset(net.conditioner.names)
            ),
        }
        before = feature_vectors(features, records.images[:])
        for method, options in methods.items():
            if options is None:
                images = true_twins.images[:]
            else:
                u = bind_parents(net, records, options).abduct(
                    radiographs(records), record_draws(records)
                )
                images = (
                    bind_parents(net, true_twins, options).predict(u).clamp(0, 1).float().numpy()
                )
            after = feature_vectors(features, images)
            changes = {
                key: reader.decision_function(after) - reader.decision_function(before)
                for key, reader in readers.items()
            }
            set_here = next(
                (key for key in action.bind(GRAPH).names if key in read_variables), None
            )
            others = [np.abs(changes[key]).mean() for key in changes if key not in affected_names]
            table.append(
                {
                    "intervention": name,
                    "twins": method,
                    "variable that is set": float(changes[set_here].mean()) if set_here else "",
                    "others": float(np.mean(others)) if others else "",
                }
            )
    return table
