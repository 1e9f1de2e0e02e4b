"""The order of the images in a run, and a thread that reads them ahead."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["EPOCHS", "BatchOrder", "MixedOrder", "ahead"]

_SOURCES = 2**20  # keeps the shuffles of the sources of a run apart
EPOCHS = 1_000_003  # keeps the seeds of steps and epochs of different runs apart


class BatchOrder:
    """Shuffle records in each epoch; a step's rows depend on the seed and the step alone.

    Records that do not fill a batch are left out of that epoch.

    Args:
        n: Number of records.
        batch: Records per step, of all processes together; at most n.
        seed: Seed of the shuffles.

    Example:
        >>> order = BatchOrder(10, 4, seed=1)
        >>> sorted(torch.cat([order.rows(2), order.rows(3)]).tolist()) == list(range(10))
        False
        >>> torch.equal(order.rows(5), BatchOrder(10, 4, seed=1).rows(5))
        True
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n, self.batch, self.seed = n, min(batch, n), seed
        self._epoch, self._order = -1, torch.arange(0)

    def rows(self, step: int) -> Tensor:
        """Return the rows of a step, (batch,)."""
        # The last, incomplete batch of an epoch is left out.
        epoch, k = divmod(step, self.n // self.batch)
        # A new shuffle per epoch, from its own seed: a resumed run gets the same order.
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * EPOCHS + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.n, generator=generator)
        return self._order[k * self.batch : (k + 1) * self.batch]


class MixedOrder:
    """Take a fixed number of records of several sources in each batch.

    Each source has its own order and its own epochs. Records are numbered consecutively.

    Args:
        parts: The number of records of each source, and how many of them a batch has.
        seed: Seed of the shuffles.

    Example:
        >>> order = MixedOrder([(10, 3), (4, 1)], seed=1)
        >>> order.batch, [(order.rows(step) < 10).sum().item() for step in range(3)]
        (4, [3, 3, 3])
    """

    def __init__(self, parts: Sequence[tuple[int, int]], seed: int) -> None:
        self.batch = sum(count for _, count in parts)
        self._orders, first = [], 0
        for k, (n, count) in enumerate(parts):
            # Sources of equal length have different shuffles.
            self._orders.append((first, BatchOrder(n, count, seed + k * _SOURCES)))
            first += n

    def rows(self, step: int) -> Tensor:
        """Return the rows of a step, (batch,), in the order of the sources."""
        return torch.cat([first + order.rows(step) for first, order in self._orders])


def ahead(
    rows: Iterator[Tensor], images: Callable[[Tensor], Tensor], batches: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and their images, which a thread reads some batches ahead.

    Args:
        rows: The rows of every step, (B,) each, without end.
        images: Rows -> images.
        batches: The number of batches to read ahead; 0 reads each at its step.
    """
    if not batches:
        for each in rows:
            yield each, images(each)
        return
    # One thread, so that images are read in the order of the steps.
    pool = ThreadPoolExecutor(1, "images")
    waiting: deque[tuple[Tensor, Future]] = deque()
    try:
        while True:
            while len(waiting) <= batches:
                each = next(rows)
                waiting.append((each, pool.submit(images, each)))
            each, future = waiting.popleft()
            yield each, future.result()
    finally:
        # Runs when the consumer closes the generator: batches not yet read are dropped.
        pool.shutdown(wait=True, cancel_futures=True)
