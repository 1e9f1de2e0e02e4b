"""Contact sheets: radiographs on a page, with synthetic ones marked."""

import textwrap
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patheffects import withStroke

from causalcxr.common.errors import CohortError
from causalcxr.common.figure import Page
from causalcxr.images.resampling import Resampling
from causalcxr.images.synthetic_mark import MARK

__all__ = ["contact_sheet", "pairs"]

_PANEL = 1.35  # inches, the side of a radiograph
_GAP = 0.05
_LARGEST = 512  # pixels of a panel's longer side
_RED, _INK, _GREY = "#b3261e", "#1a1a1a", "#6a6a6a"
# The number of panels of a pair -> their names.
_PANELS = {
    3: ("factual", "counterfactual twin", "difference"),
    4: ("factual", "true twin", "counterfactual twin", "difference"),
}


def pairs(
    factual: np.ndarray,
    twin: np.ndarray,
    records: Sequence[str],
    path: str | Path | None = None,
    *,
    changes: Sequence[str] | None = None,
    synthetic: tuple[Sequence[bool], Sequence[bool]] | None = None,
    true: np.ndarray | None = None,
) -> Page:
    """Draw factual | twin | difference for n records on one page.

    Differences are twin minus factual, on one symmetric scale for the page: red where the twin is
    brighter, blue where it is darker. With true twins a cell is factual | true twin | twin |
    difference.

    Args:
        factual: Shape (n, 1, H, W), between 0 and 1.
        twin: Shape (n, 1, H, W), between 0 and 1.
        records: The name of each record, shape (n,).
        path: A file to write the picture to, PNG.
        changes: The changes of each record, shown below its name.
        synthetic: Which factual images and which twins are marked as synthetic; by default every
            twin. If any is, the header of the page has the mark, too.
        true: The true twins, of the same shape; they are marked as synthetic.

    Raises:
        CohortError: If there is nothing to draw, or the shapes differ.
    """
    factual, twin = _planes(factual), _planes(twin)
    shown = [factual, twin] if true is None else [factual, _planes(true), twin]
    shapes = [images.shape for images in shown]
    if len(set(shapes)) > 1 or len(records) != len(factual):
        raise CohortError(
            f"cannot pair images of shapes {' and '.join(map(str, shapes))} "
            f"with {len(records)} captions"
        )
    difference = twin - factual
    # Outliers do not set the scale, and tiny differences stay pale.
    scale = max(float(np.quantile(np.abs(difference), 0.999)), 0.02)
    # About four rows, in at most three columns; two if the cells are wider.
    columns = min(3 if true is None else 2, ceil(len(factual) / 4))
    first, last = ([False] * len(twin), [True] * len(twin)) if synthetic is None else synthetic
    marks = [first, last] if true is None else [first, [True] * len(twin), last]
    panels = len(shown) + 1
    page = _Page(len(factual), columns, panels, factual.shape[1:], caption=0.42, header=0.62)
    _draw_header(page, columns, _PANELS[panels], marked=bool(np.any(marks)))
    for k, record in enumerate(records):
        page.caption(k, str(record), "" if changes is None else str(changes[k]))
        for panel, (images, is_marked) in enumerate(zip(shown, marks, strict=True)):
            page.show(k, panel, images[k], marked=bool(is_marked[k]))
        page.show(k, panels - 1, difference[k], cmap="RdBu_r", vmin=-scale, vmax=scale)
    page.colour_bar(scale)
    return page.finished(path)


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    columns: int = 6,
    path: str | Path | None = None,
    *,
    synthetic: bool | Sequence[bool] = True,
) -> Page:
    """Draw n radiographs in a grid, a caption above each.

    Args:
        images: Shape (n, 1, H, W), between 0 and 1.
        captions: Shape (n,).
        columns: The number of columns.
        path: A file to write the picture to, PNG.
        synthetic: Whether the images are marked as synthetic: one value for all or one each. Only
            real radiographs have no mark.

    Raises:
        CohortError: If there is nothing to draw, or captions and images differ in number.
    """
    images = _planes(images)
    if len(captions) != len(images) or columns < 1:
        raise CohortError(
            f"{len(images)} images, {len(captions)} captions and {columns} columns do not fit"
        )
    columns = min(columns, len(images))
    marks = [synthetic] * len(images) if isinstance(synthetic, bool) else list(synthetic)
    page = _Page(len(images), columns, 1, images.shape[1:], caption=0.34, header=0.34)
    for k, caption in enumerate(captions):
        page.caption(k, "", str(caption))
        page.show(k, 0, images[k], marked=bool(marks[k]))
    if any(marks):
        page.write(page.left, page.height - 0.2, MARK, color=_RED, weight="bold", size=7)
    return page.finished(path)


