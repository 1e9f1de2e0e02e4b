"""The plot of a model's checks: ranks, calibration curves and quantiles of each equation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from causalcxr.common.figure import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Panel", "page"]

_INK, _PALE, _BAR, _BAND, _ACCENT = "#1C2733", "#6C7885", "#9DB8D2", "#ECEAE4", "#C4501B"
_LINES = ("#3E6A97", "#7A8F3C", "#8A5A9C", "#B0772B", "#3C8F8A", "#A29C8C")
_SIDE, _GAP, _HEAD, _TOP = 1.25, 0.42, 0.55, 0.5  # inches
_ACROSS = 3  # equations beside each other
_BARS = 20


@dataclass(frozen=True)
class Panel:
    """The data of the two plots of one equation.

    Args:
        ranks: The rank of each value in its predicted distribution, shape (n,), in (0, 1).
        curves: For each level: predicted mean, observed mean, number and variance of each bin,
            shape (b, 4); empty for a continuous variable.
    """

    ranks: np.ndarray
    curves: Mapping[str, np.ndarray]


def page(
    panels: Mapping[str, tuple[Panel, Sequence[str]]],
    title: str,
    path: str | Path | None = None,
) -> Page:
    """Draw two plots per equation: the histogram of ranks, and calibration or quantiles.

    Args:
        panels: By variable, the data and the reasons why the equation fails, if it does.
        title: The line above everything.
        path: A file to write the picture to, PNG.

    Example:
        >>> grid = (np.arange(100) + 0.5) / 100
        >>> len(page({"Age": (Panel(grid, {}), ())}, "one equation").axes)
        2
    """
    # Sizes in inches: a row of cells, each with two plots.
    down = max(1, ceil(len(panels) / _ACROSS))
    cell = 2 * _SIDE + 2 * _GAP
    width, height = _ACROSS * cell + _GAP / 2, _TOP + down * (_SIDE + _HEAD + _GAP / 2)
    figure = Page(figsize=(width, height))
    figure.text(0.2 / width, 1 - 0.28 / height, title, color=_INK, size=8, weight="bold")
    for k, (name, (panel, failed)) in enumerate(panels.items()):
        left = _GAP + (k % _ACROSS) * cell
        bottom = height - _TOP - (k // _ACROSS + 1) * (_SIDE + _HEAD + _GAP / 2) + _GAP / 2 + 0.1
        # Figure coordinates are shares of width and height.
        axes = [
            figure.add_axes((x / width, bottom / height, _SIDE / width, _SIDE / height))
            for x in (left, left + _SIDE + _GAP * 0.85)
        ]
        _ranks(axes[0], panel.ranks)
        _curves(axes[1], panel.curves) if panel.curves else _quantiles(axes[1], panel.ranks)
        # The name above the plots, and below it why the equation fails.
        top = (bottom + _SIDE + 0.2) / height
        colour = _ACCENT if failed else _INK
        figure.text(left / width, top, name, color=colour, size=7.5, weight="bold")
        words = shorten(failed[0], 58) if failed else ""
        figure.text(left / width, top - 0.13 / height, words, color=_ACCENT, size=5.5)
    return figure.written(path)


def _ranks(ax: "Axes", ranks: np.ndarray) -> None:
    """Draw a histogram, which is flat if the equation is right, with its 99 % band."""
    n = len(ranks)
    # The 99 % interval of the count in one bar, if ranks are uniform.
    low, high = binom.interval(0.99, n, 1 / _BARS)
    ax.axhspan(low * _BARS / n, high * _BARS / n, color=_BAND, lw=0)
    height = np.histogram(ranks, bins=_BARS, range=(0, 1))[0] * _BARS / n
    ax.bar((np.arange(_BARS) + 0.5) / _BARS, height, width=0.9 / _BARS, color=_BAR)
    ax.axhline(1, color=_PALE, lw=0.6)
    ax.set_ylim(0, max(2.0, 1.05 * height.max()))
    _dress(ax, "rank")
    ax.set_xlim(0, 1)


def _curves(ax: "Axes", curves: Mapping[str, np.ndarray]) -> None:
    """Draw the observed frequency of each level against its predicted probability."""
    ax.plot([0, 1], [0, 1], color=_PALE, lw=0.6)
    for k, (level, bins) in enumerate(curves.items()):
        mean, observed, count, variance = bins.T
        colour = _LINES[k % len(_LINES)]
        # Intervals of 99 %, as in the histogram of ranks.
        error = 2.58 * np.sqrt(variance) / count
        ax.errorbar(
            mean,
            observed,
            error,
            color=colour,
            lw=0.8,
            marker="o",
            ms=2,
            elinewidth=0.6,
            label=level,
        )
    # Zoom in on the probabilities that occur; equal axes, so that the diagonal means calibrated.
    ends = np.concatenate([bins[:, :2].ravel() for bins in curves.values()])
    low, high = ends.min(), ends.max()
    room = max(0.02, 0.08 * (high - low))
    ax.set_xlim(max(-0.02, low - room), min(1.02, high + room))
    ax.set_ylim(*ax.get_xlim())
    ax.legend(fontsize=4.5, frameon=False, loc="upper left", handlelength=1)
    _dress(ax, "predicted, observed")


def _quantiles(ax: "Axes", ranks: np.ndarray) -> None:
    """Draw the normal scores of the ranks against the normal quantiles."""
    n = len(ranks)
    at = np.unique(np.linspace(0, n - 1, min(n, 400)).astype(int))
    ax.plot([-4, 4], [-4, 4], color=_PALE, lw=0.6)
    ax.plot(ndtri((at + 0.5) / n), ndtri(np.sort(ranks)[at]), ".", color=_LINES[0], ms=1.5)
    ax.set_xlim(-4, 4)
    ax.set_ylim(-4, 4)
    _dress(ax, "normal, noise")


def _dress(ax: "Axes", label: str) -> None:
    ax.set_xlabel(label, size=5.5, color=_PALE, labelpad=1)
    ax.tick_params(labelsize=5, colors=_PALE, length=2, width=0.4, pad=1)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.4)
        spine.set_color(_PALE)
