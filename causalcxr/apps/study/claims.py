"""What a study's report says in sentences: what was found, and no more than its design allows."""

from causalcxr.apps.study.analyse import Analysis
from causalcxr.apps.study.intervals import detectable

__all__ = ["claims", "limits"]


def claims(found: Analysis) -> list[str]:
    """Return what was found, one sentence or two each."""
    return [_progress(found), _chance(found), *_agreement(found), *_learning(found)]


def limits(found: Analysis) -> list[str]:
    """Return what the design does not allow to say."""
    plan = found.plan
    n = len(plan.trials)
    pools = plan.about["pools"]
    height, width = plan.size
    told = [
        f"{_readers(found)} are no sample of all readers. Each interval and test is of one reader "
        "over trials as they might be drawn from these pools; nothing is pooled over readers.",
        _power(n),
        f"The images stand for two pools ({pools['real']['source']}: "
        f"{pools['real']['images']:,} real; {pools['synthetic']['source']}: "
        f"{pools['synthetic']['images']:,} synthetic), shown at {height} x {width} pixels in 8 "
        "bits. Real films at full resolution, and other models, may be told apart more easily.",
        "That a reader cannot tell an image from a real one does not make it medically right, nor "
        "faithful to the patient it was made for.",
    ]
    told += [
        f"No image of the {name} pool is {name} by its own mark; they stand in for {name} ones."
        for name, pool in pools.items()
        if "marked_synthetic" in pool
        and pool["marked_synthetic"] == (pool["images"] if name == "real" else 0)
    ]
    if plan.match:
        told.append(
            f"The pools were matched by {', '.join(plan.match)} alone. Where they differ in "
            "anything else, such as age or disease, a reader may have used that."
        )
    if plan.presentations > 1:
        told.append(
            "The presentations show the same trials, so that they are no independent studies. A "
            "difference between them can be learning, memory of single images, or fatigue."
        )
    return told


def _progress(found: Analysis) -> str:
    given = len(found.responses)
    asked = (
        f"{len(found.plan.trials)} trials, {_times(found.plan.presentations)}, by "
        f"{_readers(found)}"
    )
    if given == found.expected:
        return f"The study is complete: {asked}, {given:,} answers."
    return (
        f"The study is not complete: {given:,} of {found.expected:,} answers ({asked}). Who looks "
        "before the end, and then decides when to stop, makes the p-values too small."
    )


def _chance(found: Analysis) -> str:
    table = found.accuracy
    low, high = table["accuracy"].min(), table["accuracy"].max()
    apart = table[table["p_holm"] < 0.05]
    span = f"Accuracy lies between {low:.2f} and {high:.2f}; chance is 0.50."
    if apart.empty:
        return (
            f"{span} In none of {len(table)} sittings is it told from chance (exact test, 5 % "
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


def _agreement(found: Analysis) -> list[str]:
    words = {
        "intra": "Between presentations, a reader's own answers agree",
        "inter": "Within a presentation, two readers agree",
    }
    told = []
    for kind, sentence in words.items():
        kappas = found.agreement.loc[found.agreement["kind"] == kind, "kappa"].dropna()
        if len(kappas):
            told.append(f"{sentence} with a kappa from {kappas.min():.2f} to {kappas.max():.2f}.")
    return told


def _learning(found: Analysis) -> list[str]:
    if found.learning.empty:
        return []
    moved = found.learning[found.learning["p_holm"] < 0.05]
    span = (
        f"{found.learning['difference'].min():+.2f} to {found.learning['difference'].max():+.2f}"
    )
    told = f"From the first presentation to a later one, accuracy changes by {span}"
    if moved.empty:
        return [f"{told}; for no reader is this told from no change (McNemar's exact test, Holm)."]
    return [f"{told}; told from no change for {', '.join(moved['reader'].unique())}."]


def _power(n: int) -> str:
    least = detectable(n)
    if least != least:
        return f"{n} trials are too few for the exact test to tell any accuracy from chance."
    return (
        f"With {n} trials the exact test of one reader tells an accuracy of {least:.2f} or more "
        "from chance in four studies of five; a smaller ability often stays unseen."
    )


def _readers(found: Analysis) -> str:
    k = len(found.plan.readers)
    return f"{k} reader{'s' if k > 1 else ''}"


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")
