"""Threads: one for a small product, several for blocks of rows."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from causalcxr.progress import progress

__all__ = ["BUNDLE", "filled", "one_thread", "over_rows"]

_K = TypeVar("_K", bound=Hashable)
_Rows = np.ndarray | slice
# Products of matrices take rows in bundles, of 24 at most where this was tried, and compute a rest
# with other last digits. Whole bundles make a row's digits independent of the rows beside it.
BUNDLE = 48
_BLOCK = 512 * BUNDLE  # rows at a time: many, for each step costs a call, and yet little memory


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread inside, as many as before afterwards.

    Scalar equations are small: a second thread gains little on an idle machine, costs a lot
    on a busy one, and makes sums depend on the number of cores.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def over_rows(n: int, work: Callable[[_Rows], Mapping[_K, Tensor]]) -> dict[_K, Tensor]:
    """Return what `work` makes of n rows, block by block, without gradients.

    Blocks are shared out among as many threads as torch may use (`torch.set_num_threads`,
    OMP_NUM_THREADS), as many for each. They are whole bundles, so the answer is the same for any
    number of threads.

    Args:
        n: The number of rows; none at all are one empty block.
        work: Returns tensors for the rows whose positions it is given, one entry a row.

    Returns:
        The tensors of all blocks, n entries each.

    Raises:
        Exception: Whatever `work` raises, of the first block that fails.

    Example:
        >>> x = torch.arange(3)
        >>> over_rows(3, lambda rows: {"double": 2 * x[rows]})
        {'double': tensor([0, 2, 4])}
    """
    threads = max(1, min(torch.get_num_threads(), ceil(n / _BLOCK)))
    blocks = threads * max(1, ceil(n / (threads * _BLOCK)))
    size = BUNDLE * max(1, ceil(n / (blocks * BUNDLE)))
    starts = range(0, max(n, 1), size)

    def block(start: int) -> dict[_K, Tensor]:
        stop = min(start + size, n)
        rows = slice(start, stop) if stop - start == size else filled(np.arange(start, stop))
        with torch.no_grad():  # of this thread only, like the number of threads
            return {key: value[: stop - start] for key, value in work(rows).items()}

    with one_thread():
        if threads == 1:
            parts = [block(start) for start in progress(starts, "Computing", "records")]
        else:
            alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
            with ThreadPoolExecutor(threads, **alone) as pool:
                done = pool.map(block, starts)
                parts = list(progress(done, "Computing", "records", total=n, each=size))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def filled(rows: np.ndarray) -> np.ndarray:
    """Return positions, the last one repeated up to a multiple of 48.

    Example:
        >>> len(filled(np.array([3, 5]))), filled(np.array([3, 5]))[-1].item()
        (48, 5)
    """
    return np.pad(rows, (0, -len(rows) % BUNDLE), mode="edge") if len(rows) else rows
