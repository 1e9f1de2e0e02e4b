"""The phantom population as a cohort, and its true counterfactuals.

A phantom is stored as its variables and its noise; its image is rendered when it is read. The
truth under an intervention is the same noise, passed again through the same equations.
"""

from collections.abc import Callable
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
from causalcxr.sources.phantom.tables import FINDINGS, VIEWS
from causalcxr.sources.phantom.world import World

__all__ = ["exogenous", "load", "recognises", "truth"]

Columns = dict[str, np.ndarray]

_SWITCHES = ("enriched", "randomised", "missing", "race_signal")
_LARGEST_RATE = 0.6  # of a randomised patient's findings


@lru_cache(maxsize=2)
def _graph(name: str) -> Graph:
    return Graph.load(name)


def recognises(path: Path) -> bool:
    """Return False: phantoms are generated, not read from a path."""
    return False


def load(
    path: Path | None = None,
    *,
    n: int = 2000,
    seed: int = 0,
    size: int = 64,
    enriched: int = 0,
    randomised: int = 0,
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
    """Sample a phantom cohort.

    Args:
        path: Not used: phantoms are generated.
        n: Number of patients, one radiograph each. A smaller cohort is the beginning of a larger
            one.
        seed: The seed of variables, anatomy and detector.
        size: Pixels along each side, 32 to 512.
        enriched: 1 to draw every finding of half of the records with probability 1/2, so that an
            image equation sees rare findings often. Such a cohort is not a sample of the
            population and has no true twins; its images given the variables are the same.
        randomised: 1 to draw View and every finding independently of their causes, as in a
            randomised trial: each view is as likely as another, and a patient's findings are
            present at a rate that is uniform on 0 to 0.6. So an image equation learns each effect
            without confounding. Like an enriched cohort, it has no true twins.
        copies: The number of consecutive records that share their variables, in different bodies,
            for training with equal parents. Like an enriched cohort, it has no true twins.
        graph: The graph of the equations: cxr7 or cxr7-acquisition.
        missing: 1 for the gaps of the sources in the table; the images are those of all values.
        bits: Bits of the grey levels, 8 or 12.
        confounding: Rise of the probability of AP for patients with a pathology, in per cent; see
            `World`.
        shortcut: Rise of the probability of devices with the disease, in per cent.
        underdiagnosis: Pathologies of the group that are labelled N, in per cent.
        race_signal: 0 to remove race from the images.
        world: The world, in place of graph, missing and the options after bits.

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
        raise CohortError(f"phantom: bits={bits!r}; allowed: 8, 12")
    if not isinstance(copies, int) or copies < 1:
        raise CohortError(f"phantom: copies={copies!r}; give a whole number of at least 1")
    for name, switch in zip(_SWITCHES, (enriched, randomised, missing, race_signal), strict=True):
        if switch not in (0, 1):
            raise CohortError(f"phantom: {name}={switch!r}; give 1 for yes or 0 for no")
    if enriched and randomised:
        raise CohortError("phantom: enriched=1 and randomised=1; give one of the two")
    shares = {"confounding": confounding, "shortcut": shortcut, "underdiagnosis": underdiagnosis}
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share <= 100:
            raise CohortError(f"phantom: {name}={share!r}; give per cent, 0 to 100")
    shares = {name: share / 100 for name, share in shares.items()}
    chosen = World(graph, race_signal=float(race_signal), missing=bool(missing), **shares)
    if world is not None and chosen != World():
        raise CohortError(f"phantom: world= and {chosen.described()[0]}; give one of the two")
    chosen = chosen if world is None else world
    change = _enriched_findings if enriched else _randomised_columns if randomised else None
    return _sampled(n, seed, size, bits, chosen, change, copies)


def _sampled(
    n: int,
    seed: int,
    size: int,
    bits: int,
    world: World,
    change: Callable[[Columns, Draws], Columns] | None,
    copies: int,
) -> Cohort:
    index = pd.RangeIndex(n, name="record")
    draws, equations = Draws(record_keys(index), seed), population(world)
    noise = sample_noise(draws)
    columns = equations.predict(noise, {})
    # Predict again with the same noise and the chosen values.
    if change:
        columns = equations.predict(noise, change(columns, draws))
    # Copies have equal variables; the images differ, as each has its own noise.
    if copies > 1:
        columns = {name: column[index // copies * copies] for name, column in columns.items()}
    is_enriched = bool(change) or copies > 1
    images = PhantomImages(columns, draws, size, world=world, bits=bits, enriched=is_enriched)
    return Cohort.from_columns(
        _graph(world.graph),
        record(world, columns, draws),
        index,
        images=images,
        source="enriched phantom" if is_enriched else "phantom",
        notes=world.described(),
    )


def _enriched_findings(columns: Columns, draws: Draws) -> Columns:
    """Return the findings: those of half of the records are drawn anew with probability 1/2."""
    chosen = draws.on("phantom enriched").uniform()[:, 0] < 0.5
    coins = draws.on("phantom coins").uniform(len(FINDINGS)) < 0.5
    return {name: np.where(chosen, coins[:, k], columns[name]) for k, name in enumerate(FINDINGS)}


def _randomised_columns(columns: Columns, draws: Draws) -> Columns:
    """Return views and findings that do not depend on their causes, in place of the columns."""
    rate = _LARGEST_RATE * draws.on("phantom rate").uniform()
    coins = draws.on("phantom coins").uniform(len(FINDINGS)) < rate
    view = np.floor(len(VIEWS) * draws.on("phantom coin of View").uniform()[:, 0])
    return {"View": view} | {name: coins[:, k].astype(float) for k, name in enumerate(FINDINGS)}


def exogenous(cohort: Records) -> pd.DataFrame:
    """Return the exogenous numbers of the bodies, one column each by name, (n, k).

    They are standard normal, clipped at 3 standard deviations; a twin has those of its patient.

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
    changes keeps its image bit for bit. The truth of true twins is that of both interventions; if
    both set a variable, the later one holds.

    A twin is recorded as its patient, with the same recording noise: where values are missing or
    labels wrong, so are the twin's. A value that is set is recorded without error; a shift of a
    missing value is missing.

    With `draws`, the noise is not the patient's own but sampled from its true posterior given the
    table: the best answer of a model that knows the equations. Then there are no images.

    Args:
        cohort: Phantoms from `load`, some of them, or their true twins.
        intervention: The intervention, see `causalcxr.do`.
        draws: Posterior samples for each record; the index is then (record, draw).
        seed: The seed of the posterior samples, and of distributions from which values are set:
            the draws of a model's twins with the same seed.

    Raises:
        CohortError: If the cohort's images are not phantoms, so that their noise is unknown; or,
            with `draws`, if the table has missing values or wrong labels.

    Example:
        >>> from causalcxr.graph.interventions import do
        >>> many = truth(load(n=3), do(sex="M"), draws=4)
        >>> len(many), many.index.names, set(many.table["Sex"])
        (12, FrozenList(['record', 'draw']), {'M'})
    """
    cohort = as_cohort(cohort)
    images = cohort.images
    if not isinstance(images, PhantomImages) or images.enriched:
        raise CohortError(
            f"truth: the images come from {cohort.source!r}; only phantoms know their noise"
        )
    if draws is not None:
        return _posterior(cohort, images, intervention, draws, seed)
    graph, world = _graph(images.world.graph), images.world
    bound = intervention.bind(graph)
    numbers = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
    # Action on the true values, and on the recorded ones: a shift of a missing value is missing.
    fixed = images.fixed | bound.values(images.columns, numbers, cohort.index)
    before = record(world, images.columns, images.draws, images.recorded)
    set_to = bound.values(before, numbers, cohort.index)
    recorded = images.recorded | {name: ~np.isnan(value) for name, value in set_to.items()}
    # Prediction with the same noise.
    columns = population(world).predict(sample_noise(images.draws), fixed)
    twins = cohort.with_columns(graph, record(world, columns, images.draws, recorded))
    return twins.with_images(images.with_variables(columns, fixed, recorded))


def _posterior(
    cohort: Cohort, images: PhantomImages, intervention: Intervention, draws: int, seed: int
) -> Cohort:
    """Return twins with noise from its true posterior given the table."""
    graph, equations = _graph(images.world.graph), population(images.world)
    if images.world.underdiagnosis:
        raise CohortError(
            "truth: draws explain the labels, and those of this world are wrong; use "
            "underdiagnosis=0"
        )
    # A row for each record and draw.
    many = cohort.with_images(None).repeat(draws)
    observed = {name: np.repeat(c, draws) for name, c in _complete(cohort, graph).items()}
    numbers = Draws(record_keys(many.records), seed, draw=many.draws)
    values = intervention.repeat(draws).bind(graph).values(observed, numbers, many.index)
    # Abduction: noise that explains the observed values.
    noise = equations.abduct(observed, numbers)
    set_before = {name: observed[name] for name in images.fixed}
    _check_possible(many, {name: u for name, u in noise.items() if name not in set_before})
    # Prediction with this noise; roots and what was set before keep their values.
    roots = {name: observed[name] for name in ROOTS}
    return many.with_columns(graph, equations.predict(noise, roots | set_before | values))


def _complete(cohort: Cohort, graph: Graph) -> dict[str, np.ndarray]:
    """Return the columns; missing values are refused, as the posterior would be another one."""
    columns = cohort.columns(graph)
    for name, column in columns.items():
        if (absent := np.isnan(column)).any():
            raise CohortError(
                f"truth: record {brief(cohort.index[absent.argmax()])} has no {name} "
                f"({absent.sum():,} records); draws require every value, use missing=0 or leave "
                "such records out"
            )
    return columns


def _check_possible(cohort: Cohort, noise: dict[str, np.ndarray]) -> None:
    """Refuse values that are impossible given their parents."""
    for name, u in noise.items():
        if (impossible := np.isnan(u)).any():
            row = int(impossible.argmax())
            value = brief(cohort.table[name].iloc[row])
            raise CohortError(
                f"truth: record {brief(cohort.records[row])}: {name} {value} is impossible "
                "given its parents in this world; correct it, or leave the record out"
            )
