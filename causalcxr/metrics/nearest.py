"""Memorisation and privacy: how near generated images are to training images."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.inputs import Array, read_vectors
from causalcxr.metrics.neighbours import neighbours, others

__all__ = ["Nearness", "membership_auroc", "nearness"]


@dataclass(frozen=True, eq=False)
class Nearness:
    """Hold the distances of generated and of held-out images to training images.

    Args:
        row: The nearest training image of each generated one, shape (n,).
        distance: The distance to it, shape (n,).
        ratio: That distance over the distance to the second nearest, shape (n,); 0 for a copy.
        authentic: Whether the generated image is farther from its nearest training image than
            that one is from its own nearest other, shape (n,).
        held_distance: From each held-out image to its nearest training image, shape (h,).
        held_ratio: As `ratio`, of held-out images.
        membership: AUROC of separating training from held-out images by their distance to the
            nearest generated image: .5 if that has no information, 1 if all training images leak.
        q: The quantile of `held_distance` below which an image is near.
    """

    row: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray
    authentic: np.ndarray
    held_distance: np.ndarray
    held_ratio: np.ndarray
    membership: float
    q: float

    @property
    def near(self) -> np.ndarray:
        """Which generated images are nearer than the q-quantile of held-out ones, (n,)."""
        return self.distance < np.quantile(self.held_distance, self.q)

    @property
    def table(self) -> pd.DataFrame:
        """The figures, each beside its value without memorisation.

        Without memorisation, generated images are no nearer to training images than held-out ones
        are. Authenticity has no such reference; 1 is best.
        """
        rows = [
            ("near", self.near.mean(), (self.held_distance < self._limit()).mean()),
            ("copies", (self.distance == 0).mean(), (self.held_distance == 0).mean()),
            ("median distance", np.median(self.distance), np.median(self.held_distance)),
            ("median ratio", np.median(self.ratio), np.median(self.held_ratio)),
            ("authentic", self.authentic.mean(), np.nan),
            ("membership AUROC", self.membership, 0.5),
        ]
        return pd.DataFrame(rows, columns=["measure", "generated", "held out"])

    def _limit(self) -> float:
        return float(np.quantile(self.held_distance, self.q))


def nearness(generated: Array, training: Array, held_out: Array, *, q: float = 0.05) -> Nearness:
    """Return how near generated images are to training images, by their feature vectors.

    Training and held-out images should be of different patients from one population; whatever
    makes held-out images alike to training ones (a patient in both) hides memorisation.

    References:
        How faithful is your synthetic data? (Alaa et al.), arXiv:2102.08921: authenticity.
        GAN-Leaks (Chen et al.), arXiv:1909.03935: membership by the nearest generated sample.

    Args:
        generated: Shape (n, d).
        training: Shape (m, d), m > 1.
        held_out: Shape (h, d).
        q: Which quantile of held-out distances counts as near, above 0 and below 1.

    Raises:
        CausalCXRError: If q is out of range, widths differ, or vectors are too few, not finite or
            all the same.

    Example:
        >>> training = np.arange(10.0)[:, None]
        >>> copies = nearness(training[:4], training, training + 0.25)
        >>> copies.near.mean(), copies.authentic.mean(), copies.distance.max()
        (np.float64(1.0), np.float64(0.0), np.float64(0.0))
    """
    if not 0 < q < 1:
        raise CausalCXRError(f"q = {q}: it must be above 0 and below 1; give 0.05")
    generated = read_vectors("generated", generated)
    training = read_vectors("training", training)
    held = read_vectors("held out", held_out)
    # Held-out images show what is usual without memorisation.
    ours, theirs = neighbours(generated, training, k=2), neighbours(held, training, k=2)
    row, distance = ours.rows[:, 0], ours.distances[:, 0]
    # Authenticity needs the distances within the training images, for the nearest ones only.
    nearest, which = np.unique(row, return_inverse=True)
    among = _nearest_other(training, nearest)
    return Nearness(
        row,
        distance,
        _ratio(ours.distances),
        distance > among[which],
        theirs.distances[:, 0],
        _ratio(theirs.distances),
        # Can the distance to generated images tell training images from held-out ones?.
        membership_auroc(
            neighbours(training, generated).distances[:, 0],
            neighbours(held, generated).distances[:, 0],
        ),
        q,
    )


def membership_auroc(training: np.ndarray, held_out: np.ndarray) -> float:
    """Return P(training distance < held-out distance) + P(equal) / 2.

    Args:
        training: Distance of training images to the nearest generated one, (m,).
        held_out: The same of held-out images, (h,).

    Example:
        >>> membership_auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
        0.875
    """
    ranks = rankdata(np.concatenate([training, held_out]))
    m, h = len(training), len(held_out)
    above = ranks[m:].sum() - h * (h + 1) / 2
    return float(above / (m * h))


def _nearest_other(training: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the distance of some training images to the nearest other one."""
    if len(rows) * 2 > len(training):  # half of all pairs is then cheaper
        return others(training).distances[rows, 0]
    # The nearest is the image itself, at 0; a copy of it is at 0, too.
    return neighbours(training[rows], training, k=2).distances[:, 1]


def _ratio(distances: np.ndarray) -> np.ndarray:
    """Return nearest over second nearest; 0 where both are 0, which is a copy."""
    full = np.zeros(len(distances))
    return np.divide(distances[:, 0], distances[:, 1], out=full, where=distances[:, 1] > 0)
