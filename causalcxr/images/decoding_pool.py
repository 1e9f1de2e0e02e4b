"""Worker processes that decode files with limits on time and memory; see `decode_many`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import causalcxr
from causalcxr.common.errors import CohortError
from causalcxr.images.decoded import Decoded, ImageError, Limits

__all__ = ["decoded_by_workers"]

_AHEAD = 4  # files queued for each worker: it stays busy, and memory stays small
_STARTUP = 120.0  # seconds for loading a worker's libraries, also from a slow disk


def decoded_by_workers(
    paths: Iterable[str | Path],
    workers: int | None,
    limits: Limits,
    size: tuple[int, int] | None,
) -> Iterator[Decoded | ImageError]:
    """Yield one result for each path, in order; see `decode_many`.

    Raises:
        CohortError: If no worker can be started, or `workers` is below 1.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = (count or 1) if workers is None else int(workers)
    if workers < 1:
        raise CohortError(f"workers={workers}; give at least 1")
    return _results(paths, workers, limits, size)


def _results(
    paths: Iterable[str | Path], workers: int, limits: Limits, size: tuple[int, int] | None
) -> Iterator[Decoded | ImageError]:
    crew = _Crew(limits, size)
    waiting: deque = deque()
    # One thread for each worker process, which waits for its answers.
    threads = ThreadPoolExecutor(workers, thread_name_prefix="decoding")
    try:
        for path in paths:
            waiting.append(threads.submit(crew.decode, path))
            # Results come in order; only a few files a worker wait for a slow one.
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also if the results are not read to the end
        # End the processes first, so that no thread waits for one. Then close the pipes.
        crew.dismiss()
        threads.shutdown(wait=True, cancel_futures=True)
        crew.close()


class _Crew:
    """One worker process for each thread, replaced when it ends."""

    def __init__(self, limits: Limits, size: tuple[int, int] | None) -> None:
        self._limits, self._size = limits, size
        self._mine = threading.local()
        self._all: set[_Worker] = set()
        self._dismissed = False

    def decode(self, path: str | Path) -> Decoded | ImageError:
        """Return the result of one file; if a used worker fails, a new one tries again."""
        worker = self._worker()
        result = worker.decode(path)
        if not worker.fresh and isinstance(result, ImageError) and self._spent(worker, result):
            result = self._worker().decode(path)
        return result

    def dismiss(self) -> None:
        """End every worker."""
        self._dismissed = True
        for worker in list(self._all):
            worker.end()

    def close(self) -> None:
        """Close the pipes to the workers, once no thread reads from them."""
        for worker in self._all:
            worker.close()

    def _spent(self, worker: "_Worker", error: ImageError) -> bool:
        """Return whether an error may be due to earlier files of the worker, and end it then."""
        if error.reason not in ("memory", "crashed") or self._dismissed:
            return False
        worker.end()
        return True

    def _worker(self) -> "_Worker":
        worker = getattr(self._mine, "worker", None)
        if self._dismissed:
            raise CohortError("decoding was stopped")
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
                self._all.discard(worker)
            self._mine.worker = worker = _Worker(self._limits, self._size)
            self._all.add(worker)
        return worker


class _Worker:
    """A process that decodes one file at a time."""

    def __init__(self, limits: Limits, size: tuple[int, int] | None) -> None:
        self._limits, self.fresh = limits, True
        settings = asdict(limits)
        settings["root"] = None if limits.root is None else str(limits.root)
        self._request = {"limits": settings, "size": None if size is None else list(size)}
        # `-P` keeps the working folder, which may hold data, out of the module path.
        home = str(Path(causalcxr.__file__).parents[1])
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        # One numerical thread each, as the workers share the cores.
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "causalcxr.images.decoding_worker", str(limits.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | one | {"PYTHONPATH": path},
        )
        # The worker answers once when its libraries are loaded.
        try:
            self._within(_STARTUP, b"")
        except _Ended as error:
            self.close()
            raise CohortError(
                f"a process for decoding cannot be started ({error}); check the free memory"
            ) from None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process and close the pipes to it."""
        self.end()
        with contextlib.suppress(OSError):  # for a request that was not read
            self._process.stdin.close()
        self._process.stdout.close()

    def decode(self, path: str | Path) -> Decoded | ImageError:
        """Return the result for one file."""
        request = json.dumps(self._request | {"path": os.fspath(path)}).encode() + b"\n"
        try:
            facts, pixels = self._within(self._limits.seconds, request)
        except _Ended as error:
            self.end()
            return ImageError(error.reason, path, str(error))
        if "reason" in facts:
            self.fresh = self.fresh and facts["reason"] not in ("memory",)
            return ImageError(facts["reason"], path, facts["detail"])
        self.fresh = False
        return Decoded(pixels.reshape(facts["shape"]), facts["bits"], facts["about"])

    def _within(self, seconds: float, request: bytes) -> tuple[dict[str, Any], np.ndarray]:
        """Send a request and return the answer; raise if time runs out or the process ends."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        # Killing the process ends the reading below.
        clock = threading.Timer(seconds, stop)
        clock.daemon = True
        clock.start()
        try:
            # A process that has ended breaks the pipe; the reading below reports it.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(request)
                self._process.stdin.flush()
            line = self._process.stdout.readline()
            # Without a line end the answer was cut short: the process has ended.
            facts = json.loads(line) if line.endswith(b"\n") else None
            if facts is not None:
                pixels = np.empty(facts["bytes"] // 2, dtype="<u2")
                if self._filled(memoryview(pixels).cast("B")):
                    return facts, pixels.astype(np.uint16, copy=False)
        finally:
            clock.cancel()
        if late.is_set():
            detail = f"took longer than {seconds:g} s; raise the limit or leave it out"
            raise _Ended("slow", detail)
        # A negative status is the number of the signal that ended it.
        code = self._process.wait()
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise _Ended("crashed", f"ended the process that decoded it ({name}); leave it out")

    def _filled(self, view: memoryview) -> bool:
        done = 0
        while done < len(view):
            count = self._process.stdout.readinto(view[done:])
            if not count:
                return False
            done += count
        return True


class _Ended(Exception):
    """A worker ended without an answer."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
