"""The phantom's population: known equations of the 19 variables, on either expert graph.

The forms are in `laws`, the numbers in `tables`. The intercepts are solved so that the marginals
are those of CXR7-1M (arXiv:2606.19460), those of View within each data set. All couplings are
comonotone, so the true counterfactual of every patient is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.sources.phantom.laws import (
    Chance,
    FindingLaw,
    Law,
    LevelLaw,
    NoFindingLaw,
    QuantileLaw,
    ShareLaw,
    ViewLaw,
    room,
)
from causalcxr.sources.phantom.tables import (
    ADDED,
    AGE,
    COUNTS,
    DATASETS,
    DEVICES,
    FINDINGS,
    PATHOLOGIES,
    VIEW_BY_DATASET,
    VIEWS,
)
from causalcxr.sources.phantom.world import World

__all__ = [
    "COLUMNS",
    "DATASETS",
    "FINDINGS",
    "ROOTS",
    "VIEWS",
    "Population",
    "none_of",
    "population",
    "sample_noise",
    "weights",
]

Columns = dict[str, np.ndarray]

ROOTS = ("Age", "Sex", "Race", "Dataset")
COLUMNS = (*ROOTS, "View", *FINDINGS, "No Finding")  # in the order of the table
_CALIBRATION = 40_000  # patients on whom the intercepts are solved
_ROUNDS = 60
none_of = NoFindingLaw(PATHOLOGIES)


def weights(graph: str) -> dict[str, dict[str, float]]:
    """Return the weights of the parents of every finding and of View, in one of the graphs.

    View has an intercept for each data set besides: its parent Dataset has no weight.

    Example:
        >>> weights("cxr7-acquisition")["Atelectasis"]
        {'Pleural Effusion': 1.7, 'Pneumothorax': 0.9, 'Age': 0.4}
    """
    own = {name: of for name, (_, of) in FINDINGS.items()} | {"View": {}}
    return {name: of | ADDED[graph].get(name, {}) for name, of in own.items()}


def sample_noise(draws: Draws, names: Iterable[str] = COLUMNS[:-1]) -> Columns:
    """Return the exogenous noise of every record: one uniform number a variable, (n,) each."""
    return {name: draws.on(f"phantom {name}").uniform()[:, 0] for name in names}


class Population:
    """The equations of a world; `population` keeps them.

    Args:
        graph: Whose edges they have, cxr7 or cxr7-acquisition.
        confounding: As in `World`, and so are the others.
        shortcut: The extra chance of devices.
        disease: The pathology that brings them.

    Raises:
        CohortError: If more is to be planted than there is room for.
    """

    def __init__(self, graph: str, confounding: float, shortcut: float, disease: str) -> None:
        draws = Draws(record_keys(pd.RangeIndex(_CALIBRATION)), seed=0)
        noise, columns, laws = sample_noise(draws), {}, {}
        parents = weights(graph)

        def add(name: str, law: Law) -> None:
            laws[name] = law
            columns[name] = law.predict(noise.get(name), columns)

        add("Age", QuantileLaw(*AGE))
        for name in ROOTS[1:]:
            counts = list(COUNTS[name].values())
            add(name, ShareLaw(counts, descending=len(counts) == 2))
        for name in PATHOLOGIES:
            chance = Chance(parents[name], np.array([np.nan]))
            add(name, FindingLaw(_solved(chance, columns, np.array([FINDINGS[name][0]]))))
        target = np.array([FINDINGS[DEVICES][0]])
        devices = Chance(parents[DEVICES], np.array([np.nan]), cause=(disease, 1))
        add(DEVICES, FindingLaw(_solved(devices, columns, target, shortcut, "shortcut")))
        add("No Finding", none_of)
        view = Chance(parents["View"], np.full(7, np.nan), "Dataset", ("No Finding", 0))
        ap, pa, _ = VIEW_BY_DATASET.T
        view = _solved(view, columns, ap, confounding, "confounding")
        add("View", ViewLaw(view, pa / (1 - ap)))
        #: The equations, causes first, planted ones too.
        self.laws: Mapping[str, Law] = MappingProxyType(laws)
        #: The share of No Finding.
        self.healthy = float(columns["No Finding"].mean())

    def predict(self, noise: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray]) -> Columns:
        """Return every variable by its equation, but for those that are fixed.

        Args:
            noise: Uniform numbers by variable, (n,) each; not needed of what is fixed.
            fixed: Level positions and years, (n,) each.

        Returns:
            Level positions and years in the order of the table, (n,) each, float64.
        """
        columns: Columns = {}
        for name, law in self.laws.items():
            known = name in fixed
            columns[name] = fixed[name] if known else law.predict(noise.get(name), columns)
        return {name: columns[name] for name in COLUMNS}

    def abduct(self, columns: Mapping[str, np.ndarray], draws: Draws) -> Columns:
        """Return a draw of the true posterior of the noise given all of the variables.

        Given its parents, a variable's noise is uniform on the cell in which its equation gives
        the value that was observed. What has no parents is left out: its value stands.

        Args:
            columns: What was observed, (n,) each, none missing.
            draws: Random numbers of the rows.

        Returns:
            By variable, (n,); NaN where the value has no chance given the parents.
        """
        noise = {}
        for name, law in self.laws.items():
            if isinstance(law, LevelLaw) and name not in ROOTS:
                v = draws.on(f"phantom posterior {name}").uniform()[:, 0]
                noise[name] = law.abduct(columns[name], columns, v)
        return noise


def population(world: World) -> Population:
    """Return the equations of a world; those of the last few worlds are kept."""
    return _population(world.graph, world.confounding, world.shortcut, world.disease)


_population = lru_cache(maxsize=8)(Population)


def _solved(
    chance: Chance,
    columns: Columns,
    targets: np.ndarray,
    strength: float = 0.0,
    knob: str = "",
) -> Chance:
    """Return a chance with its intercepts, and the scale of its planted arrow.

    Args:
        chance: Without them.
        columns: Of the patients to solve it on; they are the same in every stratum.
        targets: The mean that the chance shall have, by stratum, 0 where it never happens.
        strength: What the planted arrow shall add to the chance where its cause is present,
            all else the same, in the mean.
        knob: What to call it in a message.
    """
    score = np.broadcast_to(chance.score(columns), columns["Age"].shape)
    if not strength:
        return replace(chance, intercepts=_intercepts(chance, score, targets))
    present = chance.present(columns)
    share, (cause, position) = float(present.mean()), chance.cause
    mass = np.ones(1) if chance.stratum is None else np.array(list(DATASETS.values()))
    # Scores were the cause absent and present, and how much each counts: the planted arrow acts
    # on a chance that the cause may move already.
    scores = [
        chance.score(columns | {cause: np.full(len(present), float(level))})
        for level in (1 - position, position)
    ]
    scale = available = 0.0
    for _ in range(_ROUNDS):
        chance = replace(chance, share=share, scale=scale)
        chance = replace(chance, intercepts=_intercepts(chance, score, targets, present))
        absent, there = (
            np.array([room(expit(b + s), share).mean() for b in chance.intercepts]) @ mass
            for s in scores
        )
        available = float(share * absent + (1 - share) * there)
        old, scale = scale, min(1.0, strength / available)
        if abs(scale - old) < 1e-9:
            break
    if strength > available * (1 + 1e-6):
        raise CohortError(
            f"world: {knob}={strength:g}, but there is room for {available:.3f} at most while the "
            "marginals stay; lower it"
        )
    return chance


def _intercepts(
    chance: Chance, score: np.ndarray, targets: np.ndarray, present: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return the intercepts with which the chance has its mean, one a stratum."""

    def excess(intercept: float, target: float) -> float:
        p = expit(intercept + score)
        p = chance.planted(p, present) if chance.scale else p
        return p.mean() - target

    return np.array(
        [brentq(excess, -30, 30, args=(t,), xtol=1e-9) if t > 0 else -np.inf for t in targets]
    )
