"""The parts of the graph page that change, as HTML; names and values are escaped."""

from collections.abc import Iterable
from html import escape

import pandas as pd

from causalcxr.apps.explorer.graph_charts import effect_chart, likelihood_chart
from causalcxr.apps.explorer.graph_session import COMPARED, EffectComparison
from causalcxr.apps.explorer.held_out_likelihood import HeldOutLikelihood
from causalcxr.apps.explorer.retraining import Retraining, RetrainingPlan, Step
from causalcxr.graph.graph import Graph

__all__ = [
    "effect_html",
    "held_out_html",
    "options_html",
    "parents_html",
    "plan_html",
    "progress_html",
    "warning_html",
]

_SPLITS = {
    "test": "test records, which were not used for training or early stopping",
    "val": "validation records, which were used for early stopping but not for training",
}


def options_html(names: Iterable[str], chosen: str | None, blank: str = "") -> str:
    """Return the options of a selection list."""
    first = [f'<option value=""{_selected(not chosen)}>{escape(blank)}</option>'] if blank else []
    rest = [
        f'<option value="{_attribute(name)}"{_selected(name == chosen)}>{escape(name)}</option>'
        for name in names
    ]
    return "".join(first + rest)


def warning_html(text: str) -> str:
    """Return one line in a box, or nothing."""
    return f'<p class="cx-warn">{escape(text)}</p>' if text else ""


def parents_html(graph: Graph, child: str | None) -> str:
    """Return the parents of the chosen child, each a button that removes its edge."""
    if child is None:
        return '<p class="cx-note">Choose a child to see its causes.</p>'
    parents = graph.parents(child)
    buttons = "".join(
        f'<button type="button" class="cx-button" data-parent="{_attribute(parent)}" '
        f'aria-label="Remove the edge {_attribute(parent)} to {_attribute(child)}">'
        f'{escape(parent)} <span aria-hidden="true">✕</span></button>'
        for parent in parents
    )
    none = "" if parents else '<span class="cx-note">none: this is a root</span>'
    return (
        f'<p class="cx-note">Causes of {escape(child)}{" (press to remove)" * bool(parents)}:</p>'
        f'<div class="cx-row graph-chips">{buttons}{none}</div>'
    )


def plan_html(plan: RetrainingPlan, done: bool = False) -> str:
    """Return which equations are or would be retrained and why, and how many are kept."""
    if not (plan.retrain or plan.image):
        return (
            "<p>Nothing to retrain: the graph is that of the model.</p>"
            f'<p class="cx-note">kept: {len(plan.kept)}</p>'
        )
    # Names come from users' graphs, so everything is escaped.
    items = "".join(
        f"<li><strong>{escape(name)}</strong> ({_why(why)})</li>"
        for name, why in plan.retrain.items()
    )
    listed = (
        f"<p>{'retrained' if done else 'would retrain'}:</p><ul class='graph-list'>{items}</ul>"
        if items
        else ""
    )
    # The image's equation is reported, but never retrained here.
    image = ""
    if plan.image:
        why = plan.image.replace("->", "→")
        image = warning_html(
            f"The image's equation would have to be retrained too ({why}). This takes hours on a "
            "GPU and is not done here: the new model has tables only, no images."
        )
    return f'{image}{listed}<p class="cx-note">kept: {len(plan.kept)}</p>'


def progress_html(job: Retraining) -> str:
    """Return the progress of each equation."""
    rows = "".join(_progress(name, job.steps.get(name)) for name in job.plan.retrain)
    return f'<ul class="graph-list graph-progress">{rows}</ul>'


