"""The plots of a cohort's report: missing values, prevalences and ages."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalcxr.common.figure import Page
from causalcxr.sources.policy import FINDINGS

__all__ = ["plots"]

_INK, _PALE = "#1C2733", "#6C7885"
_LINES = ("#3E6A97", "#7A8F3C", "#8A5A9C", "#B0772B", "#3C8F8A", "#C4501B", "#A29C8C")


def plots(report: Mapping[str, Any]) -> dict[str, Page]:
    """Draw the plots of a report.

    Args:
        report: The content of the report, from `report.facts`.

    Returns:
        `missing`, `prevalence` and `ages`.
    """
    return {
        "missing": _missing(report["missing"]),
        "prevalence": _prevalence(report["prevalence"]["Dataset"]),
        "ages": _ages(report["ages"]),
    }


def _missing(missing: Mapping[str, Mapping[str, float]]) -> Page:
    sources, variables = list(missing), list(next(iter(missing.values()), {}))
    shares = np.array([[missing[s][v] for v in variables] for s in sources]).reshape(
        len(sources), len(variables)
    )
    page = Page(figsize=(10, 1.6 + 0.32 * len(sources)), layout="constrained")
    ax = page.subplots()
    if shares.size:
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(variables)), variables, rotation=45, ha="right", fontsize=8)
        ax.set_yticks(range(len(sources)), sources, fontsize=8)
        for (row, column), share in np.ndenumerate(shares):
            # White on dark cells.
            colour = "white" if share > 0.6 else _INK
            text = f"{100 * share:.0f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    _style(ax)
    return page


def _prevalence(prevalence: Mapping[str, Mapping[str, Any]]) -> Page:
    page = Page(figsize=(10, 4.2), layout="constrained")
    ax = page.subplots()
    positions = np.arange(len(FINDINGS))
    for k, (source, findings) in enumerate(prevalence.items()):
        shares = [findings[name]["share"] for name in FINDINGS]
        has_share = np.array([share is not None for share in shares], dtype=bool)
        values = np.array([share if share is not None else np.nan for share in shares])
        # The points of several data sets stand side by side.
        offset = (k - (len(prevalence) - 1) / 2) * 0.1
        style = {"color": _LINES[k % len(_LINES)], "label": source, "markersize": 5}
        ax.plot(positions[has_share] + offset, 100 * values[has_share], "o", **style)
    ax.set_xticks(positions, FINDINGS, rotation=45, ha="right", fontsize=8)
    ax.set_ylabel("P of P and N, %", color=_INK, fontsize=8)
    ax.set_ylim(-3, 103)
    ax.grid(axis="y", color="#ECEAE4")
    if prevalence:
        ax.legend(fontsize=8, frameon=False, ncols=2)
    _style(ax)
    return page


def _ages(ages: Mapping[str, list[int]]) -> Page:
    page = Page(figsize=(10, 2.8), layout="constrained")
    ax = page.subplots()
    for k, (source, counts) in enumerate(ages.items()):
        ax.plot(range(len(counts)), counts, color=_LINES[k % len(_LINES)], lw=1.4, label=source)
    ax.set_xlabel("age, years", fontsize=8)
    ax.set_ylabel("radiographs", fontsize=8)
    ax.set_xlim(0, 105)
    if ages:
        ax.legend(fontsize=8, frameon=False)
    _style(ax)
    return page


def _style(ax: Any) -> None:
    ax.tick_params(colors=_PALE, labelcolor=_INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
