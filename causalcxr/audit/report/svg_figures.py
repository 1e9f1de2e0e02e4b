"""The report's figures as inline SVG: colours, fonts, and nothing loaded from outside."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup

from causalcxr.audit.report.formatting import printable
from causalcxr.common.figure import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ALL", "GRID", "INK", "LINES", "PALE", "Drawing", "drawn", "dressed", "line_style"]

INK, PALE, GRID = "#1C2733", "#4F5B67", "#E6E9ED"
ALL = {"color": PALE, "linestyle": (0, (1, 1.2)), "linewidth": 1.6, "marker": ""}
# Distinct with colour blindness, by dash and by marker; contrast on white at least 4.5 : 1.
LINES = ("#0067A5", "#B8400E", "#00734F", "#8E3A78", "#7A5700", "#4A4FB5")
_DASHES = ("-", (0, (5, 1.6)), (0, (2.4, 1.4)), (0, (6, 1.4, 1.4, 1.4)))
_MARKERS = ("o", "s", "D", "^", "v", "P")
_TYPE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "causalcxr",
    "text.parse_math": False,  # `$` in a label is a dollar
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
}


@dataclass(frozen=True)
class Drawing:
    """Hold a figure of the page.

    Args:
        svg: The markup.
        caption: What it shows.
        note: The same in words and numbers, for users who do not see it.
    """

    svg: Markup
    caption: str
    note: str


def drawn(
    paint: Callable[[Page], None],
    name: str,
    *,
    caption: str,
    note: str,
    size: tuple[float, float] = (4.7, 3.6),
) -> Drawing:
    """Draw a figure.

    Args:
        paint: Draws on an empty page.
        name: Prefix of each id, so that ids are unique in the page.
        caption: What it shows.
        note: Its alternative text.
        size: Width and height in inches.
    """
    content = io.BytesIO()
    # The user's matplotlib style must not change the page. A glyph that is missing here may exist
    # on the machine where the page is read.
    with mpl.rc_context(mpl.rcParamsDefault), mpl.rc_context(_TYPE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        page = Page(figsize=size, layout="constrained")
        paint(page)
        page.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    texts = printable(caption), printable(note)
    return Drawing(_inlined(content.getvalue(), name, *texts), *texts)


def line_style(k: int) -> dict[str, object]:
    """Return colour, dash and marker of the k-th line."""
    style = {"color": LINES[k % len(LINES)], "linestyle": _DASHES[k % len(_DASHES)]}
    return style | {"marker": _MARKERS[k % len(_MARKERS)], "linewidth": 1.6}


def dressed(axes: "Axes", x: str, y: str, grid: str = "both") -> None:
    """Label the axes and remove ticks and frames."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=PALE, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#A9B2BC")


def _inlined(content: bytes, name: str, caption: str, note: str) -> Markup:
    """Return the SVG without namespaces, with unique ids, a title and a description."""
    # Many figures share a page, so their ids and references get the name of the figure.
    root = ElementTree.fromstring(content)
    for element in root.iter():
        element.tag = _local(element.tag)
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            if _local(key) == "id":
                value = f"{name}-{value}"
            elif _local(key) == "href":
                value = value.replace("#", f"#{name}-", 1)
            element.set(_local(key), value.replace("url(#", f"url(#{name}-"))
    for element in root.findall("metadata"):
        root.remove(element)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    # Title and description, for screen readers.
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    for at, (tag, words) in enumerate((("title", caption), ("desc", note))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(at, element)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    return name.rpartition("}")[2]
