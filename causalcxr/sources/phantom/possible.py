"""Other twins that the factual radiograph allows, and with them the ceiling of image models.

A radiograph without an effusion does not show on which side an effusion would be, nor how deep.
These exogenous numbers have no influence on the factual image, so no model can know them. A model
that knows everything else, and draws these numbers from their distribution, has the error of
`possible_twins` against the true twins. This is the ceiling: what can be expected of a model that
answers with one twin. Where nothing is added to the image it is zero.
"""

import numpy as np

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.random_numbers import Draws
from causalcxr.sources.phantom.images import PhantomImages
from causalcxr.sources.phantom.patient import OWN_NUMBERS

__all__ = ["possible_twins"]


def possible_twins(cohort: Records, twins: Records, *, seed: int = 0) -> Cohort:
    """Return twins that agree with the factual radiographs as well as the true twins do.

    Their variables are those of the true twins. The exogenous numbers of every finding that is
    absent in the fact and present in the twin are drawn again; all others are the patient's own.
    Without such a finding the image is that of the true twin, bit for bit.

    Args:
        cohort: Phantoms.
        twins: Their true twins, from `truth`.
        seed: The seed of the numbers that are drawn again.

    Raises:
        CohortError: If either are not phantoms, or they are not the same records.

    Example:
        >>> from causalcxr.graph.interventions import do
        >>> from causalcxr.sources.phantom import load, truth
        >>> patients = load(n=4, size=32)
        >>> twins = truth(patients, do(pleural_effusion="P"))
        >>> others = possible_twins(patients, twins)
        >>> bool(np.abs(others.images[:] - twins.images[:]).max() > 0.1)
        True
    """
    factual, true = as_cohort(cohort), as_cohort(twins)
    before, after = _phantom_images(factual), _phantom_images(true)
    if not np.array_equal(before.draws.states(), after.draws.states()):
        raise CohortError(
            "possible_twins: the twins are not those of these records; give truth(cohort, ...)"
        )
    added = {name: (before.columns[name] == 0) & (after.columns[name] > 0) for name in OWN_NUMBERS}
    pixels = after[:]
    rows = np.flatnonzero(np.logical_or.reduce(list(added.values())))
    draws = Draws(after.draws.keys, seed, "phantom possible", after.draws.draw)
    where = {name: is_added[rows] for name, is_added in added.items()}
    pixels[rows] = after.select(rows).redrawn(where, draws.rows(rows))
    return true.with_images(after.with_pixels(pixels))


def _phantom_images(cohort: Cohort) -> PhantomImages:
    if not isinstance(cohort.images, PhantomImages):
        raise CohortError(
            f"possible_twins: the images come from {cohort.source!r}; only phantoms know their "
            "noise"
        )
    return cohort.images
