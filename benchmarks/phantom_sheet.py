"""Two pictures for the documentation: phantoms next to patients, and each finding alone.

    python -m benchmarks phantom_sheet

`docs/phantom.png`: radiographs of ChestX-ray14, each with the phantom of that data set that has
the same sex, view and presence of findings and is nearest in age. Of each sex and view, the
patients at three quantiles of age are shown, so the choice is not made by hand.
`docs/phantom-findings.png`: the first man aged 30 to 60 with a PA radiograph, without any finding
and with each finding alone, and the pixels that the finding changes.
The environment variable CAUSALCXR_SHEETS can name another folder.
"""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke

from benchmarks import Row
from benchmarks.fit_nih import data_folder
from causalcxr import Cohort, do
from causalcxr.common.figure import Page
from causalcxr.common.files import atomic_write
from causalcxr.images.contact_sheet import MARK
from causalcxr.sources.phantom import truth
from causalcxr.sources.phantom.tables import FINDINGS

__all__ = ["main"]

_SIDE = 128
_AGES = (0.1, 0.5, 0.9)  # quantiles of age, of the patients of one sex and view
_PANEL, _GAP, _MARGIN, _HEAD = 1.35, 0.05, 0.15, 0.55  # inches
_INK, _GREY, _RED = "#1a1a1a", "#6a6a6a", "#b3261e"


class _Sheet:
    """A page with panels at positions in inches from the upper left."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self.page = Page(figsize=(width, height), dpi=150, facecolor="white")
        FigureCanvasAgg(self.page)
        self.write(_MARGIN, 0.25, title, weight="bold", size=9)
        position = width - _MARGIN
        self.write(position, 0.25, MARK, color=_RED, weight="bold", size=7, ha="right")

    def write(self, x: float, y: float, text: str, **style: object) -> None:
        style = {"size": 6.5, "color": _INK, "va": "baseline", **style}
        self.page.text(x / self.width, 1 - y / self.height, text, **style)

    def show(
        self,
        x: float,
        y: float,
        image: np.ndarray,
        *,
        marked: bool,
        mask: np.ndarray | None = None,
    ) -> None:
        """Draw an image (H, W), with the synthetic mark if `marked`, and a mask's outline."""
        box = (x / self.width, 1 - (y + _PANEL) / self.height)
        axes = self.page.add_axes((*box, _PANEL / self.width, _PANEL / self.height))
        axes.set_axis_off()
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
        if mask is not None and mask.any():
            axes.contour(mask.astype(float), [0.5], colors="#ff5a4d", linewidths=0.7)
        if marked:
            style = {"transform": axes.transAxes, "ha": "center", "size": 4.3, "weight": "bold"}
            outline = [withStroke(linewidth=1.1, foreground="black")]
            axes.text(0.5, 0.025, MARK, color="white", path_effects=outline, **style)


def _spread(nih: Cohort) -> list[str]:
    """Return patients of both views and sexes at the quantiles of age."""
    table, result = nih.table, []
    for quantile, view, sex in product(_AGES, ("PA", "AP"), ("F", "M")):
        group = table[(table["View"] == view) & (table["Sex"] == sex)].dropna(subset="Age")
        ranked = group.sort_values("Age", kind="stable").index
        result.append(ranked[int(quantile * (len(ranked) - 1))])
    return result


def _partners(real: pd.DataFrame, phantoms: pd.DataFrame) -> list[int]:
    """Return for each patient the most similar phantom; no phantom is used twice."""
    result: list[int] = []
    for _, patient in real.iterrows():
        free = phantoms.drop(result)
        for name in ("Dataset", "Sex", "View", "No Finding"):
            free = free[free[name] == patient[name]]
        result.append((free["Age"] - patient["Age"]).abs().idxmin())
    return result


