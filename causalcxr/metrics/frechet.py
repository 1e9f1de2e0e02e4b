"""Frechet distance between two sets of features, from moments of batches."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.inputs import Array, read_vectors, row_blocks

__all__ = ["Moments", "frechet", "frechet_of"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Hold the count, the mean m and the scatter sum (x - m)(x - m)^T of feature vectors.

    Two of them add up: with delta = m_b - m_a and n = n_a + n_b,

        m = m_a + delta n_b / n,    S = S_a + S_b + delta delta^T n_a n_b / n,

    all in float64, so that neither many vectors nor a distant mean cost precision.

    References:
        Updating formulae and a pairwise algorithm for computing sample variances (Chan, Golub &
        LeVeque, 1979).

    Args:
        count: The number of vectors.
        mean: Shape (d,).
        scatter: Shape (d, d).

    Example:
        >>> x = np.arange(12.0).reshape(6, 2) ** 2
        >>> both = Moments.from_vectors(x[:2]) + Moments.from_vectors(x[2:])
        >>> both.count, bool(np.allclose(both.covariance, np.cov(x, rowvar=False)))
        (6, True)
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def from_vectors(cls, vectors: Array) -> "Moments":
        """Return the moments of vectors (n, d), which must be finite."""
        return cls.from_batches(vectors[rows] for rows in row_blocks(len(vectors)))

    @classmethod
    def from_batches(cls, batches: Iterable[Array]) -> "Moments":
        """Return the moments of batches (n, d), with one batch in memory at a time.

        Raises:
            CausalCXRError: If there is no batch, widths differ, or a number is not finite.
        """
        total: Moments | None = None
        for batch in batches:
            part = cls._one(np.asarray(batch, dtype=np.float64))
            total = part if total is None else total + part
        if total is None:
            raise CausalCXRError("features: no batch, so there are no moments; give at least one")
        return total

    @classmethod
    def _one(cls, batch: np.ndarray) -> "Moments":
        if batch.ndim != 2 or not len(batch):
            raise CausalCXRError(
                f"features: a batch of shape {batch.shape}, not (n, d) with n > 0"
            )
        if not np.isfinite(batch).all():
            raise CausalCXRError("features: a vector is not finite; check its image")
        # Scatter around the batch's own mean: sums of squares would cancel.
        mean = batch.mean(0)
        apart = batch - mean
        return cls(len(batch), mean, apart.T @ apart)

    def __add__(self, other: "Moments") -> "Moments":
        if self.mean.shape != other.mean.shape:
            raise CausalCXRError(
                f"features: widths {len(self.mean)} and {len(other.mean)}; use one extractor"
            )
        count = self.count + other.count
        # Chan's update: the scatter between the two means is added.
        delta = other.mean - self.mean
        between = np.outer(delta, delta) * (self.count * other.count / count)
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, (d, d); it needs two vectors."""
        if self.count < 2:
            raise CausalCXRError(f"features: {self.count} vector has no covariance; add more")
        return self.scatter / (self.count - 1)


def frechet_of(real: Moments, generated: Moments) -> float:
    """Return |m - n|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2) of two sets' moments.

    The last trace is the sum of the singular values of A^1/2 B^1/2. Directions without variance
    are left out of the roots, because the root of their rounding error is not negligible.

    References:
        GANs trained by a two time-scale update rule (Heusel et al.), arXiv:1706.08500.

    Raises:
        CausalCXRError: If a set has fewer than two vectors or no variance, or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet_of(Moments.from_vectors(x), Moments.from_vectors(x + 2)), 9)
        12.0
    """
    if real.mean.shape != generated.mean.shape:
        raise CausalCXRError(
            f"features: widths {len(real.mean)} and {len(generated.mean)}; use one extractor"
        )
    left, right = real.covariance, generated.covariance
    for name, covariance in (("real", left), ("generated", right)):
        if not np.trace(covariance) > 0:
            raise CausalCXRError(
                f"{name}: all vectors are the same; check the images and the extractor"
            )
    # tr((A^1/2 B A^1/2)^1/2) is the sum of the singular values of A^1/2 B^1/2.
    cross = np.linalg.svd(_root(left).T @ _root(right), compute_uv=False).sum()
    apart = np.square(real.mean - generated.mean).sum()
    return float(apart + np.trace(left) + np.trace(right) - 2 * cross)


def frechet(real: Array, generated: Array) -> float:
    """Return the Frechet distance of two sets of vectors; with Rad-DINO's it is the FDD.

    Args:
        real: Shape (n, d).
        generated: Shape (m, d).

    Raises:
        CausalCXRError: As `frechet_of` does, or if a vector is not finite.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet(x, 3 * x + 1) - frechet(3 * x + 1, x), 9)
        0.0
    """
    sets = read_vectors("real", real), read_vectors("generated", generated)
    return frechet_of(*(Moments.from_vectors(each) for each in sets))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return R (d, r) with R R^T the covariance, r its rank in float64."""
    values, basis = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(float).eps
    return basis[:, kept] * np.sqrt(values[kept])
