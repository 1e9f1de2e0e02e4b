"""The phantom's population: known equations of the 19 variables, on either expert graph.

The forms are in `distributions`, the numbers in `tables`. The intercepts are solved so that the
marginals are those of CXR7-1M (arXiv:2606.19460), those of View within each data set. All
couplings are comonotone, so the true counterfactual of every patient is known.
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
from causalcxr.sources.phantom.distributions import (
    ConditionalDistribution,
    DiscreteDistribution,
    FindingDistribution,
    MarginalDistribution,
    NoFindingRule,
    Probability,
    QuantileDistribution,
    ViewDistribution,
    largest_difference,
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
_CALIBRATION = 40_000  # patients for whom the intercepts are solved
_ROUNDS = 60
none_of = NoFindingRule(PATHOLOGIES)


def weights(graph: str) -> dict[str, dict[str, float]]:
    """Return the weights of the parents of every finding and of View, in one of the graphs.

    View has an intercept for each data set instead of a weight of its parent Dataset.

    Example:
        >>> weights("cxr7-acquisition")["Atelectasis"]
        {'Pleural Effusion': 1.7, 'Pneumothorax': 0.9, 'Age': 0.4}
    """
    own = {name: of for name, (_, of) in FINDINGS.items()} | {"View": {}}
    return {name: of | ADDED[graph].get(name, {}) for name, of in own.items()}


def sample_noise(draws: Draws, names: Iterable[str] = COLUMNS[:-1]) -> Columns:
    """Return the exogenous noise: one uniform number for each variable, (n,) each."""
    return {name: draws.on(f"phantom {name}").uniform()[:, 0] for name in names}


class Population:
    """The equations of a world; `population` caches them.

    Args:
        graph: The graph of the equations, cxr7 or cxr7-acquisition.
        confounding: As in `World`.
        shortcut: As in `World`.
        disease: As in `World`.

    Raises:
        CohortError: If a planted effect is too large for the marginals.
    """

    def __init__(self, graph: str, confounding: float, shortcut: float, disease: str) -> None:
        draws = Draws(record_keys(pd.RangeIndex(_CALIBRATION)), seed=0)
        noise, columns, distributions = sample_noise(draws), {}, {}
        parents = weights(graph)

        def add(name: str, distribution: ConditionalDistribution) -> None:
            distributions[name] = distribution
            columns[name] = distribution.predict(noise.get(name), columns)

        # In causal order: each equation is solved on the columns before it.
        add("Age", QuantileDistribution(*AGE))
        for name in ROOTS[1:]:
            counts = list(COUNTS[name].values())
            add(name, MarginalDistribution(counts, descending=len(counts) == 2))
        for name in PATHOLOGIES:
            # NaN until the intercept is solved for the fraction of patients.
            probability = Probability(parents[name], np.array([np.nan]))
            add(
                name,
                FindingDistribution(_solved(probability, columns, np.array([FINDINGS[name][0]]))),
            )
        target = np.array([FINDINGS[DEVICES][0]])
        devices = Probability(parents[DEVICES], np.array([np.nan]), cause=(disease, 1))
        add(DEVICES, FindingDistribution(_solved(devices, columns, target, shortcut, "shortcut")))
        add("No Finding", none_of)
        view = Probability(parents["View"], np.full(7, np.nan), "Dataset", ("No Finding", 0))
        # AP is solved for; PA has its share of the rest.
        ap, pa, _ = VIEW_BY_DATASET.T
        view = _solved(view, columns, ap, confounding, "confounding")
        add("View", ViewDistribution(view, pa / (1 - ap)))
        #: The equations in causal order, planted effects included.
        self.distributions: Mapping[str, ConditionalDistribution] = MappingProxyType(distributions)
        #: The fraction of No Finding.
        self.healthy = float(columns["No Finding"].mean())

    def predict(self, noise: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray]) -> Columns:
        """Return every variable by its equation, except those that are fixed.

        Args:
            noise: Uniform numbers by variable, (n,) each; not required for fixed variables.
            fixed: Level positions and years of fixed variables, (n,) each.

        Returns:
            Level positions and years in the order of the table, (n,) each, float64.
        """
        columns: Columns = {}
        for name, distribution in self.distributions.items():
            columns[name] = (
                fixed[name] if name in fixed else distribution.predict(noise.get(name), columns)
            )
        return {name: columns[name] for name in COLUMNS}

    def abduct(self, columns: Mapping[str, np.ndarray], draws: Draws) -> Columns:
        """Return a sample of the true posterior of the noise given all variables.

        Given its parents, a variable's noise is uniform on the cell in which its equation gives
        the observed value. Variables without parents are left out: they keep their values.

        Args:
            columns: The observed variables, (n,) each, none missing.
            draws: Random numbers of the rows.

        Returns:
            The noise by variable, (n,); NaN where the value is impossible given the parents.
        """
        noise = {}
        for name, distribution in self.distributions.items():
            if isinstance(distribution, DiscreteDistribution) and name not in ROOTS:
                # Within its cell the noise is uniform; v is the place in the cell.
                v = draws.on(f"phantom posterior {name}").uniform()[:, 0]
                noise[name] = distribution.abduct(columns[name], columns, v)
        return noise


def population(world: World) -> Population:
    """Return the equations of a world; those of the last eight worlds are cached."""
    return _population(world.graph, world.confounding, world.shortcut, world.disease)


_population = lru_cache(maxsize=8)(Population)


def _solved(
    probability: Probability,
    columns: Columns,
    targets: np.ndarray,
    strength: float = 0.0,
    option: str = "",
) -> Probability:
    """Return a probability with its intercepts, and the scale of its planted effect.

    Args:
        probability: The probability without them.
        columns: The patients for whom it is solved; they are the same in every stratum.
        targets: The required mean of the probability by stratum; 0 where it is impossible.
        strength: The required mean rise of the probability through the planted effect, all else
            equal.
        option: The option of `World`, for an error message.
    """
    score = np.broadcast_to(probability.score(columns), columns["Age"].shape)
    if not strength:
        return replace(probability, intercepts=_intercepts(probability, score, targets))
    present = probability.present(columns)
    share, (cause, position) = float(present.mean()), probability.cause
    mass = np.ones(1) if probability.stratum is None else np.array(list(DATASETS.values()))
    # Scores with the cause absent and present: the cause may already change the probability
    # through an arrow of the graph.
    scores = [
        probability.score(columns | {cause: np.full(len(present), float(level))})
        for level in (1 - position, position)
    ]
    scale = available = 0.0
    for _ in range(_ROUNDS):
        # The intercepts depend on the scale, and the largest possible effect on the intercepts.
        probability = replace(probability, share=share, scale=scale)
        intercepts = _intercepts(probability, score, targets, present)
        probability = replace(probability, intercepts=intercepts)
        without, with_ = (
            np.array([largest_difference(expit(b + s), share).mean() for b in intercepts]) @ mass
            for s in scores
        )
        available = float(share * without + (1 - share) * with_)
        old, scale = scale, min(1.0, strength / available)
        if abs(scale - old) < 1e-9:
            break
    if strength > available * (1 + 1e-6):
        raise CohortError(
            f"world: {option}={strength:g} is too large for the marginals; give at most "
            f"{available:.3f}"
        )
    return probability


def _intercepts(
    probability: Probability,
    score: np.ndarray,
    targets: np.ndarray,
    present: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return the intercepts with which the probability has its mean, one for each stratum."""

    def excess(intercept: float, target: float) -> float:
        p = expit(intercept + score)
        p = probability.planted(p, present) if probability.scale else p
        return p.mean() - target

    return np.array(
        # The mean rises with the intercept: there is one root, at -inf for a target of 0.
        [brentq(excess, -30, 30, args=(t,), xtol=1e-9) if t > 0 else -np.inf for t in targets]
    )
