"""What every training loop here shares: the learning rate and the average of the weights."""

__all__ = ["average_decay", "lr_share"]


def lr_share(step: int, *, steps: int, warmup: int, decay: float) -> float:
    """Return the share of the learning rate at a step: warm-up, plateau, linear decay.

    Args:
        step: The position of the step, from 0.
        steps: The number of steps of the run.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.

    Example:
        >>> [lr_share(step, steps=10, warmup=2, decay=0.4) for step in (0, 1, 5, 8, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    remaining = (steps - step) / max(1.0, decay * steps)
    return min(1.0, (step + 1) / max(1, warmup), remaining)


def average_decay(step: int, highest: float) -> float:
    """Return the decay of the moving average at a step: lower at first, to forget the start.

    Example:
        >>> [round(average_decay(step, 0.999), 2) for step in (0, 10, 100_000)]
        [0.1, 0.55, 1.0]
    """
    return min(highest, (step + 1) / (step + 10))
