"""The picture of a test of a graph: the graph, and the independences that the data violate."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from causalcxr.common.figure import Page
from causalcxr.graph.drawing import draw as draw_graph
from causalcxr.graph.drawing import scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalcxr.cohort.graph_test.result import GraphTest

__all__ = ["draw"]

_VIOLATED, _REMOVED, _INK = "#C4501B", "#3E6A97", "#1C2733"
_WIDEST_TITLE = 6.6  # inches
_MOST = 12  # violated pairs that are drawn, the strongest


def draw(result: "GraphTest", path: str | Path | None = None) -> Page:
    """Draw the graph with violated independences as dashed lines, and edges that are not needed.

    A line is wider where the partial correlation is larger; the number is that correlation.

    Args:
        result: The result.
        path: A file to write the picture to, PNG.
    """
    boxes = scene(result.graph).boxes
    plain = draw_graph(result.graph)
    width, height = plain.get_size_inches()
    page = Page(figsize=(max(width, _WIDEST_TITLE), height + 0.62))
    axes = page.add_axes((0, 0, 1, height / (height + 0.62)))
    draw_graph(result.graph, ax=axes)
    centres = {name: (box.x, box.y) for name, box in boxes.items()}
    for _, row in result.removals.iterrows():
        _line(axes, centres[row["parent"]], centres[row["child"]], _REMOVED, ":", 2.0, 0.0)
    pairs = _strongest(result)
    for k, ((one, other), effect) in enumerate(pairs.items()):
        bend = 0.16 if k % 2 else -0.16
        _line(axes, centres[one], centres[other], _VIOLATED, "--", 0.8 + 8 * effect, bend)
        x, y = _middle(centres[one], centres[other], bend)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axes.text(
            x, y, f"{effect:.2f}", color=_VIOLATED, fontsize=7, ha="center", va="center",
            zorder=9, bbox=box,
        )  # fmt: skip
    _title(page, result, len(pairs), height + 0.62)
    return page.written(path)


def _strongest(result: "GraphTest") -> dict[tuple[str, str], float]:
    """Return the strongest effect of each violated pair, the largest first."""
    pairs: dict[tuple[str, str], float] = {}
    for _, row in result.violated.iterrows():
        one, other = sorted((row["variable"], row["other"]))
        pairs.setdefault((one, other), float(row["effect"]))
    return dict(list(pairs.items())[:_MOST])


def _line(
    axes: "Axes",
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    style: str,
    width: float,
    bend: float,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-",
            connectionstyle=f"arc3,rad={bend}",
            color=colour,
            linestyle=style,
            linewidth=min(width, 4.5),
            shrinkA=12,
            shrinkB=12,
            alpha=0.85,
            zorder=8,
        )
    )


def _middle(
    start: tuple[float, float], end: tuple[float, float], bend: float
) -> tuple[float, float]:
    """Return the middle of an arc, as matplotlib's arc3 bends it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    return (start[0] + end[0]) / 2 + bend * dy / 2, (start[1] + end[1]) / 2 - bend * dx / 2


def _title(page: Page, result: "GraphTest", drawn: int, height: float) -> None:
    first, _, rest = result.heading.partition("; ")
    style = {"color": _INK, "fontsize": 8, "ha": "left", "va": "center"}
    page.text(0.02, 1 - 0.14 / height, first, weight="bold", **style)
    page.text(0.02, 1 - 0.32 / height, rest, **style)
    pairs = result.violated[["variable", "other"]].apply(frozenset, axis=1).nunique()
    most = f", the strongest {drawn} of {pairs}" if drawn < pairs else ""
    entries = [
        Line2D([], [], color=_VIOLATED, ls="--", label=f"dependent, not in the graph{most}")
    ]
    if len(result.removals):
        entries.append(Line2D([], [], color=_REMOVED, ls=":", lw=2, label="edge not needed"))
    page.legend(
        handles=entries, loc="center left", bbox_to_anchor=(0.01, 1 - 0.5 / height), ncols=2,
        fontsize=7, frameon=False,
    )  # fmt: skip
