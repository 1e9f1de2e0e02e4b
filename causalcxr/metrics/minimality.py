"""Identity and minimality of twins, by feature vectors."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.centred import distances
from causalcxr.metrics.inputs import (
    Array,
    read_patients,
    read_vectors,
    row_blocks,
    same_length,
)
from causalcxr.metrics.neighbours import neighbours

__all__ = ["identity_kept", "latent_divergence"]


@rows_by_id("factual", "twin", "patients")
def identity_kept(
    factual: Array, twin: Array, patients: Array | Sequence[object] | None = None
) -> np.ndarray:
    """Return whether the factual vector nearest to each twin belongs to its own patient, (n,).

    Args:
        factual: Features of factual images, (n, d).
        twin: Features of their twins, (n, d).
        patients: The patient of each row, (n,); by default every row is a patient.

    Raises:
        CausalCXRError: If shapes differ, or vectors are not finite or all the same.

    Example:
        >>> x = np.array([[0.0], [1.0], [5.0]])
        >>> identity_kept(x, x + 0.7).tolist()  # the first is nearer to the second patient
        [False, True, True]
    """
    facts = read_vectors("factual", factual)
    twins = read_vectors("twin", twin, varied=False)
    n = same_length(factual=facts, twin=twins)
    patient, rows = read_patients(patients, n), np.arange(n)
    # The nearest factual vector, compared by patient and not by record.
    nearest = neighbours(twins, facts)
    own = distances(twins, rows, facts, rows)  # ties with other patients count as kept
    return (patient[nearest.rows[:, 0]] == patient) | (own <= nearest.distances[:, 0])


def latent_divergence(
    factual: Array,
    twin: Array,
    reference: Array,
    *,
    before: Array,
    after: Array,
    levels: Array,
) -> np.ndarray:
    """Return the counterfactual latent divergence of each twin, (n,): lower is more minimal.

    With t the distance from a record to its twin, S the distances to reference images of its own
    level, and S' those to reference images of the level that is set,

        CLD = log(exp P(S' <= t) + exp P(S >= t)),

    between log 2 and 1 + log 2: a twin should differ from its record, but less than other images
    of its new level do. Changing nothing gives log(1 + e).

    References:
        Diffusion causal models for counterfactual estimation (Sanchez & Tsaftaris),
        arXiv:2202.10166.
        Benchmarking counterfactual image generation (Melistas et al.), arXiv:2403.20287.

    Args:
        factual: Features of factual images, (n, d).
        twin: Features of their twins, (n, d).
        reference: Features of other real images, (m, d).
        before: The level of each factual image, (n,).
        after: The level that is set, (n,).
        levels: The level of each reference image, (m,).

    Returns:
        Shape (n,); NaN where no reference image has one of the two levels.

    Raises:
        CausalCXRError: If shapes differ or a vector is not finite.

    Example:
        >>> x, others = np.array([[0.0]]), np.array([[0.5], [-2.0], [3.0], [4.0]])
        >>> codes = {"before": [0], "after": [1], "levels": [0, 0, 1, 1]}
        >>> latent_divergence(x, x + 1, others, **codes).round(4).tolist()
        [0.9741]
    """
    facts, twins, references = (
        read_vectors(name, each, least=1, varied=False)
        for name, each in (("factual", factual), ("twin", twin), ("reference", reference))
    )
    n = same_length(factual=facts, twin=twins)
    old, new, reference_level = (np.asarray(each) for each in (before, after, levels))
    if old.shape != (n,) or new.shape != (n,) or reference_level.shape != (len(references),):
        raise CausalCXRError(
            f"levels: shapes {old.shape}, {new.shape} and {reference_level.shape}; give one per "
            "vector"
        )
    rows = np.arange(n)
    moved = distances(facts, rows, twins, rows)
    out = np.empty(n)
    # In blocks of rows: all distances at once would not fit into memory.
    for part in row_blocks(n, 512):
        apart, t = cdist(facts[part], references), moved[part, None]
        has_old, has_new = (level[part, None] == reference_level for level in (old, new))
        # References of the new level nearer than the twin, and of the old level further away.
        near, far = _share(apart <= t, has_new), _share(apart >= t, has_old)
        out[part] = np.log(np.exp(near) + np.exp(far))
    return out


def _share(event: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the share of a row's columns `among` with the event; NaN without any column."""
    count = among.sum(1)
    full = np.full(len(event), np.nan)
    return np.divide((event & among).sum(1), count, out=full, where=count > 0)
