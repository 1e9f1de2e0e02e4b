"""What the report tells of what is observed: gaps, measures by group, ROC, reliability."""

from collections.abc import Iterator
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

    from causalcxr.audit.audit_result import Audit
    from causalcxr.audit.group_measures import GroupMeasures

__all__ = ["MeasureTable", "curves", "gap_forests", "measure_tables", "warnings_of_balance"]

_GAPS = ("auroc", "tpr", "fpr", "ppv", "selection_rate", "calibration_debiased")
_THEMES = {
    "Ranking, and decisions at the common threshold": ("auroc", "tpr", "fpr", "underdiagnosis"),
    "What a call is worth, and how many are called": (
        "ppv",
        "npv",
        "selection_rate",
        "prevalence",
    ),
    "Probabilities": ("brier", "ece", "calibration_debiased", "calibration_in_the_large"),
}
_SAME = {"tnr": "fpr", "fnr": "tpr", "underdiagnosis_no_finding": "fpr"}  # or one less it
_UNDER = "underdiagnosis_no_finding"
_FEW = 10  # records of a bin below which it is hollow
_STEP = 1 / 250  # of a ROC curve: no eye sees a smaller one


@dataclass(frozen=True)
class MeasureTable:
    """Hold a table of a few measures.

    Args:
        title: Above.
        measures: Their names in words.
        rows: Of each group its counts and, for each measure, the row of the observed table.
    """

    title: str
    measures: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, Any], tuple[dict[str, Any] | None, ...]], ...]


def gap_forests(audit: "Audit") -> list[Forest]:
    """Return a forest plot a measure: each level less its reference, as observed and balanced."""
    seen, counts = audit.observed, audit.groups.to_dict("index")
    if seen is None or not len(seen.gaps):
        return []
    balanced = {(r["group"], r["measure"]): r for r in seen.balanced.to_dict("records")}
    there = set(seen.gaps["measure"])
    found = []
    for name in [n for n in _GAPS if n in there] or sorted(there):
        rows = []
        for gap in seen.gaps[seen.gaps["measure"] == name].to_dict("records"):
            group, reference = gap["group"], gap["reference"]
            about = counts.get(group, {})
            few = bool(about.get("few")) or bool(counts.get(reference, {}).get("few"))
            both = (_gap(gap), _gap(balanced.get((group, name))))
            three = tuple(about.get(key) for key in ("n", "positives", "patients"))
            rows.append(Row(f"{group} less {reference}", three, few, both))
        found.append(forest(MEASURES[name].words, rows))
    return found


def warnings_of_balance(seen: "GroupMeasures") -> list[tuple[str, str]]:
    """Return the columns in which groups could not be made alike, and why."""
    return [(name, made) for name, made in seen.balances.items() if isinstance(made, str)]


def measure_tables(audit: "Audit") -> list[MeasureTable]:
    """Return the tables of measures by group."""
    seen = audit.observed
    if seen is None:
        return []
    rows = {(r["group"], r["measure"]): r for r in seen.table.to_dict("records")}
    there = list(dict.fromkeys(seen.table["measure"]))
    ill = audit.about["label"] == "No Finding"  # whose positives are the healthy
    themes = {
        title: [_UNDER if n == "underdiagnosis" and ill else n for n in names]
        for title, names in _THEMES.items()
    }
    themes = {title: [n for n in names if n in there] for title, names in themes.items()}
    told = {n for names in themes.values() for n in names}
    rest = [n for n in there if n not in told and _SAME.get(n) not in told]
    themes |= {"Other measures": rest}
    return [
        MeasureTable(
            title,
            tuple(MEASURES[n].words for n in names),
            tuple(
                (group, about, tuple(rows.get((group, n)) for n in names))
                for group, about in audit.groups.to_dict("index").items()
            ),
        )
        for title, names in themes.items()
        if names
    ]


def curves(audit: "Audit") -> list[tuple[str, Drawing | None, Drawing | None]]:
    """Return, for each column of groups, the ROC curves and the reliability diagrams."""
    seen = audit.observed
    if seen is None:
        return []
    found = []
    for k, by in enumerate(audit.about["by"] or [None]):
        names = [n for n in seen.roc if n != "all" and by and n.startswith(f"{by}=")]
        title = f"by {shortened(by)}" if by else "of all records"
        pair = [_roc(audit, names, f"roc{k}", title), _reliable(audit, names, f"rel{k}", title)]
        found.append((title, *pair))
    return [each for each in found if each[1] or each[2]]


