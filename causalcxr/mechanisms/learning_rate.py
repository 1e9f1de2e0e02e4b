"""The learning rate of each step of a fit: it rises for a tenth of the steps, then falls."""

import math

__all__ = ["learning_rate"]

_RISE = 0.1  # of the steps
_FIRST = 25.0  # the first rate is this many times below the highest
_LAST = 1e4  # the last rate is this many times below the first


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Return the learning rate of a step: half a cosine up, half a cosine down.

    With ten steps or fewer there is no rise: they begin at the highest rate, or just below it.

    Args:
        step: The position of the step, from 0.
        steps: The number of steps of the fit.
        highest: The highest rate.

    References:
        | Super-Convergence (Smith & Topin, 2017), the one-cycle policy as in PyTorch
        | https://arxiv.org/abs/1708.07120

    Example:
        >>> [round(learning_rate(step, 40, 1.0), 3) for step in (0, 1, 3, 20, 39)]
        [0.04, 0.28, 1.0, 0.544, 0.0]
    """
    last = max(steps, 2) - 1
    peak = _RISE * (last + 1) - 1  # the step with the highest rate; below zero there is none
    first = highest / _FIRST
    if step <= peak and peak > 0:
        return _eased(first, highest, step / peak)
    return _eased(highest, first / _LAST, (step - peak) / (last - peak))


def _eased(start: float, end: float, share: float) -> float:
    """Return the rate at a share of the way from start to end, along half a cosine."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