def held_out_html(likelihood: HeldOutLikelihood) -> str:
    """Return the held-out likelihood of the changed equations, as picture and table."""
    table = likelihood.table
    if table.empty or not likelihood.records:
        why = "no held-out records" if not likelihood.records else "no equation was retrained"
        return f'<p class="cx-note">There is nothing to compare here: {why}.</p>'
    head = ["equation", "before", "after", "after − before", "values"]
    rows = [
        [
            name,
            _number(row["before"]),
            _number(row["after"]),
            f"{row['difference']:+.4f} ± {1.96 * row['error']:.4f}",
            f"{row['n']:.0f}",
        ]
        for name, row in table.iterrows()
    ]
    # A value of probability zero has no finite log-likelihood; it is counted instead.
    impossible = [
        f"{name}: {row['impossible_before']:.0f} values were impossible before, "
        f"{row['impossible_after']:.0f} are impossible now; they are left out."
        for name, row in table.iterrows()
        if row["impossible_before"] or row["impossible_after"]
    ]
    return (
        f'<p class="cx-note">Mean log-likelihood per value (nats), of {likelihood.records:,} '
        f"{_SPLITS[likelihood.split]}. ± gives a 95 % interval of the difference; if it contains "
        f"0, these records show no difference.</p>"
        f"{likelihood_chart(table)}{_table(head, rows)}"
        f"{''.join(warning_html(line) for line in impossible)}"
    )


def effect_html(effect: EffectComparison) -> str:
    """Return the effect of an intervention before and after, as picture and table."""
    # What was set differs by definition.
    table = effect.comparison.table.drop(index=list(effect.names), errors="ignore")
    changed = table[["changed_before", "changed_after", "differ"]].fillna(0.0).max(axis=1) > 0
    # The largest disagreement between the models comes first.
    rows = table[changed].sort_values("differ", ascending=False, kind="stable")
    count = len(effect.comparison.twins)
    unchanged = f"{(~changed).sum()} variables change under neither model."
    note = (
        f'<p class="cx-note">Twins of {count:,} patients under {escape(effect.action)}, from both '
        f"models with the same random numbers (at most {COMPARED:,} patients). "
        f"{'' if changed.all() else unchanged}</p>"
    )
    if rows.empty:
        return f"{note}<p>No other variable changes, before or after.</p>"
    head = ["variable", "changed before", "changed after", "models differ", "how"]
    cells = [
        [
            str(name),
            f"{row['changed_before']:.1%}",
            f"{row['changed_after']:.1%}",
            f"{row['differ']:.1%}",
            _how(row),
        ]
        for name, row in rows.iterrows()
    ]
    return f"{note}{effect_chart(rows)}{_table(head, cells)}"


def _how(row: pd.Series) -> str:
    shift = row["mean_shift"]
    return (
        f"mean shift {shift:+.3g}"
        if pd.notna(shift) and row["differ"]
        else str(row["what"]).replace("->", "→")
    )


def _why(reason: str) -> str:
    return escape(reason.replace("->", "→"))


def _progress(name: str, step: Step | None) -> str:
    if step is None:
        words, bar = "waiting", ""
    elif step.done:
        words, bar = "ready", '<progress max="1" value="1" aria-hidden="true"></progress>'
    elif not step.epoch:
        words, bar = "starting", '<progress max="1" value="0" aria-hidden="true"></progress>'
    else:
        words = f"epoch {step.epoch} of at most {step.epochs}, validation loss {step.loss:.4f}"
        bar = f'<progress max="{step.epochs}" value="{step.epoch}" aria-hidden="true"></progress>'
    return f"<li><strong>{escape(name)}</strong> {bar}<span>{words}</span></li>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    # Columns 2 to 4 are figures, aligned to the right.
    kinds = ["", *[' class="number"' for _ in head[1:4]]]
    kinds += [""] * (len(head) - len(kinds))
    titles = "".join(
        f'<th scope="col"{k}>{escape(h)}</th>' for h, k in zip(head, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td{k}>{escape(c)}</td>" for c, k in zip(rest, kinds[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="cx-scroll" tabindex="0" role="region" aria-label="Table">'
        f'<table class="cx-table"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _number(value: float) -> str:
    return "none" if pd.isna(value) else f"{value:.4f}"


def _attribute(text: str) -> str:
    return escape(text, quote=True)


def _selected(whether: bool) -> str:
    return " selected" if whether else ""
