"""The phantom population as a cohort, and its true counterfactuals.

A phantom is its variables and its noise: both are kept, the film is computed when it is asked
for. The truth under an intervention is the same noise through the same equations once more.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import CohortError, brief
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Intervention
from causalcxr.sources.phantom.images import BITS, PhantomImages
from causalcxr.sources.phantom.patient import NUMBERS, Patient
from causalcxr.sources.phantom.population import ROOTS, population, sample_noise
from causalcxr.sources.phantom.recording import record
from causalcxr.sources.phantom.tables import FINDINGS
from causalcxr.sources.phantom.world import World

__all__ = ["exogenous", "load", "recognises", "truth"]

_SWITCHES = ("enriched", "missing", "race_signal")


@lru_cache(maxsize=2)
def _graph(name: str) -> Graph:
    return Graph.load(name)


def recognises(path: Path) -> bool:
    """A phantom is made, not found: no path is one."""
    return False


def load(
    path: Path | None = None,
    *,
    n: int = 2000,
    seed: int = 0,
    size: int = 64,
    enriched: int = 0,
    copies: int = 1,
    graph: str = "cxr7",
    missing: int = 0,
    bits: int = 8,
    confounding: int = 0,
    shortcut: int = 0,
    underdiagnosis: int = 0,
    race_signal: int = 1,
    world: World | None = None,
) -> Cohort:
    """Draw a phantom cohort.

    Args:
        path: Not used: phantoms come from nowhere.
        n: Number of patients, one radiograph each. The first k of n are the k of a smaller cohort.
        seed: Of variables, anatomy and detector alike.
        size: Pixels along each side, 32 to 512.
        enriched: 1 to toss a coin for every finding of half of the records, so that an image
            equation sees rare ones often enough. Such a cohort is no sample of the population, and
            has no true twins; what its films show under their variables is the same.
        copies: So many consecutive records share their variables, in bodies of their own, for what
            is learned from records with equal parents. Like an enriched cohort, it has no truth.
        graph: Whose edges the equations have: cxr7 or cxr7-acquisition.
        missing: 1 to leave blank in the table what the sources leave blank; the films know all.
        bits: Of the films' grey levels, 8 or 12.
        confounding: Per cent by which the sick are filmed AP more often, see `World`.
        shortcut: Per cent by which devices come with the disease.
        underdiagnosis: Per cent of the group's pathologies that are labelled N.
        race_signal: 0 to keep race out of the films.
        world: All of that at once, in place of graph, missing and what follows bits.

    Raises:
        CohortError: If an option is out of its range.

    Example:
        >>> cohort = load(n=4, seed=0)
        >>> cohort.images[:2].shape
        (2, 1, 64, 64)
    """
    if n < 1 or not 32 <= size <= 512:
        raise CohortError(f"phantom: n={n}, size={size}; n must be at least 1 and size 32 to 512")
    if bits not in BITS:
        raise CohortError(f"phantom: bits={bits!r}; grey levels have 8 or 12 bits")
    if not isinstance(copies, int) or copies < 1:
        raise CohortError(f"phantom: copies={copies!r}; a whole number of at least 1")
    for name, switch in zip(_SWITCHES, (enriched, missing, race_signal), strict=True):
        if switch not in (0, 1):
            raise CohortError(f"phantom: {name}={switch!r}; 1 for yes, 0 for no")
    shares = {"confounding": confounding, "shortcut": shortcut, "underdiagnosis": underdiagnosis}
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share <= 100:
            raise CohortError(f"phantom: {name}={share!r}; give per cent, 0 to 100")
    shares = {name: share / 100 for name, share in shares.items()}
    asked = World(graph, race_signal=float(race_signal), missing=bool(missing), **shares)
    if world is not None and asked != World():
        raise CohortError(f"phantom: world= and {asked.described()[0]}; give one of the two")
    asked = asked if world is None else world
    return _drawn(n, seed, size, bits, asked, enriched=bool(enriched), copies=copies)


def _drawn(
    n: int, seed: int, size: int, bits: int, world: World, *, enriched: bool, copies: int
) -> Cohort:
    index = pd.RangeIndex(n, name="record")
    draws, equations = Draws(record_keys(index), seed), population(world)
    noise = sample_noise(draws)
    columns = equations.predict(noise, {})
    if enriched:
        columns = equations.predict(noise, _tossed(columns, draws))
    if copies > 1:
        columns = {name: column[index // copies * copies] for name, column in columns.items()}
    other = enriched or copies > 1
    films = PhantomImages(columns, draws, size, world=world, bits=bits, enriched=other)
    return Cohort.from_columns(
        _graph(world.graph),
        record(world, columns, draws),
        index,
        images=films,
        source="enriched phantom" if other else "phantom",
        notes=world.described(),
    )


def _tossed(columns: dict[str, np.ndarray], draws: Draws) -> dict[str, np.ndarray]:
    """Return the findings, in half of the records as they are and in the others by a coin each."""
    chosen = draws.on("phantom enriched").uniform()[:, 0] < 0.5
    coins = draws.on("phantom coins").uniform(len(FINDINGS)) < 0.5
    return {name: np.where(chosen, coins[:, k], columns[name]) for k, name in enumerate(FINDINGS)}


def exogenous(cohort: Records) -> pd.DataFrame:
    """Return the exogenous numbers of the bodies, one column each by name, (n, k).

    They are standard normal, within three deviations, and a twin has those of its patient.

    Args:
        cohort: Phantoms, or their true twins.

    Raises:
        CohortError: If the cohort's images are not phantoms.

    Example:
        >>> bool(exogenous(load(n=4))["heart size"].between(-3, 3).all())
        True
    """
    cohort = as_cohort(cohort)
    if not isinstance(cohort.images, PhantomImages):
        raise CohortError(
            f"exogenous: the images come from {cohort.source!r}; only phantoms know their noise"
        )
    patient = Patient({}, cohort.images.draws)
    numbers = {name: patient.z(name).numpy() for name in NUMBERS}
    return pd.DataFrame(numbers, index=cohort.index)


def truth(
    cohort: Records, intervention: Intervention, *, draws: int | None = None, seed: int = 0
) -> Cohort:
    """Return the true twins of phantoms under an intervention.

    The equations and the noise are known, so nothing is estimated. A record in which no variable
    changes keeps its image to the last bit. The truth of a truth is that of both interventions;
    the later one holds where they name the same variable.

    A twin is recorded as its patient is, by the same recording noise: where values are missing or
    labels wrong, so are the twin's. What is set by hand is recorded as it was set; a shift of a
    missing value is missing.

    With `draws`, the noise is not the patient's own but drawn from its true posterior given the
    table alone: what a model that knew the equations could say at best. There are no images then.

    Args:
        cohort: Phantoms as `load` drew them, some of them, or their true twins.
        intervention: What is done, see `causalcxr.do`.
        draws: Posterior draws a record; the index is then (record, draw).
        seed: Of the posterior draws, and of distributions that values are drawn from: the draws
            of a model's twins of the same seed.

    Raises:
        CohortError: If the cohort's images are not phantoms, so that their noise is not known; or
            if draws are asked for and the table misses a value, or has labels that are wrong.

    Example:
        >>> from causalcxr.graph.interventions import do
        >>> many = truth(load(n=3), do(sex="M"), draws=4)
        >>> len(many), many.index.names, set(many.table["Sex"])
        (12, FrozenList(['record', 'draw']), {'M'})
    """
    cohort = as_cohort(cohort)
    films = cohort.images
    if not isinstance(films, PhantomImages) or films.enriched:
        raise CohortError(
            f"truth: the images come from {cohort.source!r}; only phantoms know their noise"
        )
    if draws is not None:
        return _posterior(cohort, films, intervention, draws, seed)
    graph, world = _graph(films.world.graph), films.world
    bound = intervention.bind(graph)
    numbers = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
    fixed = films.fixed | bound.values(films.columns, numbers, cohort.index)
    seen = record(world, films.columns, films.draws, films.told)
    set_to = bound.values(seen, numbers, cohort.index)
    told = films.told | {name: ~np.isnan(value) for name, value in set_to.items()}
    columns = population(world).predict(sample_noise(films.draws), fixed)
    twins = cohort.with_columns(graph, record(world, columns, films.draws, told))
    return twins.with_images(films.of(columns, fixed, told))


def _posterior(
    cohort: Cohort, films: PhantomImages, intervention: Intervention, draws: int, seed: int
) -> Cohort:
    """Return twins by draws of the true posterior of the noise given the table."""
    graph, equations = _graph(films.world.graph), population(films.world)
    if films.world.underdiagnosis:
        raise CohortError(
            "truth: draws explain the labels as they stand, and this world's labels are wrong; "
            "use underdiagnosis=0"
        )
    many = cohort.with_images(None).repeat(draws)
    observed = {name: np.repeat(c, draws) for name, c in _complete(cohort, graph).items()}
    numbers = Draws(record_keys(many.records), seed, draw=many.draws)
    values = intervention.repeat(draws).bind(graph).values(observed, numbers, many.index)
    noise = equations.abduct(observed, numbers)
    set_before = {name: observed[name] for name in films.fixed}
    _check_possible(many, {name: u for name, u in noise.items() if name not in set_before})
    roots = {name: observed[name] for name in ROOTS}
    return many.with_columns(graph, equations.predict(noise, roots | set_before | values))


def _complete(cohort: Cohort, graph: Graph) -> dict[str, np.ndarray]:
    """Return the columns; gaps are refused, as the posterior given the rest is another one."""
    columns = cohort.columns(graph)
    for name, column in columns.items():
        if (absent := np.isnan(column)).any():
            raise CohortError(
                f"truth: record {brief(cohort.index[absent.argmax()])} has no {name} "
                f"({absent.sum():,} records); draws need every value, use missing=0 or leave "
                "such records out"
            )
    return columns


def _check_possible(cohort: Cohort, noise: dict[str, np.ndarray]) -> None:
    """Refuse values that no noise explains."""
    for name, u in noise.items():
        if (impossible := np.isnan(u)).any():
            row = int(impossible.argmax())
            value = brief(cohort.table[name].iloc[row])
            raise CohortError(
                f"truth: record {brief(cohort.records[row])}: {name} {value} has no chance given "
                "its parents in this world; correct it, or leave the record out"
            )
