"""Twins of images, their undoing and the null intervention, from an equation bound twice."""

from collections.abc import Callable

import numpy as np
import torch

from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Equation

__all__ = ["Edit", "edits"]

#: Images (n, 1, H, W) -> images.
Edit = Callable[[np.ndarray], np.ndarray]


def edits(before: Equation, after: Equation, draws: Draws) -> tuple[Edit, Edit, Edit]:
    """Return what makes twins of images, what undoes it, and the null intervention.

    Args:
        before: The image's equation under the factual parents.
        after: Under those of the twins.
        draws: The random numbers of the records.
    """

    def edit(source: Equation, target: Equation) -> Edit:
        def made(images: np.ndarray) -> np.ndarray:
            u = source.abduct(torch.from_numpy(images).double(), draws)
            return target.predict(u).clamp(0, 1).numpy()

        return made

    return edit(before, after), edit(after, before), edit(before, before)
