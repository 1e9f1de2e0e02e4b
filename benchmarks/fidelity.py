"""The cost of Frechet and kernel distance, precision, recall, density and coverage.

    python -m benchmarks fidelity            (as many threads as OMP_NUM_THREADS says)

First all six over 50,000 real and 50,000 generated vectors of 768 float32 features in one call, in
a separate process; its peak memory includes the interpreter and the features. Then each measure of
smaller sets is compared with a peer on the same vectors: FID and KID of torchmetrics (one subset
of all vectors), and precision, recall, density and coverage by their published algorithm, with all
distances at once in float64. The runs alternate; times are medians over the repetitions. A ratio
is the peer's time over ours, a difference is the distance between the two values.
"""

import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
from sklearn.metrics import pairwise_distances
from torch import nn

from benchmarks import Row
from causalcxr.metrics import fidelity, frechet, kernel, prdc
from causalcxr.metrics.inputs import row_blocks

__all__ = ["features", "main", "published"]

_WIDTH = 768
_TARGET = "<= 180 s on two cores, <= 4 GiB"
Figures = dict[str, float]


def features(n: int, shift: float, seed: int) -> np.ndarray:
    """Return vectors (n, 768) of 20 overlapping groups with correlated features, float32."""
    common = np.random.default_rng(0)
    mix = common.normal(size=(_WIDTH, _WIDTH)) * np.geomspace(1, 0.02, _WIDTH) / _WIDTH**0.5
    middles = common.normal(size=(20, _WIDTH)) * 0.1
    rng = np.random.default_rng(seed)
    out = np.empty((n, _WIDTH), dtype=np.float32)
    for rows in row_blocks(n):
        count = rows.stop - rows.start
        group = rng.integers(20, size=count)
        out[rows] = rng.normal(size=(count, _WIDTH)) @ mix * (1 + shift) + middles[group] + shift
    return out


def published(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, ...]:
    """Return precision, recall, density and coverage from three matrices of all distances."""

    def reach(x: np.ndarray) -> np.ndarray:
        return np.partition(pairwise_distances(x), k, axis=1)[:, k]

    x, y = real.astype(np.float64), generated.astype(np.float64)
    ours, theirs, apart = reach(x), reach(y), pairwise_distances(x, y)
    inside = apart < ours[:, None]
    return (
        float(inside.any(0).mean()),
        float((apart < theirs).any(1).mean()),
        float(inside.sum(0).mean() / k),
        float((apart.min(1) < ours).mean()),
    )


class _Rows(nn.Module):
    """An extractor whose features are its input."""

    num_features = _WIDTH

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _torchmetrics(real: np.ndarray, generated: np.ndarray, kid: bool) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        if kid:
            size = min(len(real), len(generated))
            metric = KernelInceptionDistance(feature=_Rows(), subsets=1, subset_size=size)
        else:
            metric = FrechetInceptionDistance(feature=_Rows()).set_dtype(torch.float64)
        # Float64, so that a difference is not due to the peer's rounding.
        metric.update(torch.from_numpy(real).double(), real=True)
        metric.update(torch.from_numpy(generated).double(), real=False)
        result = metric.compute()
    return float(result[0] if kid else result)


def _all_measures(n: int) -> Row:
    """Return the cost of all measures of n and n vectors, with the peak memory of the process."""
    real, generated = features(n, 0.0, 1), features(n, 0.02, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, processor = time.perf_counter(), time.process_time()
    result = fidelity(real, generated)
    row: Row = {"figure": "all six, one call", "vectors": f"{n:,} + {n:,}"}
    row["seconds (clock)"] = time.perf_counter() - clock
    row["seconds (processor)"] = time.process_time() - processor
    row["threads"] = torch.get_num_threads()
    row["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row["before GiB"] = before / 2**20
    row["target"] = _TARGET
    shares = (
        f"{result.precision:.4f} {result.recall:.4f} {result.density:.4f} {result.coverage:.4f}"
    )
    row["value"] = f"{result.frechet:.5g} {result.kernel:.5g} {shares}"
    return row


def _in_a_process(n: int) -> Row:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_all_measures, n).result()


def _compare(n: int, turns: int) -> list[Row]:
    """Return one row per measure: our time, the ratio of the peer's, and the difference."""
    a, b = features(n, 0.0, 1), features(n, 0.02, 2)

    def shares() -> np.ndarray:
        result = prdc(a, b)
        return np.array([result.precision, result.recall, result.density, result.coverage])

    pairs: dict[str, tuple[Callable, Callable]] = {
        "Frechet / torchmetrics": (lambda: frechet(a, b), lambda: _torchmetrics(a, b, False)),
        "kernel / torchmetrics": (lambda: kernel(a, b), lambda: _torchmetrics(a, b, True)),
        "precision to coverage / published algorithm": (shares, lambda: np.array(published(a, b))),
    }
    rows: list[Row] = []
    for name, functions in pairs.items():
        times, values = [], [compute() for compute in functions]  # this first run warms up
        for _ in range(turns):
            seconds = []
            for compute in functions:
                start = time.process_time()
                compute()
                seconds.append(time.process_time() - start)
            times.append(seconds)
        row: Row = {"figure": name, "vectors": f"{n:,} + {n:,}"}
        row["seconds (processor)"] = median(t[0] for t in times)
        row["peer (processor)"] = median(t[1] for t in times)
        row["ratio"] = median(t[1] / t[0] for t in times)
        row["difference"] = float(np.abs(values[1] - values[0]).max())
        row["value"] = " ".join(f"{v:.5g}" for v in np.atleast_1d(values[0]))
        rows.append(row)
    return rows


def main(quick: bool = False) -> list[Row]:
    """Return one row for all measures at once, and one for each measure and its peer."""
    large, small, turns = (3000, 1000, 1) if quick else (50_000, 5000, 3)
    return [_in_a_process(large), *_compare(small, turns)]