def _beside_patients() -> Page:
    """Draw three rows of four pairs: phantom, patient."""
    nih = Cohort.load(data_folder() / "nih", size=_SIDE).with_images_only()
    real = nih.at(_spread(nih))
    pool = Cohort.load("phantom", n=30_000, seed=4, size=_SIDE)
    phantoms = pool.at(np.array(_partners(real.table, pool.table)))
    columns = 4
    pitch, row = 2 * _PANEL + _GAP + 0.2, _PANEL + 0.3
    width = 2 * _MARGIN + columns * pitch - 0.2
    title = "Phantoms and patients of the same sex, view and presence of findings, nearest in age"
    height = _HEAD + len(_AGES) * row + 0.25
    sheet = _Sheet(width, height, title)
    credit = "Radiographs: NIH Clinical Center, ChestX-ray14. Phantoms: synthetic."
    sheet.write(_MARGIN, height - 0.1, credit, color=_GREY)
    tables, images = (phantoms.table, real.table), (phantoms.images[:], real.images[:])
    for k in range(len(real)):
        x, y = _MARGIN + k % columns * pitch, _HEAD + k // columns * row
        for j, name in enumerate(("phantom", "NIH")):
            position = x + j * (_PANEL + _GAP)
            if k < columns:
                style = {"color": _GREY, "ha": "center", "size": 7, "weight": "bold"}
                sheet.write(position + _PANEL / 2, _HEAD - 0.12, name, **style)
            record = tables[j].iloc[k]
            text = f"{record['View']}, {record['Sex']}, {record['Age']:.0f} years"
            sheet.write(
                position, y + 0.13, text + ("" if record["No Finding"] == "P" else ", findings")
            )
            sheet.show(position, y + 0.18, images[j][k, 0], marked=name == "phantom")
    return sheet.page


def _with_findings(cohort: Cohort, findings: Sequence[str]) -> Cohort:
    """Return the true twins that have these findings and no others."""
    return truth(cohort, do({name: "P" if name in findings else "N" for name in FINDINGS}))


def _every_finding() -> Page:
    """Draw a healthy man, and in each block his true twin with one finding."""
    pool = Cohort.load("phantom", n=500, seed=0, size=2 * _SIDE)
    man = pool.select("Sex == 'M' and View == 'PA' and 30 <= Age <= 60").head(1)
    shown = {name: [name] for name in FINDINGS} | {"all findings": list(FINDINGS)}
    columns, rows = 7, ("without", "with", "where")
    pitch, block = _PANEL + 0.08, len(rows) * (_PANEL + _GAP) + 0.35
    left = _MARGIN + 0.25
    blocks = -(-len(shown) // columns)
    width, height = left + columns * pitch + _MARGIN, 0.4 + blocks * block + 0.05
    sheet = _Sheet(width, height, "One phantom, each finding alone, and the pixels it changes")
    without = _with_findings(man, []).images[0][0, 0]
    for k, (name, findings) in enumerate(shown.items()):
        x, y = left + k % columns * pitch, 0.4 + k // columns * block
        twin = _with_findings(man, findings)
        where = [twin.images.masks(finding)[0, 0] for finding in findings]
        sheet.write(x, y + 0.18, name, weight="bold", size=6)
        image = twin.images[0][0, 0]
        panels = ((without, None), (image, None), (image, np.any(where, axis=0)))
        for j, (picture, mask) in enumerate(panels):
            position = y + 0.25 + j * (_PANEL + _GAP)
            sheet.show(x, position, picture, marked=True, mask=mask)
            if k % columns == 0:
                style = {"rotation": 90, "color": _GREY, "va": "center", "ha": "right", "size": 7}
                sheet.write(x - 0.08, position + _PANEL / 2, rows[j], **style)
    return sheet.page


def main(quick: bool = False) -> list[Row]:
    """Write both pictures, or a note if the real data are missing; `quick` has no effect."""
    folder = Path(os.environ.get("CAUSALCXR_SHEETS", Path(__file__).parents[1] / "docs"))
    path = atomic_write(folder / "phantom-findings.png", _every_finding().png())
    rows: list[Row] = [{"picture": str(path)}]
    if not (data_folder() / "nih").is_dir():
        return [*rows, {"picture": "phantom.png: skipped, no NIH data (CAUSALCXR_DATA)"}]
    return [
        *rows,
        {"picture": str(atomic_write(folder / "phantom.png", _beside_patients().png()))},
    ]
