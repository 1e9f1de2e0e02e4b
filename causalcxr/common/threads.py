"""Threads: one for a small product, several for blocks of rows."""

import copy
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.progress import progress

__all__ = ["BUNDLE", "filled", "map_in_order", "one_thread", "over_rows"]

_K = TypeVar("_K", bound=Hashable)
_In, _Out = TypeVar("_In"), TypeVar("_Out")
_Rows = np.ndarray | slice
# Matrix products process rows in bundles (at most 24 where this was measured) and compute an
# incomplete bundle with other last digits. Complete bundles make each row independent of others.
BUNDLE = 48
_ALONE = {"initializer": torch.set_num_threads, "initargs": (1,)}  # each thread of a pool
_BLOCK = 512 * BUNDLE  # rows at a time: many, as each step costs a call, but little memory


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in the block, and as many as before afterwards.

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
    """Return the results of `work` for n rows, block by block, without gradients.

    The blocks are divided among the threads that torch may use (`torch.set_num_threads`,
    OMP_NUM_THREADS), the same number for each. They are complete bundles, so the result is the
    same for any number of threads.

    Args:
        n: The number of rows; with 0 there is one empty block.
        work: Returns tensors for the rows whose positions it is given, one entry a row.

    Returns:
        The tensors of all blocks, n entries each.

    Raises:
        Exception: The error of the first block that fails.

    Example:
        >>> x = torch.arange(3)
        >>> over_rows(3, lambda rows: {"double": 2 * x[rows]})
        {'double': tensor([0, 2, 4])}
    """
    # Not more threads than blocks.
    threads = max(1, min(torch.get_num_threads(), ceil(n / _BLOCK)))
    # The same number of blocks for each thread, so that none is idle at the end.
    blocks = threads * max(1, ceil(n / (threads * _BLOCK)))
    # Blocks of complete bundles, so that each row is computed in the same way.
    size = BUNDLE * max(1, ceil(n / (blocks * BUNDLE)))
    starts = range(0, max(n, 1), size)

    def block(start: int) -> dict[_K, Tensor]:
        stop = min(start + size, n)
        # The last block is filled up to complete bundles; the extra rows are cut off below.
        rows = slice(start, stop) if stop - start == size else filled(np.arange(start, stop))
        with torch.no_grad():  # of this thread only, like the number of threads
            return {key: value[: stop - start] for key, value in work(rows).items()}

    with one_thread():
        if threads == 1:
            parts = [block(start) for start in progress(starts, "Computing", "records")]
        else:
            with ThreadPoolExecutor(threads, **_ALONE) as pool:
                done = pool.map(block, starts)
                parts = list(progress(done, "Computing", "records", total=n, each=size))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def map_in_order(
    module: torch.nn.Module, ask: Callable[[torch.nn.Module, _In], _Out], batches: Iterable[_In]
) -> Iterator[_Out]:
    """Yield the outputs of a torch module for batches, in order.

    On a CPU each batch is computed by one thread, so the outputs are the same for any number of
    threads: sums inside a convolution or a product depend on how many threads share it. As many
    batches as torch may use threads are computed at once, each by a copy of the module that
    shares its weights. A module that cannot be copied computes batch by batch.

    Args:
        module: The module.
        ask: Returns the output of a module for a batch.
        batches: The batches, read as they are needed.

    Example:
        >>> double = torch.nn.Identity()
        >>> list(map_in_order(double, lambda module, x: 2 * module(x), [1, 2, 3]))
        [2, 4, 6]
    """
    # On a GPU the batches are computed one after the other.
    threads = torch.get_num_threads()
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        yield from (ask(module, batch) for batch in batches)
        return
    # Each thread gets a module of its own that shares the weights: `memo` keeps them from being
    # copied.
    try:
        shared = [{id(tensor): tensor for tensor in tensors} for _ in range(threads)]
        copies = [copy.deepcopy(module, memo) for memo in shared] if threads > 1 else [module]
    except Exception:  # whatever a user's module may raise
        copies = [module]
    # A queue of free modules: no two threads use one at the same time.
    free: SimpleQueue[torch.nn.Module] = SimpleQueue()
    for each in copies:
        free.put(each)

    def answer(batch: _In) -> _Out:
        each = free.get()
        try:
            return ask(each, batch)
        finally:
            free.put(each)

    # One batch waits while each module has one; the oldest is returned first, in order.
    waiting: deque[Future[_Out]] = deque()
    try:
        with ThreadPoolExecutor(len(copies), **_ALONE) as pool:
            for batch in batches:
                waiting.append(pool.submit(answer, batch))
                if len(waiting) > len(copies):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # the default of new threads


def filled(rows: np.ndarray) -> np.ndarray:
    """Return positions, the last one repeated up to a multiple of 48.

    Example:
        >>> len(filled(np.array([3, 5]))), filled(np.array([3, 5]))[-1].item()
        (48, 5)
    """
    return np.pad(rows, (0, -len(rows) % BUNDLE), mode="edge") if len(rows) else rows