class _Page:
    """The layout of n cells with some panels each, in inches from the lower left."""

    def __init__(
        self, n: int, columns: int, panels: int, shape: tuple, caption: float, header: float
    ) -> None:
        # The page grows with its panels, so that all have the same size.
        self.columns, self.panels, self.top = columns, panels, header
        self.left, self.bottom, self.captions = 0.2, 0.42 if panels > 1 else 0.12, caption
        self.between = 0.28 if panels > 1 else 0.12
        self.panel = (_PANEL, _PANEL * shape[0] / shape[1])
        self.cell = panels * _PANEL + (panels - 1) * _GAP
        self.pitch = self.panel[1] + caption + 0.08
        self.width = max(2 * self.left + columns * self.cell + (columns - 1) * self.between, 2.6)
        self.height = header + ceil(n / columns) * self.pitch + self.bottom
        # The user's style does not apply: the mark must stay legible.
        with mpl.rc_context(mpl.rcParamsDefault):
            self.figure = Page(figsize=(self.width, self.height), dpi=150, facecolor="white")
        FigureCanvasAgg(self.figure)

    def corner(self, k: int) -> tuple[float, float]:
        """Return the lower left corner of cell k."""
        row, column = divmod(k, self.columns)
        x = self.left + column * (self.cell + self.between)
        return x, self.height - self.top - (row + 1) * self.pitch + 0.08

    def write(self, x: float, y: float, text: str, **style: object) -> None:
        """Write a text at a place in inches; `$` is a dollar sign, not mathematics."""
        style = {"size": 6.5, "color": _INK, "va": "baseline", "parse_math": False, **style}
        self.figure.text(x / self.width, y / self.height, text, **style)

    def caption(self, k: int, name: str, text: str) -> None:
        """Write a cell's name in bold, and at most two lines of text below it."""
        x, y = self.corner(k)
        y += self.panel[1]
        characters = max(int(self.cell * 19), 8)
        lines = textwrap.wrap(text, characters, max_lines=2, placeholder=" …")
        if name:
            shown = textwrap.shorten(name, characters, placeholder="…") or name[:characters]
            self.write(x, y + 0.27, shown, weight="bold", size=7)
        self.write(x, y + 0.14, "\n".join(lines), va="center", linespacing=1.15)

    def show(
        self, k: int, panel: int, image: np.ndarray, *, marked: bool = False, **style: object
    ) -> None:
        """Draw one panel of a cell."""
        x, y = self.corner(k)
        x += panel * (_PANEL + _GAP)
        width, height = self.panel
        box = (x / self.width, y / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        style = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "lanczos", **style}
        axes.imshow(_no_larger(image), aspect="auto", **style)
        if marked:
            # The outline keeps the mark legible on any background.
            outline = [withStroke(linewidth=1.1, foreground="black")]
            style = {"transform": axes.transAxes, "ha": "center", "size": 4.3, "weight": "bold"}
            axes.text(0.5, 0.025, MARK, color="white", path_effects=outline, **style)

    def colour_bar(self, scale: float) -> None:
        """Draw the scale of the differences at the bottom of the page."""
        width = 1.5
        x = self.width - self.left - width - 0.12
        box = (x / self.width, 0.24 / self.height, width / self.width, 0.07 / self.height)
        axes = self.figure.add_axes(box)
        colours = ScalarMappable(Normalize(-scale, scale), cmap="RdBu_r")
        bar = self.figure.colorbar(colours, cax=axes, orientation="horizontal")
        bar.set_ticks([-scale, 0, scale], labels=[f"−{scale:.2f}", "0", f"+{scale:.2f}"])
        bar.ax.tick_params(labelsize=5.5, length=2, pad=1.5, color=_GREY, labelcolor=_GREY)
        bar.outline.set_linewidth(0.3)
        note = "difference: red where the twin is brighter"
        self.write(self.left, 0.23, note, color=_GREY, size=6)

    def finished(self, path: str | Path | None) -> Page:
        """Return the figure, and write it to a file if a path is given."""
        return self.figure.written(path)


def _draw_header(page: _Page, columns: int, panels: Sequence[str], *, marked: bool) -> None:
    """Write the title of the page, and the names of the panels above each column."""
    page.write(page.left, page.height - 0.27, "Counterfactual radiographs", weight="bold", size=9)
    if marked:
        place = (page.width - page.left, page.height - 0.27)
        page.write(*place, MARK, color=_RED, weight="bold", size=7, ha="right")
    for column in range(columns):
        x, _ = page.corner(column)
        for panel, name in enumerate(panels):
            place = x + panel * (_PANEL + _GAP) + _PANEL / 2
            page.write(place, page.height - 0.5, name, color=_GREY, ha="center", size=6)


def _no_larger(image: np.ndarray) -> np.ndarray:
    """Return an image as it is, or shrunk to the most pixels that a panel needs."""
    scale = max(image.shape) / _LARGEST
    if scale <= 1:
        return image
    size = tuple(max(1, round(side / scale)) for side in image.shape)
    return Resampling(image.shape, size).shrink(image[None])[0]


def _planes(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images, dtype=np.float32)
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if images.ndim != 3 or not images.size:
        raise CohortError(f"cannot draw images of shape {images.shape}; expected (n, 1, H, W)")
    return images
