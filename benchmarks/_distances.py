"""Feature vectors of images, and nearest neighbours among them."""

import numpy as np
import torch

from causalcxr.metrics.neighbours import neighbours
from causalcxr.radit.features import Features

__all__ = ["feature_vectors", "nearest"]


@torch.no_grad()
def feature_vectors(features: Features, images: np.ndarray) -> np.ndarray:
    """Return the features (n, d), float64, of images (n, 1, H, W), 0 to 1."""
    parts = torch.as_tensor(images).float().split(250)
    return torch.cat([features(part) for part in parts]).double().numpy()


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of a the distance to the nearest row of b, and its index, (n,) each."""
    result = neighbours(a, b)
    return result.distances[:, 0], result.rows[:, 0]
