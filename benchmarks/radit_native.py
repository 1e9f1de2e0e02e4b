"""Twins at the size of the radiograph: error, ringing, and twins per second at each size.

    python -m benchmarks radit_native          (about 15 minutes on one core)
    python -m benchmarks.radit_native --weights FILE --resolution 32

Held-out phantoms are rendered at each size, and their twins computed at the size of the weights
under `coupling: transport`; the twins have the variables of the true twins. For each size, over
seven interventions:

- error: |twin - true| / |factual - true|, with a 95 % interval (bootstrap of patients); 1 is no
  better than a copy.
- floor: the error if the model's change were the true one, shrunk to the model's size.
- detail: the share of the change's energy beyond the model's Nyquist frequency, that of the twins
  and that of the true twins.
- overshoot: how far the enlarged change leaves the range of the model's neighbouring pixels, as
  a share of the change.
- twins per second of processor time, without rendering, and the share that resizing takes.
"""

import argparse
import sys
import time

import numpy as np
import torch
from rich.console import Console
from scipy.ndimage import maximum_filter, minimum_filter

from benchmarks import Row
from benchmarks.__main__ import show
from benchmarks._image_twins import ACTIONS, bind_parents, load_network, record_draws
from causalcxr import Cohort
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.radit.transformer import RadiT
from causalcxr.sources.phantom import truth

__all__ = ["main", "measured"]

_RECORDS = {64: 24, 128: 24, 256: 12, 512: 8}  # for each intervention
_SEED, _DRAWS = 412, 2000  # of phantoms that chose nothing; bootstrap draws
# Small batches, so that few records fill them.
_TRANSPORT = Solving(coupling="transport", chunk=Chunk(4))


def main(quick: bool = False) -> list[Row]:
    """Return one row a size, with the bundled weights."""
    sizes = {64: 2, 128: 2} if quick else _RECORDS
    names = list(ACTIONS)[:1] if quick else list(ACTIONS)
    return measured(load_network(), sizes, names)


def measured(net: RadiT, sizes: dict[int, int], names: list[str]) -> list[Row]:
    """Return one row a size.

    Args:
        net: The network.
        sizes: Pixels along each side -> records for each intervention.
        names: Some of `ACTIONS`.
    """
    return [
        _row(net, size, [_Result(net, size, records, name) for name in names])
        for size, records in sizes.items()
        if size >= net.config.size[0]
    ]


class _Result:
    """The twins of some phantoms under one intervention, beside the true ones."""

    def __init__(self, net: RadiT, size: int, records: int, name: str) -> None:
        condition, action = ACTIONS[name]
        cohort = Cohort.load("phantom", n=40 * records, size=size, seed=_SEED).select(condition)
        cohort = cohort.head(records)
        true_twins = truth(cohort, action)
        x, true = (images[:].astype(np.float64) for images in (cohort.images, true_twins.images))
        resampling = Resampling((size, size), tuple(net.config.size))
        twins, self.seconds = _twins(net, cohort, true_twins, x)
        self.twins = len(x)
        self.copy = np.abs(true - x).mean((1, 2, 3))
        self.error = np.abs(twins.clip(0, 1) - true).mean((1, 2, 3))
        # The floor: the true change, seen and enlarged like the model's.
        self.true_change, self.change = (true - x)[:, 0], (twins - x)[:, 0]
        floor = x[:, 0] + resampling.enlarge(resampling.shrink(self.true_change))
        self.floor = np.abs(floor.clip(0, 1) - true[:, 0]).mean((1, 2))
        self.overshoot = _overshoot(self.change, resampling)
        start = time.process_time()
        resampling.enlarge(resampling.shrink(x[:, 0]))
        self.resizing = time.process_time() - start


def _twins(
    net: RadiT, cohort: Cohort, true_twins: Cohort, x: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return twins, (n, 1, H, W), and the seconds that they took."""

    def equation(records: Cohort) -> ImageEquation:
        return bind_parents(net, records, _TRANSPORT).sized(*x.shape[-2:])

    start = time.process_time()
    noise = equation(cohort).abduct(torch.from_numpy(x), record_draws(cohort))
    twins = equation(true_twins).predict(noise).numpy()
    return twins, time.process_time() - start


def _row(net: RadiT, size: int, results: list[_Result]) -> Row:
    model = net.config.size[0]
    low, high = np.quantile(_bootstrapped(results), [0.025, 0.975])
    seconds = sum(each.seconds for each in results)
    # At the model's own size nothing is resized.
    resizing = 0.0 if size == model else sum(each.resizing for each in results) / seconds
    return {
        "pixels": size,
        "computed at": model,
        "records": len(results) * results[0].twins,
        "error": float(np.mean([_ratio(each.error, each.copy) for each in results])),
        "95 %": f"{low:.3f} to {high:.3f}",
        "floor": float(np.mean([_ratio(each.floor, each.copy) for each in results])),
        "detail": float(np.mean([_detail(each.change, size / model) for each in results])),
        "true detail": float(np.mean([_detail(e.true_change, size / model) for e in results])),
        "overshoot": float(np.mean([each.overshoot for each in results])),
        "twins/s": sum(each.twins for each in results) / seconds,
        "resizing": resizing,
    } | {name: float(_ratio(r.error, r.copy)) for name, r in zip(ACTIONS, results, strict=False)}


def _ratio(error: np.ndarray, copy: np.ndarray) -> float:
    return float(error.mean() / copy.mean())


def _bootstrapped(results: list[_Result]) -> np.ndarray:
    """Return the mean error over interventions under resampled patients."""
    generator, total = np.random.default_rng(0), np.zeros(_DRAWS)
    for each in results:
        rows = generator.integers(0, each.twins, (_DRAWS, each.twins))
        total += each.error[rows].mean(1) / each.copy[rows].mean(1)
    return total / len(results)


def _detail(change: np.ndarray, scale: float) -> float:
    """Return the share of energy beyond the Nyquist frequency of a grid coarser by `scale`."""
    energy = np.abs(np.fft.fft2(change)) ** 2
    frequency = np.abs(np.fft.fftfreq(change.shape[-1]))
    beyond = np.maximum(frequency[:, None], frequency[None]) > 0.5 / scale
    return float(energy[:, beyond].sum() / energy.sum())


def _overshoot(change: np.ndarray, resampling: Resampling) -> float:
    """Return how far a change leaves the range of its neighbours at the model's size."""
    # The model's pixels, each beside its eight neighbours, at the places of the native ones.
    cells = resampling.shrink(change)
    side = (np.arange(change.shape[-1]) / resampling.scale).astype(int)
    low, high = (
        extreme(cells, size=(1, 3, 3))[:, side][:, :, side]
        for extreme in (minimum_filter, maximum_filter)
    )
    beyond = np.maximum(low - change, change - high).clip(0)
    return float(beyond.mean() / np.abs(change).mean())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.radit_native")
    parser.add_argument("--weights", default="phantom", help="a bundled name or a file")
    parser.add_argument("--resolution", type=int, default=64, help="pixels of the weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(_RECORDS))
    parser.add_argument("--records", type=int, default=0, help="for each intervention")
    return parser.parse_args()


if __name__ == "__main__":
    options = _arguments()
    sizes = {size: options.records or _RECORDS.get(size, 8) for size in options.sizes}
    net = load_network(options.weights, options.resolution)
    table = measured(net, sizes, list(ACTIONS))
    show(Console(width=None if sys.stdout.isatty() else 400), "radit_native", table)
