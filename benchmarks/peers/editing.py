"""Twins of images, the way back and the null intervention, from an equation bound twice."""

from collections.abc import Callable

import numpy as np
import torch

from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Equation

__all__ = ["Edit", "edits"]

#: Images (n, 1, H, W) -> images.
Edit = Callable[[np.ndarray], np.ndarray]


def edits(before: Equation, after: Equation, draws: Draws) -> tuple[Edit, Edit, Edit]:
    """Return functions for the twins of images, for the way back, and for the null intervention.

    Args:
        before: The image's equation given the factual parents.
        after: The same given the twins' parents.
        draws: The random numbers of the records.
    """

    def edit(source: Equation, target: Equation) -> Edit:
        def apply(images: np.ndarray) -> np.ndarray:
            u = source.abduct(torch.from_numpy(images).double(), draws)
            return target.predict(u).clamp(0, 1).numpy()

        return apply

    return edit(before, after), edit(after, before), edit(before, before)
