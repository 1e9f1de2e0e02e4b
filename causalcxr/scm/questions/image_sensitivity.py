"""Sensitivity of images: how much a twin's radiograph depends on the image's coupling."""

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.common.progress import progress
from causalcxr.mechanisms.image_equation import COUPLINGS, Chunk
from causalcxr.scm.prediction import Noise
from causalcxr.scm.support import equal

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.mechanisms.base import Mechanism
    from causalcxr.scm.scm import SCM

__all__ = ["image_sensitivity", "with_image_mechanism"]

_COLUMNS = [*COUPLINGS, "difference", "relative_difference", "model", "records"]


def image_sensitivity(acted: "SCM", noise: Noise, n: int, classifier: Any = None) -> pd.DataFrame:
    """Return how twins' images, and a classifier's score, differ between the image's couplings.

    Args:
        acted: A fitted model under an intervention.
        noise: The noise of the records, abducted by this model or by the one before `do`.
        n: The number of images to compute under each coupling: those of the first records whose
            image changes; 0 for none.
        classifier: A function of images (n, 1, H, W) -> (n,), or an object with `scores(cohort)`,
            see `causalcxr.audit.as_classifier`.

    Returns:
        One row a measure, with means over records: `inversion` and `transport`, the change under
        each coupling (for the image its mean absolute change, where 1 is the whole grey scale);
        `difference`, the mean absolute difference between the two twins; `relative_difference`,
        that over the mean absolute change, averaged over both couplings; `model`, the model's own
        coupling; `records`. Empty where model or records have no image, or no image changes.
    """
    name, empty = acted.graph.image, pd.DataFrame(columns=_COLUMNS, index=_index([]))
    mechanism = acted.fitted[name].mechanism if name in acted.fitted else None
    if not (n and noise.cohort.has_images and hasattr(mechanism, "with_coupling")):
        return empty
    # The network computes no more images at a time than are needed.
    mechanism = copy(mechanism)
    mechanism.chunk = Chunk(min(n, mechanism.chunk.size), mechanism.chunk.half)
    # Twins under each coupling; their tables are equal, and images are computed when read.
    twins = {}
    for coupling in COUPLINGS:
        model = with_image_mechanism(acted, mechanism.with_coupling(coupling))
        twins[coupling] = model.predict(noise)
    rows = _changing(acted, noise, next(iter(twins.values())))[:n]
    if not len(rows):
        return empty
    factual, shown = noise.cohort.at(rows), {c: twin.at(rows) for c, twin in twins.items()}
    images = {
        coupling: twin.images[:] - factual.images[:]
        for coupling, twin in progress(list(shown.items()), "Images", "couplings")
    }
    table = {"change of the image": _row(images, absolute=True)}
    if classifier is not None:
        before = _scores(classifier, factual)
        effects = {
            coupling: _scores(classifier, twin) - before for coupling, twin in shown.items()
        }
        table["change of the score"] = _row(effects)
    frame = pd.DataFrame(list(table.values()), index=_index(list(table)))
    own = mechanism.options["coupling"]
    return frame.assign(model=own, records=len(rows))[_COLUMNS]


def with_image_mechanism(model: "SCM", mechanism: "Mechanism") -> "SCM":
    """Return a model whose image has another mechanism, such as one of another coupling."""
    name = model.graph.image
    fitted = replace(model.fitted[name], mechanism=mechanism)
    return model._with(fitted={**model.fitted, name: fitted})


def _index(names: list[str]) -> pd.Index:
    return pd.Index(names, name="measure", dtype=object)


def _changing(acted: "SCM", noise: Noise, twins: "Cohort") -> np.ndarray:
    """Return the rows whose image has a parent that changes, and that have an image."""
    after = twins.columns(acted.graph, beyond_range=True)
    parents = acted.graph.parents(acted.graph.image)
    same = [equal(noise.columns[name].numpy(), after[name]) for name in parents]
    return np.flatnonzero(noise.cohort.images.available & ~np.logical_and.reduce(same))


def _row(changes: dict[str, np.ndarray], *, absolute: bool = False) -> dict[str, float]:
    """Return the mean change under each coupling, and how far the couplings are apart."""
    one, two = changes.values()
    size = float(np.mean([np.abs(each).mean() for each in changes.values()]))
    difference = float(np.abs(one - two).mean())
    means = {c: float((np.abs(x) if absolute else x).mean()) for c, x in changes.items()}
    relative = difference / size if size else np.nan
    return {**means, "difference": difference, "relative_difference": relative}


def _scores(classifier: Any, cohort: "Cohort") -> np.ndarray:
    """Return the score of each record, (n,)."""
    if hasattr(classifier, "scores"):
        return np.asarray(classifier.scores(cohort), dtype=np.float64)
    return np.asarray(classifier(cohort.images[:]), dtype=np.float64)
