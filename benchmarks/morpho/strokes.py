"""Strokes as images: anti-aliased lines of a given thickness and grey level.

A pixel whose centre has the distance d from a line of thickness t gets the share of the grey level
that equals the part of a window of one pixel around d within t / 2 of the line:

    part = max(0, min(d + 1/2, t/2) + min(1/2 - d, t/2))

So the parts across a straight line add up to t for every t.
"""

import numpy as np

from benchmarks.morpho.digits import MOST, Shape, shapes

__all__ = ["NUMBERS", "SIDE", "digit_lines", "draw_lines"]

SIDE = 32  # a canvas of 28 pixels with a margin of 2 on each side
_HALF = 8.3  # pixels: half the height of a digit, without its thickness
_LIMIT = 2.5  # standard deviations; beyond it a stroke could leave the canvas
_MODES = 2  # of the warp, along each axis
_ROWS = 64  # images at a time
_SHAPES: Shape = shapes()

#: Standard normal numbers of a style: slant, height, width, rotation, two shifts, the warp, and
#: the offsets of the control points.
NUMBERS = 6 + 4 * _MODES + 2 * MOST


def digit_lines(digit: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Return the segments of digits in a writer's style, in pixels.

    The style does not depend on the digit: another digit in the same style has the same slant,
    size, position and warp, and the same offsets of its control points.

    Args:
        digit: 0 to 9, (n,).
        style: Standard normal numbers, (n, NUMBERS).

    Returns:
        Starts and ends, (n, segments, 2, 2), x then y.

    Example:
        >>> lines = digit_lines(np.array([1]), np.zeros((1, NUMBERS)))
        >>> [float(lines[..., 1].min().round(1)), float(lines[..., 1].max().round(1))]
        [7.7, 24.3]
    """
    digit, z = np.asarray(digit, dtype=int), np.clip(style, -_LIMIT, _LIMIT)
    slant, height, width, turn = (z[:, k, None, None] for k in range(4))
    shift, warp, points = np.split(z[:, 4:], [2, 2 + 4 * _MODES], axis=1)
    control = _SHAPES.points[digit] + 0.04 * points.reshape(-1, MOST, 2)
    lines = np.stack([_SHAPES.starts[digit] @ control, _SHAPES.ends[digit] @ control], 2)
    x, y = np.moveaxis(_warp(lines, warp), -1, 0)
    x = x * (1 + 0.1 * width) - (0.12 + 0.13 * slant) * y
    y = y * (1 + 0.04 * height)
    c, s = np.cos(0.06 * turn), np.sin(0.06 * turn)
    middle = SIDE / 2 + 0.5 * shift[:, None, None]
    return middle + _HALF * np.stack([c * x - s * y, s * x + c * y], -1)


def _warp(lines: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Add a smooth displacement: sine waves along each axis, in both directions."""
    weights = 0.05 * warp.reshape(-1, 2, 2, _MODES)
    k = np.arange(1, _MODES + 1)
    waves = np.sin(np.pi / 2 * k * (lines[..., None] + 0.5))  # (n, segments, 2, axis, modes)
    return lines + np.einsum("nspak,nack->nspc", waves, weights)


def draw_lines(
    lines: np.ndarray, thickness: np.ndarray, intensity: np.ndarray, side: int = SIDE
) -> np.ndarray:
    """Return images of lines, in grey levels 0 to 255, (n, side, side), float64.

    Args:
        lines: Starts and ends of segments in pixels, (n, segments, 2, 2); pixel k goes from k to
            k + 1.
        thickness: In pixels, (n,).
        intensity: The grey level, (n,).
        side: Pixels along each side.

    Example:
        >>> line = np.array([[[[-9.0, 4.0], [17.0, 4.0]]]])
        >>> draw_lines(line, np.array([3.0]), np.array([100.0]), 8)[0, :, 4].tolist()
        [0.0, 0.0, 50.0, 100.0, 100.0, 50.0, 0.0, 0.0]
    """
    out = np.empty((len(lines), side, side))
    for first in range(0, len(lines), _ROWS):
        rows = slice(first, first + _ROWS)
        d = _distance(np.asarray(lines[rows], dtype=np.float32), side)
        half = np.asarray(thickness[rows])[:, None] / 2
        part = np.minimum(d + 0.5, half) + np.minimum(0.5 - d, half)
        level = np.asarray(intensity[rows])[:, None] * part.clip(min=0)
        out[rows] = level.reshape(-1, side, side)
    return out


def _distance(lines: np.ndarray, side: int) -> np.ndarray:
    """Return the distance of each pixel's centre from the nearest segment, (n, pixels)."""
    middle = np.arange(side, dtype=np.float32) + np.float32(0.5)
    nearest = np.full((len(lines), side, side), np.inf, np.float32)
    for k in range(lines.shape[1]):
        (ax, ay), (bx, by) = (np.moveaxis(lines[:, k, e, :, None, None], 1, 0) for e in (0, 1))
        dx, dy = bx - ax, by - ay
        px, py = middle[None, None, :] - ax, middle[None, :, None] - ay
        along = (px * dx + py * dy) / np.maximum(dx * dx + dy * dy, np.float32(1e-9))
        along = along.clip(0, 1)
        square = np.square(px - along * dx) + np.square(py - along * dy)
        np.minimum(nearest, square, out=nearest)
    return np.sqrt(nearest).reshape(len(lines), -1)