def _gap(row: dict[str, Any] | None) -> Mark | None:
    return None if row is None else Mark(row["gap"], row["low"], row["high"])


def _named(audit: "Audit", name: str) -> str:
    about = audit.groups.loc[name]
    return f"{shortened(name)}, {about['positives']:,} of {about['n']:,} positive"


def _lines(
    frames: dict[str, pd.DataFrame], names: list[str], columns: list[str]
) -> Iterator[tuple[str, pd.DataFrame, dict[str, object]]]:
    """Yield name, known points and style of each line that has any; all records come first."""
    for k, name in enumerate(["all", *names]):
        points = frames[name].dropna(subset=columns)
        if len(points):
            yield name, points, ALL if name == "all" and names else line_style(max(k - 1, 0))


def _roc(audit: "Audit", names: list[str], key: str, title: str) -> Drawing | None:
    seen = audit.observed
    lines = list(_lines(seen.roc, names, ["fpr", "tpr"]))
    if not lines:
        return None
    table = seen.table.set_index(["group", "measure"])["estimate"]

    def at(name: str, measure: str) -> float:
        return float(table.get((name, measure), np.nan))

    def paint(page: Any) -> None:
        axes = page.subplots()
        axes.plot([0, 1], [0, 1], color="#B9C1C9", linewidth=0.8)
        for name, points, style in lines:
            some = _thinned(points)
            plain = {**style, "marker": ""}
            axes.plot(some["fpr"], some["tpr"], label=_named(audit, name), **plain)
            dot = {"marker": style["marker"] or "o", "color": style["color"], "markersize": 8}
            axes.plot(at(name, "fpr"), at(name, "tpr"), **dot, mec="white", mew=1.2, zorder=4)
        _square(axes, "false positive rate", "sensitivity")
        page.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False)

    told = [
        f"{name}: AUROC {number(at(name, 'auroc'))}; at the threshold sensitivity "
        f"{number(at(name, 'tpr'))} and false positive rate {number(at(name, 'fpr'))}"
        for name, *_ in lines
    ]
    caption = (
        f"ROC curves {title}. The mark on each curve is the common threshold, "
        f"{number(seen.threshold)}."
    )
    return drawn(paint, key, caption=caption, note=". ".join(told) + ".", size=(4.6, 4.4))


def _reliable(audit: "Audit", names: list[str], key: str, title: str) -> Drawing | None:
    lines = list(_lines(audit.observed.reliability, names, ["score", "rate"]))
    if not lines:
        return None

    def paint(page: Any) -> None:
        axes = page.subplots()
        axes.plot([0, 1], [0, 1], color="#B9C1C9", linewidth=0.8)
        for name, points, style in lines:
            x, y = points["score"].to_numpy(float), points["rate"].to_numpy(float)
            axes.plot(x, y, markersize=5, label=_named(audit, name), zorder=3, **style)
            few = points["records"].to_numpy(float) < _FEW
            hollow = {"color": style["color"], "marker": style["marker"], "mfc": "white"}
            axes.plot(x[few], y[few], ls="", markersize=5, zorder=4, **hollow)
            if name != "all" or not names:
                bounds = wilson(points["positives"], points["records"])
                axes.vlines(points["score"], bounds.low, bounds.high, style["color"], lw=0.9)
        _square(axes, "mean score in the bin", "share of positives in the bin")
        page.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False)

    told = [
        f"{name}: "
        + ", ".join(
            f"score {number(p.score, 2)} observed {number(p.rate, 2)} ({p.records:,.0f} records)"
            for p in points.itertuples()
        )
        for name, points, _ in lines
    ]
    caption = (
        f"Reliability {title}: on the diagonal a score is the share of positives. Vertical lines "
        f"are 95 % Wilson intervals; hollow bins hold fewer than {_FEW} records."
    )
    return drawn(paint, key, caption=caption, note=". ".join(told) + ".", size=(4.6, 4.4))


def _square(axes: "Axes", x: str, y: str) -> None:
    dressed(axes, x, y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.tick_params(labelcolor=INK)


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a curve that an eye can tell apart, the corners' ends included."""
    way = ((points["fpr"] + points["tpr"]) / _STEP).round().to_numpy()
    kept = np.r_[True, np.diff(way) != 0]
    kept |= np.r_[np.diff(way) != 0, True]
    return points[kept]
