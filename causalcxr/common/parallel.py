"""The same work on each of many tasks: in this process, in several, or on a Dask cluster.

The work is a plain function of a shared argument and of one task. It writes its results to files
that are complete or absent. A job that dies can therefore be run again, and a task that runs twice
does no harm.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from causalcxr.common.errors import CausalCXRError, install

__all__ = ["run"]

_AHEAD = 2  # tasks queued for each worker, so that it never waits
_shared: Any = None  # in a worker process: the argument that all tasks share


def run(
    work: Callable[[Any, Any], Any],
    tasks: Iterable[Any],
    shared: Any = None,
    *,
    workers: int = 1,
    cluster: str | None = None,
) -> Iterator[Any]:
    """Yield what `work(shared, task)` returns for each task, in the order in which they end.

    Close the generator (`contextlib.closing`) if it may not be read to its end: this ends the
    workers.

    Args:
        work: A function at the top level of a module, so that other processes can import it.
        tasks: One argument for each call; read only a little ahead of the work.
        shared: The argument that all tasks share; it is sent to each worker once.
        workers: Processes on this machine; with 1 the work runs in this process, in order. A
            script that uses more needs `if __name__ == "__main__":`.
        cluster: The address of a Dask scheduler, such as `tcp://10.0.0.1:8786`, whose workers
            run the work instead. They need this package and the same files under the same paths.

    Raises:
        CausalCXRError: If a worker process dies, or there is no such scheduler.

    Example:
        >>> list(run(pow, [1, 2, 3], 2))
        [2, 4, 8]
    """
    if cluster is not None:
        return _on_cluster(work, iter(tasks), shared, cluster)
    if workers < 1:
        raise CausalCXRError(f"workers {workers}: give at least 1")
    if workers == 1:
        return (work(shared, task) for task in tasks)
    return _in_processes(work, iter(tasks), shared, workers)


def _in_processes(work: Callable, tasks: Iterator, shared: Any, workers: int) -> Iterator[Any]:
    # Forked processes would inherit the locks of threads, torch's among them, and open files.
    context = get_context("spawn")
    # Nothing is sent through this pipe: closing `held` tells every worker to end.
    listening, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (shared, listening))
    try:
        yield from _windowed(lambda task: pool.submit(_do, work, task), tasks, workers)
        # All tasks are done: wait for the workers before the pipe is closed.
        pool.shutdown()
    except BrokenProcessPool:
        raise CausalCXRError(
            "a worker process died, possibly for lack of memory; finished results are kept: run "
            "the same command again with fewer workers"
        ) from None
    finally:
        held.close()  # ends the workers, idle or not
        pool.shutdown(cancel_futures=True)
        listening.close()


def _windowed(submit: Callable[[Any], Future], tasks: Iterator, workers: int) -> Iterator[Any]:
    """Keep every worker busy without handing out all tasks at once."""
    going = {submit(task) for task in islice(tasks, _AHEAD * workers)}
    while going:
        done, going = wait(going, return_when=FIRST_COMPLETED)
        going |= {submit(task) for task in islice(tasks, len(done))}
        for future in done:
            yield future.result()


def _begin(shared: Any, listening: Connection) -> None:
    """Prepare a worker process; it ends when the process that started it ends."""
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    threading.Thread(target=_end_with, args=(listening,), daemon=True).start()


def _end_with(listening: Connection) -> None:
    try:
        listening.poll(None)  # nothing is ever sent: this returns when the other end is closed
    finally:
        os._exit(1)


def _do(work: Callable, task: Any) -> Any:
    return work(_shared, task)


def _on_cluster(work: Callable, tasks: Iterator, shared: Any, address: str) -> Iterator[Any]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise CausalCXRError(
            f"cluster {address!r}: Dask is not installed; {install('cluster')}"
        ) from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TypeError) as error:
        # Only the first line, as our errors are of one line.
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CausalCXRError(f"cluster {address!r}: no scheduler answers ({reason})") from None
    with client:
        # Hand out tasks for all threads of the cluster, and a few ahead.
        threads = sum(client.nthreads().values())
        if not threads:
            raise CausalCXRError(f"cluster {address!r}: the scheduler has no workers; start some")
        # Send the shared argument to each worker once, not with each task.
        there = client.scatter([shared], broadcast=True, hash=False)[0]
        # `pure=False`: a task that is equal to another runs, too, as it writes files.
        first = [
            client.submit(work, there, task, pure=False)
            for task in islice(tasks, _AHEAD * threads)
        ]
        done = as_completed(first)
        for future in done:
            # Each task that ends makes room for one more.
            for task in islice(tasks, 1):
                done.add(client.submit(work, there, task, pure=False))
            yield future.result()
            # The cluster need not keep a result that has been read.
            future.release()
