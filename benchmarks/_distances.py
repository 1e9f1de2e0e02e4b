"""Feature vectors of films, and which of others is nearest to each."""

import numpy as np
import torch

from causalcxr.metrics.neighbours import neighbours
from causalcxr.radit.features import Features

__all__ = ["nearest", "vectors"]


@torch.no_grad()
def vectors(features: Features, films: np.ndarray) -> np.ndarray:
    """Return features (n, d), float64, of films (n, 1, H, W), 0 to 1."""
    parts = torch.as_tensor(films).float().split(250)
    return torch.cat([features(part) for part in parts]).double().numpy()


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of a the distance to the nearest of b, (n,), and which it is, (n,)."""
    found = neighbours(a, b)
    return found.distances[:, 0], found.rows[:, 0]
