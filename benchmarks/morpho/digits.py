"""The ten digits as curves through control points, in the square from -1 to 1, y downwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MOST", "Shape", "shapes"]

#: The largest number of control points of a digit.
MOST = 9
_SEGMENTS = 40  # per digit, allocated by the lengths of its strokes

_POINTS: Sequence[Sequence[tuple[float, float]]] = (
    [
        (0, -1),
        (0.42, -0.7),
        (0.58, 0),
        (0.42, 0.7),
        (0, 1),
        (-0.42, 0.7),
        (-0.58, 0),
        (-0.42, -0.7),
    ],
    [(-0.32, -0.6), (0.06, -1), (0.03, 0), (0, 1)],
    [
        (-0.55, -0.5),
        (-0.3, -0.92),
        (0.2, -0.95),
        (0.48, -0.5),
        (0.2, 0.1),
        (-0.6, 1),
        (0.65, 0.95),
    ],
    [
        (-0.5, -0.8),
        (0.05, -1),
        (0.46, -0.62),
        (0.32, -0.2),
        (-0.12, -0.05),
        (0.44, 0.15),
        (0.55, 0.6),
        (0.05, 1),
        (-0.56, 0.78),
    ],
    [(-0.3, -0.95), (-0.58, 0.15), (0.62, 0.12), (0.34, -0.9), (0.2, 1)],
    [
        (0.55, -0.97),
        (-0.36, -0.93),
        (-0.44, -0.1),
        (0.15, -0.22),
        (0.55, 0.3),
        (0.2, 0.95),
        (-0.55, 0.8),
    ],
    [
        (0.38, -1),
        (-0.22, -0.55),
        (-0.52, 0.2),
        (-0.38, 0.8),
        (0.1, 1),
        (0.5, 0.6),
        (0.3, 0.12),
        (-0.15, 0.1),
        (-0.46, 0.45),
    ],
    [(-0.58, -0.88), (0.56, -0.93), (0.1, 0), (-0.14, 1)],
    [(0, -0.04), (0.42, -0.5), (0, -1), (-0.42, -0.5), (0.5, 0.5), (0, 1), (-0.5, 0.5)],
    [
        (0.46, -0.72),
        (0.05, -1),
        (-0.45, -0.68),
        (-0.35, -0.2),
        (0.08, -0.08),
        (0.44, -0.4),
        (0.44, 0.2),
        (0.2, 1),
    ],
)
# The strokes of each digit: indices of the control points of a smooth curve. A stroke that ends
# at its start is closed; two strokes that share an end make a corner.
_STROKES: Sequence[Sequence[Sequence[int]]] = (
    [[0, 1, 2, 3, 4, 5, 6, 7, 0]],
    [[0, 1], [1, 2, 3]],
    [[0, 1, 2, 3, 4, 5], [5, 6]],
    [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]],
    [[0, 1], [1, 2], [3, 4]],
    [[0, 1], [1, 2], [2, 3, 4, 5, 6]],
    [[0, 1, 2, 3, 4, 5, 6, 7, 8]],
    [[0, 1], [1, 2, 3]],
    [[0, 1, 2, 3, 0, 4, 5, 6, 0]],
    [[0, 1, 2, 3, 4, 5, 0], [0, 6, 7]],
)


@dataclass(frozen=True)
class Shape:
    """The ten digits: control points, and the weights that turn them into segments.

    Args:
        points: (10, MOST, 2), x to the right and y downwards.
        starts: Weights of the control points in the starts of segments, (10, segments, MOST).
        ends: The same for the ends.
    """

    points: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def shapes() -> Shape:
    """Return the ten digits.

    Example:
        >>> digits = shapes()
        >>> digits.points.shape, bool(np.allclose(digits.starts.sum(-1), 1))
        ((10, 9, 2), True)
    """
    points = np.zeros((10, MOST, 2))
    starts, ends = (np.zeros((10, _SEGMENTS, MOST)) for _ in range(2))
    for digit, (control_points, strokes) in enumerate(zip(_POINTS, _STROKES, strict=True)):
        points[digit, : len(control_points)] = control_points
        first = 0
        for stroke, count in zip(strokes, _share(points[digit], strokes), strict=True):
            curve = _weights(stroke, count + 1)
            rows = slice(first, first + count)
            starts[digit, rows], ends[digit, rows] = curve[:-1], curve[1:]
            first += count
    return Shape(points, starts, ends)


def _share(points: np.ndarray, strokes: Sequence[Sequence[int]]) -> list[int]:
    """Allocate the segments to strokes by length; the longest gets the remainder."""
    steps = [np.linalg.norm(np.diff(points[list(s)], axis=0), axis=1).sum() for s in strokes]
    counts = [max(1, int(_SEGMENTS * step / sum(steps))) for step in steps]
    counts[int(np.argmax(steps))] += _SEGMENTS - sum(counts)
    return counts


def _weights(stroke: Sequence[int], samples: int) -> np.ndarray:
    """Return a Catmull-Rom curve as weights of the control points, (samples, MOST)."""
    closed, n = stroke[0] == stroke[-1], len(stroke) - 1
    t = np.linspace(0, n, samples)
    k = np.minimum(t.astype(int), n - 1)
    s = (t - k)[:, None]
    basis = [
        (-s + 2 * s**2 - s**3) / 2,
        (2 - 5 * s**2 + 3 * s**3) / 2,
        (s + 4 * s**2 - 3 * s**3) / 2,
        (s**3 - s**2) / 2,
    ]
    out = np.zeros((samples, MOST))
    for shift, weight in zip(range(-1, 3), basis, strict=True):
        place = k + shift
        place = place % n if closed else np.clip(place, 0, n)
        np.add.at(out, (np.arange(samples), np.asarray(stroke)[place]), weight[:, 0])
    return out
