"""Distances between two sets of feature vectors: Frechet's, and a kernel's.

References:
    GANs trained by a two time-scale update rule (Heusel et al.), arXiv:1706.08500.
    Demystifying MMD GANs (Binkowski et al.), arXiv:1801.01401.
"""

import numpy as np
import torch

from causalcxr.radit.features import Features

__all__ = ["frechet", "kernel", "nearest", "vectors"]


@torch.no_grad()
def vectors(features: Features, films: np.ndarray) -> np.ndarray:
    """Return features (n, d), float64, of films (n, 1, H, W), 0 to 1."""
    parts = torch.as_tensor(films).float().split(250)
    return torch.cat([features(part) for part in parts]).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return |m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of means and covariances.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> bool(abs(frechet(x, x + 2) - 12) < 1e-9)
        True
    """
    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, basis = np.linalg.eigh(left)
    root = (basis * np.sqrt(values.clip(0))) @ basis.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ right @ root).clip(0)).sum()
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(apart + np.trace(left) + np.trace(right) - 2 * cross)


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased squared distance under k(x, y) = (x y / d + 1)^3.

    Example:
        >>> a, b = np.zeros((2, 1)), np.ones((2, 1))
        >>> kernel(a, b)  # mean k within a 1, within b 8, between 1
        7.0
    """

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        table = k(x, x)
        return (table.sum() - np.trace(table)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * k(a, b).mean())


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of a the distance to the nearest of b, (n,), and which it is, (n,)."""
    squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    which = squared.argmin(1)
    return np.sqrt(squared[np.arange(len(a)), which].clip(0)), which
