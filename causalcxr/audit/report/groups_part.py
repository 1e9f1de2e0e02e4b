"""The parts of the report about groups of records: gaps, measures, ROC and reliability curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.audit.intervals import wilson
from causalcxr.audit.measures import MEASURES
from causalcxr.audit.report.forest_plot import Forest, Mark, Row, forest
from causalcxr.audit.report.formatting import number, shortened
from causalcxr.audit.report.svg_figures import ALL, INK, Drawing, drawn, dressed, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalcxr.audit.group_measures import GroupMeasures

__all__ = ["MeasureTable", "curves", "gap_forests", "measure_tables", "unbalanced_columns"]

_GAPS = ("auroc", "tpr", "fpr", "ppv", "selection_rate", "calibration_debiased")
_THEMES = {
    "Ranking, and decisions at the common threshold": ("auroc", "tpr", "fpr", "underdiagnosis"),
    "Predictive values, and shares": (
        "ppv",
        "npv",
        "selection_rate",
        "prevalence",
    ),
    "Probabilities": ("brier", "ece", "calibration_debiased", "calibration_in_the_large"),
}
# Equal to the measure on the right, or to 1 minus it.
_SAME = {"tnr": "fpr", "fnr": "tpr", "underdiagnosis_no_finding": "fpr"}
_UNDER = "underdiagnosis_no_finding"
_FEW = 10  # records of a bin below which it is hollow
_STEP = 1 / 250  # of a ROC curve: a smaller one is not visible


@dataclass(frozen=True)
class MeasureTable:
    """Hold a table of a few measures.

    Args:
        title: Above the table.
        measures: Their names in words.
        rows: For each group its counts and, for each measure, the row of its figures.
    """

    title: str
    measures: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, Any], tuple[dict[str, Any] | None, ...]], ...]


def gap_forests(observed: "GroupMeasures | None", groups: pd.DataFrame) -> list[Forest]:
    """Return a forest plot a measure: the gaps to the reference level, observed and balanced.

    Args:
        observed: Measures of the groups, if there are labels.
        groups: A row a group, with its size.
    """
    if observed is None or not len(observed.gaps):
        return []
    sizes = groups.to_dict("index")
    balanced = {(r["group"], r["measure"]): r for r in observed.balanced.to_dict("records")}
    present = set(observed.gaps["measure"])
    forests = []
    for name in [n for n in _GAPS if n in present] or sorted(present):
        rows = []
        for gap in observed.gaps[observed.gaps["measure"] == name].to_dict("records"):
            group, reference = gap["group"], gap["reference"]
            size = sizes.get(group, {})
            # A gap is as uncertain as the smaller of its two groups.
            is_small = bool(size.get("few")) or bool(sizes.get(reference, {}).get("few"))
            marks = (_gap(gap), _gap(balanced.get((group, name))))
            counts = tuple(size.get(key) for key in ("n", "positives", "patients"))
            rows.append(Row(f"{group} minus {reference}", counts, is_small, marks))
        forests.append(forest(MEASURES[name].words, rows))
    return forests


def unbalanced_columns(observed: "GroupMeasures | None") -> list[tuple[str, str]]:
    """Return the columns whose groups could not be balanced, and why."""
    balances = {} if observed is None else observed.balances
    return [(name, reason) for name, reason in balances.items() if isinstance(reason, str)]


def measure_tables(
    observed: "GroupMeasures | None", groups: pd.DataFrame, label: str | None
) -> list[MeasureTable]:
    """Return the tables of measures by group.

    Args:
        observed: Measures of the groups, if there are labels.
        groups: A row a group, with its size.
        label: The variable that the classifier predicts.
    """
    if observed is None:
        return []
    rows = {(r["group"], r["measure"]): r for r in observed.table.to_dict("records")}
    return [
        MeasureTable(
            title,
            tuple(MEASURES[n].words for n in names),
            tuple(
                (group, size, tuple(rows.get((group, n)) for n in names))
                for group, size in groups.to_dict("index").items()
            ),
        )
        for title, names in _themes(list(dict.fromkeys(observed.table["measure"])), label).items()
        if names
    ]


def _themes(present: list[str], label: str | None) -> dict[str, list[str]]:
    """Return the measures of each table; a measure that another one implies is left out."""
    healthy = label == "No Finding"  # its positives are the healthy
    themes = {
        title: [_UNDER if n == "underdiagnosis" and healthy else n for n in names]
        for title, names in _THEMES.items()
    }
    themes = {title: [n for n in names if n in present] for title, names in themes.items()}
    listed = {n for names in themes.values() for n in names}
    rest = [n for n in present if n not in listed and _SAME.get(n) not in listed]
    return themes | {"Other measures": rest}


def curves(
    observed: "GroupMeasures | None", groups: pd.DataFrame, by: Sequence[str]
) -> list[tuple[str, Drawing | None, Drawing | None]]:
    """Return, for each column of groups, the ROC curves and the reliability diagrams.

    Args:
        observed: Measures of the groups, if there are labels.
        groups: A row a group, with its size.
        by: The columns.
    """
    if observed is None:
        return []
    drawings = []
    for k, column in enumerate(by or [None]):
        names = [n for n in observed.roc if n != "all" and column and n.startswith(f"{column}=")]
        title = f"by {shortened(column)}" if column else "of all records"
        labels = {name: _counted(groups, name) for name in ("all", *names)}
        roc = _roc(observed, labels, f"roc{k}", title)
        reliability = _reliability(observed, labels, f"rel{k}", title)
        if roc or reliability:
            drawings.append((title, roc, reliability))
    return drawings


def _gap(row: dict[str, Any] | None) -> Mark | None:
    return None if row is None else Mark(row["gap"], row["low"], row["high"])


def _counted(groups: pd.DataFrame, name: str) -> str:
    size = groups.loc[name]
    return f"{shortened(name)}, {size['positives']:,} of {size['n']:,} positive"


def _lines(
    frames: Mapping[str, pd.DataFrame], names: Sequence[str], columns: list[str]
) -> Iterator[tuple[str, pd.DataFrame, dict[str, object]]]:
    """Yield name, defined points and style of each line; "all" comes first."""
    for k, name in enumerate(names):
        points = frames[name].dropna(subset=columns)
        if len(points):
            is_background = name == "all" and len(names) > 1
            yield name, points, ALL if is_background else line_style(max(k - 1, 0))


def _roc(
    observed: "GroupMeasures", labels: Mapping[str, str], key: str, title: str
) -> Drawing | None:
    """Draw the ROC curves of some groups, each with the common threshold marked."""
    lines = list(_lines(observed.roc, list(labels), ["fpr", "tpr"]))
    if not lines:
        return None
    table = observed.table.set_index(["group", "measure"])["estimate"]

    def at(name: str, measure: str) -> float:
        return float(table.get((name, measure), np.nan))

    def paint(page: Any) -> None:
        axes = page.subplots()
        axes.plot([0, 1], [0, 1], color="#B9C1C9", linewidth=0.8)
        for name, points, style in lines:
            # Points that would not be visible apart are left out, which keeps the page small.
            some = _thinned(points)
            axes.plot(some["fpr"], some["tpr"], label=labels[name], **{**style, "marker": ""})
            dot = {"marker": style["marker"] or "o", "color": style["color"], "markersize": 8}
            axes.plot(at(name, "fpr"), at(name, "tpr"), **dot, mec="white", mew=1.2, zorder=4)
        _square(axes, "false positive rate", "sensitivity")
        page.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False)

    # The figures in words, for readers who cannot see the picture.
    notes = [
        f"{name}: AUROC {number(at(name, 'auroc'))}; at the threshold sensitivity "
        f"{number(at(name, 'tpr'))} and false positive rate {number(at(name, 'fpr'))}"
        for name, *_ in lines
    ]
    caption = (
        f"ROC curves {title}. The mark on each curve is the common threshold, "
        f"{number(observed.threshold)}."
    )
    return drawn(paint, key, caption=caption, note=". ".join(notes) + ".", size=(4.6, 4.4))


def _reliability(
    observed: "GroupMeasures", labels: Mapping[str, str], key: str, title: str
) -> Drawing | None:
    """Draw the reliability diagrams of some groups."""
    lines = list(_lines(observed.reliability, list(labels), ["score", "rate"]))
    if not lines:
        return None

    def paint(page: Any) -> None:
        axes = page.subplots()
        axes.plot([0, 1], [0, 1], color="#B9C1C9", linewidth=0.8)
        for name, points, style in lines:
            x, y = points["score"].to_numpy(float), points["rate"].to_numpy(float)
            axes.plot(x, y, markersize=5, label=labels[name], zorder=3, **style)
            # Bins of few records are hollow.
            hollow = points["records"].to_numpy(float) < _FEW
            marker = {"color": style["color"], "marker": style["marker"], "mfc": "white"}
            axes.plot(x[hollow], y[hollow], ls="", markersize=5, zorder=4, **marker)
            if name != "all" or len(labels) == 1:
                bounds = wilson(points["positives"], points["records"])
                axes.vlines(points["score"], bounds.low, bounds.high, style["color"], lw=0.9)
        _square(axes, "mean score in the bin", "share of positives in the bin")
        page.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False)

    notes = [
        f"{name}: "
        + ", ".join(
            f"score {number(p.score, 2)} observed {number(p.rate, 2)} ({p.records:,.0f} records)"
            for p in points.itertuples()
        )
        for name, points, _ in lines
    ]
    caption = (
        f"Reliability {title}: on the diagonal a score equals the share of positives. Vertical "
        f"lines are 95 % Wilson intervals; hollow bins hold fewer than {_FEW} records."
    )
    return drawn(paint, key, caption=caption, note=". ".join(notes) + ".", size=(4.6, 4.4))


def _square(axes: "Axes", x: str, y: str) -> None:
    dressed(axes, x, y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.tick_params(labelcolor=INK)


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a curve that look distinct, with both ends of each step."""
    steps = ((points["fpr"] + points["tpr"]) / _STEP).round().to_numpy()
    kept = np.r_[True, np.diff(steps) != 0]
    kept |= np.r_[np.diff(steps) != 0, True]
    return points[kept]
