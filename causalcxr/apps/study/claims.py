"""The sentences of a study's report: its results, and what the design does not allow to claim."""

from causalcxr.apps.study.analysis import Analysis
from causalcxr.apps.study.share_tests import detectable

__all__ = ["claims", "limits"]


def claims(analysis: Analysis) -> list[str]:
    """Return the results, in one or two sentences each."""
    return [_progress(analysis), _chance(analysis), *_agreement(analysis), *_learning(analysis)]


def limits(analysis: Analysis) -> list[str]:
    """Return what the design does not allow to claim."""
    plan = analysis.plan
    n = len(plan.trials)
    pools = plan.about["pools"]
    height, width = plan.size
    sentences = [
        f"{_readers(analysis)} are not a sample of all readers. Each interval and test describes "
        "one reader over trials drawn from these pools; nothing is pooled over readers.",
        _power(n),
        f"The images come from two pools ({pools['real']['source']}: "
        f"{pools['real']['images']:,} real; {pools['synthetic']['source']}: "
        f"{pools['synthetic']['images']:,} synthetic), shown at {height} x {width} pixels in 8 "
        "bits. Radiographs at full resolution, and other models, may be easier to distinguish.",
        "An image that readers cannot distinguish from a real one is not thereby medically "
        "correct, or faithful to the patient it was made for.",
    ]
    # Pools whose images are of the other kind, as in a trial run with phantoms.
    sentences += [
        f"No image of the {name} pool is marked as {name}; the images only stand in for {name} "
        "ones."
        for name, pool in pools.items()
        if "marked_synthetic" in pool
        and pool["marked_synthetic"] == (pool["images"] if name == "real" else 0)
    ]
    if plan.match:
        sentences.append(
            f"The pools were matched by {', '.join(plan.match)} only. If they differ in anything "
            "else, such as age or disease, readers may have used that difference."
        )
    if plan.presentations > 1:
        sentences.append(
            "The presentations show the same trials, so they are not independent studies. A "
            "difference between them may be due to learning, memory of single images, or fatigue."
        )
    return sentences


def _progress(analysis: Analysis) -> str:
    n_answers = len(analysis.responses)
    design = (
        f"{len(analysis.plan.trials)} trials, {_times(analysis.plan.presentations)}, by "
        f"{_readers(analysis)}"
    )
    if n_answers == analysis.expected:
        return f"The study is complete: {design}, {n_answers:,} answers."
    return (
        f"The study is not complete: {n_answers:,} of {analysis.expected:,} answers ({design}). "
        "If these results decide when to stop, the p-values are too small."
    )


def _chance(analysis: Analysis) -> str:
    table = analysis.accuracy
    low, high = table["accuracy"].min(), table["accuracy"].max()
    # Adjusted p-values, as there is a test for every sitting.
    apart = table[table["p_holm"] < 0.05]
    span = f"Accuracy lies between {low:.2f} and {high:.2f}; chance is 0.50."
    if apart.empty:
        return (
            f"{span} In none of {len(table)} sittings does it differ from chance (exact test, 5 % "
            "after Holm's adjustment). This does not show that it is chance: see the intervals."
        )
    which = "; ".join(
        f"{row.reader}, presentation {row.presentation} ({row.accuracy:.2f}, from "
        f"{row.exact_low:.2f} to {row.exact_high:.2f})"
        for row in apart.itertuples()
    )
    return (
        f"{span} It differs from chance in {len(apart)} of {len(table)} sittings (exact test, 5 % "
        f"after Holm's adjustment): {which}."
    )


def _agreement(analysis: Analysis) -> list[str]:
    words = {
        "intra": "Between presentations, a reader's own answers agree",
        "inter": "Within a presentation, two readers agree",
    }
    sentences = []
    for kind, sentence in words.items():
        kappas = analysis.agreement.loc[analysis.agreement["kind"] == kind, "kappa"].dropna()
        if len(kappas):
            span = f"{kappas.min():.2f} to {kappas.max():.2f}"
            sentences.append(f"{sentence} with a kappa from {span}.")
    return sentences


def _learning(analysis: Analysis) -> list[str]:
    if analysis.learning.empty:
        return []
    significant = analysis.learning[analysis.learning["p_holm"] < 0.05]
    change = analysis.learning["difference"]
    span = f"{change.min():+.2f} to {change.max():+.2f}"
    sentence = f"From the first presentation to a later one, accuracy changes by {span}"
    if significant.empty:
        return [
            f"{sentence}; for no reader is the change significant (McNemar's exact test, Holm)."
        ]
    readers = ", ".join(significant["reader"].unique())
    return [f"{sentence}; the change is significant for {readers} (McNemar's exact test, Holm)."]


def _power(n: int) -> str:
    least = detectable(n)
    if least != least:
        return f"With {n} trials the exact test cannot detect any accuracy above chance."
    return (
        f"With {n} trials the exact test of one reader detects an accuracy of {least:.2f} or more "
        "in four studies out of five; lower accuracies often remain undetected."
    )


def _readers(analysis: Analysis) -> str:
    k = len(analysis.plan.readers)
    return f"{k} reader{'s' if k > 1 else ''}"


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")
