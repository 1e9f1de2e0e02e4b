"""Making pairs: twins, null twins and direct twins of a cohort, each pair checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.pairs import WORLDS, Pairs, pairs_result, write_checks, write_worlds
from causalcxr.audit.quality_checks import Gates, changed_by
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention, Intervention
from causalcxr.scm.identity import couplings, equation_hashes
from causalcxr.scm.model_images import ModelImages, sizes_of, solver_of
from causalcxr.scm.scm import SCM

__all__ = ["Worlds", "make_pairs", "make_worlds", "write_pairs"]


def make_pairs(
    model: SCM,
    cohort: Records,
    action: Action = None,
    /,
    *,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
    beyond_range: bool = False,
    reader: AttributeReader | CrossFittedReader | None = None,
    gates: Gates | None = None,
    **values: Any,
) -> Pairs:
    """Return the pairs of a cohort: records, twins and null twins, with quality checks.

    Args:
        model: A fitted model.
        cohort: Factual records, with or without images.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        hold: One or several variables that keep their factual value.
        draws: Posterior draws for each record; at least three show the generator's uncertainty.
        seed: Seed of the draws.
        beyond_range: See `SCM.do`.
        reader: Reads attributes from images; trained on other records, see `AttributeReader`.
        gates: Limits of the quality checks.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        CausalCXRError: As `SCM.counterfactual` does.

    Example:
        >>> import pandas as pd
        >>> from causalcxr import Graph
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> cohort = Cohort(pd.DataFrame({"Sex": ["F", "M", "M", "F"] * 10}))
        >>> make_pairs(SCM(graph).fit(cohort), cohort, sex="M")
        Pairs(do(Sex=M): 20 of 40 accepted)
    """
    check_options(model.graph, hold=hold, draws=draws, seed=seed, beyond_range=beyond_range)
    action = action_of(action, values, beyond_range)
    worlds = make_worlds(model, as_cohort(cohort), action, hold=hold, draws=draws, seed=seed)
    return worlds.checked(model.graph, action, reader, gates)


@dataclass(frozen=True, eq=False)
class Worlds:
    """Hold the worlds of an intervention; images are not yet computed.

    Args:
        worlds: See `Pairs`.
        flags: Rows whose twin has no support in the training records.
        plausibility: P(what was set | parents) of each row, NaN if no level was set.
        about: The model and its settings, JSON.
    """

    worlds: Mapping[str, Cohort]
    flags: np.ndarray
    plausibility: np.ndarray
    about: Mapping[str, Any]

    def checked(
        self,
        graph: Graph,
        action: Intervention,
        reader: AttributeReader | CrossFittedReader | None,
        gates: Gates | None,
    ) -> Pairs:
        """Return the pairs of these worlds, with quality checks; see `Pairs.from_cohorts`."""
        return Pairs.from_cohorts(
            graph,
            action=action,
            **self.worlds,
            reader=reader,
            gates=gates,
            flags=self.flags,
            plausibility=self.plausibility,
            about=self.about,
        )


def make_worlds(
    model: SCM,
    cohort: Cohort,
    action: Intervention,
    *,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
) -> Worlds:
    """Return the records, their twins, null twins and direct twins; see `make_pairs`."""
    graph, hold, repeated = model.graph, names_of(hold), action.repeat(draws or 1)
    bound = action.bind(graph)
    # Abduction: the noise of the factual records, shared by all worlds.
    noise = model.abduct(cohort, draws=draws, seed=seed)
    # Direct twins: every descendant but the image keeps its factual value.
    descendants = {n for n in graph.descendants(*bound.names) if not graph[n].is_image}
    kept = (descendants - set(bound.names)) | {graph.find(name) for name in hold}
    # Twins: the intervention under the same noise. Null twins: no intervention, but every value
    # computed anew.
    worlds = {
        "factual": noise.cohort,
        "twin": model.do(repeated, hold=hold).predict(noise),
        "null": model.predict(noise, recompute=True),
    }
    if descendants:
        worlds["direct"] = model.do(repeated, hold=sorted(kept)).predict(noise)
    # Images are computed only for records that the intervention changes.
    before, after = (worlds[w].columns(graph, beyond_range=True) for w in WORLDS[:2])
    changed = changed_by(bound.names, before, after)
    worlds |= {
        name: _with_images_of(worlds[name], changed) for name in worlds if name != "factual"
    }
    # Support is of the record, so each posterior draw repeats its flag.
    flags = model.support_of(
        cohort, action, hold=hold, seed=seed, beyond_range=action.beyond_range
    )
    about = {
        "hold": sorted(graph.find(name) for name in hold),
        "seed": seed,
        "mechanisms": equation_hashes(model),
        "coupling": couplings(model),
        "solver": solver_of(model),
        "trained_on": model.trained_on,
    }
    if sizes := sizes_of(model, cohort):
        about["images"] = sizes
    plausibility = _plausibility(model, worlds["factual"], worlds["twin"], bound)
    return Worlds(worlds, np.repeat(flags.flagged, draws or 1), plausibility, about)


def _with_images_of(world: Cohort, changed: np.ndarray) -> Cohort:
    """Return a world with the images of changed records only.

    The pairs of unchanged records are rejected whatever their images show.
    """
    images = world.images
    return world.with_images(images.only(changed)) if isinstance(images, ModelImages) else world


def _plausibility(
    model: SCM, factual: Cohort, twin: Cohort, action: BoundIntervention
) -> np.ndarray:
    """Return the smallest P(level | factual parents) over what was set, (n,)."""
    graph, after = model.graph, twin.columns(model.graph, beyond_range=True)
    names = [n for n in action.names if graph[n].is_discrete and n in model.fitted]
    if not names:
        return np.full(len(factual), np.nan)
    # Only what was set is replaced, so that the parents are the factual ones.
    changed = factual.with_images(None).with_columns(graph, {n: after[n] for n in names})
    return np.exp(model.log_prob(changed)[names].min(axis=1).to_numpy())


def write_pairs(
    worlds: Worlds,
    graph: Graph,
    action: Intervention,
    folder: Path,
    *,
    reader: AttributeReader | CrossFittedReader | None = None,
    gates: Gates | None = None,
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Pairs:
    """Compute and write the worlds, then check the pairs as written, and return them.

    Args:
        worlds: The worlds; images are not yet computed.
        graph: Graph of the columns.
        action: The intervention.
        folder: A new folder; see `ResultFolder`.
        reader: Reads attributes from images.
        gates: Limits of the quality checks.
        identity: What determines the pairs besides the action and the worlds: fingerprints of
            cohort and reader. Without it, an interrupted job is not resumed.
        overwrite: Replace the pairs in the folder, even if they are the same.

    Raises:
        AuditError: If the folder holds another result.
        CohortError: If a world cannot be written.
    """
    with pairs_result(folder, identity, overwrite=overwrite).writing() as draft:
        if draft.complete:
            return Pairs.load(folder)
        write_worlds(draft.place, worlds.worlds, {**worlds.about, **action.bind(graph).to_json()})
        # Check what was written, not what is in memory: images are computed only once.
        saved = {name: Cohort.load(draft.place / name) for name in worlds.worlds}
        pairs = replace(worlds, worlds=saved).checked(graph, action, reader, gates)
        write_checks(pairs, draft)
    # Load again: the images have moved with the folder.
    return replace(pairs, worlds={name: Cohort.load(folder / name) for name in worlds.worlds})
