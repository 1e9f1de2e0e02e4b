"""The audit on the command line: pairs, audit, stress, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import (
    BeyondRange,
    Do,
    Hold,
    Limit,
    Model,
    Out,
    Overwrite,
    Seed,
    Spec,
    Split,
    Where,
    Words,
)

__all__ = ["VERBS", "audit", "evaluate", "pairs", "stress"]

Label = Annotated[str, typer.Option(help="The variable that the classifier predicts.")]
By = Annotated[Words, typer.Option(help="A column whose levels are groups; several times.")]
Scorer = Annotated[
    str,
    typer.Argument(
        metavar="CLASSIFIER",
        show_default=False,
        help="A .csv of scores (record, score; world tells twins apart), or MODULE:NAME "
        "or FILE.py:NAME of a function of images (n, 1, H, W), a torch module or an estimator.",
    ),
]
Outputs = Annotated[str, typer.Option(metavar="probability|logit", help="What it returns.")]
Threshold = Annotated[
    str, typer.Option(help="A number, youden, sensitivity=.9, specificity=.9 or fpr=.1.")
]
Validation = Annotated[
    str, typer.Option(metavar="COHORT", help="Other patients, on whom the threshold is chosen.")
]
Reader = Annotated[
    str,
    typer.Option(
        metavar="COHORT",
        help="Other records with images, which teach an independent reader of attributes.",
    ),
]
Bootstrap = Annotated[int, typer.Option(help="Draws of patients.")]


def pairs(
    model: Model,
    cohort: Spec,
    out: Out,
    do: Do = None,
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Annotated[
        int, typer.Option(help="Posterior draws a record; 3 tell how they vary.")
    ] = 1,
    reader: Reader = "",
    beyond_range: BeyondRange = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make factual, twin and null images of a cohort, and judge each pair."""
    from causalcxr.apps.cli.audit_jobs import pairs_job
    from causalcxr.cohort.selection import Selection

    records = Selection(cohort, where, split, limit)
    pairs_job(
        model,
        records,
        do or [],
        out,
        hold=hold or [],
        draws=draws,
        reader=reader,
        beyond_range=beyond_range,
        seed=seed,
        overwrite=overwrite,
    )


def audit(
    pairs: Annotated[Path, typer.Argument(help="A folder of pairs.", show_default=False)],
    classifier: Scorer,
    out: Out,
    label: Label = "",
    by: By = None,
    threshold: Threshold = "",
    validation: Validation = "",
    primary: Annotated[
        Words, typer.Option(help="A declared hypothesis, such as 'effect: all'; several times.")
    ] = None,
    outputs: Outputs = "probability",
    bootstrap: Bootstrap = 2000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Audit a classifier on pairs: a report to read, tables as .csv, all of it as JSON."""
    from causalcxr.apps.cli.audit_jobs import audit_job

    audit_job(
        pairs,
        classifier,
        out,
        label=label,
        by=by or [],
        threshold=threshold,
        validation=validation,
        primaries=primary,
        outputs=outputs,
        bootstrap=bootstrap,
        seed=seed,
        overwrite=overwrite,
    )


def stress(
    model: Model,
    cohort: Spec,
    classifier: Scorer,
    out: Out,
    label: Label,
    do: Annotated[
        Words,
        typer.Option(
            "--do", metavar="NAME=VALUE", help="A shift by an intervention; each stands alone."
        ),
    ] = None,
    share: Annotated[
        Words,
        typer.Option(
            metavar="NAME=LEVEL:SHARE", help="A shift by weights, such as Sex=F:.8; each alone."
        ),
    ] = None,
    dose: Annotated[
        str, typer.Option(metavar="NAME=V,V,...", help="Dose-response, such as age=30,50,70.")
    ] = "",
    search: Annotated[
        Words, typer.Option(help="A column in which the worst subgroup is looked for.")
    ] = None,
    flip: Annotated[
        Words,
        typer.Option(metavar="NAME=VALUE", help="A question that may flip decisions; each alone."),
    ] = None,
    by: By = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    threshold: Threshold = "youden",
    validation: Validation = "",
    outputs: Outputs = "probability",
    bootstrap: Bootstrap = 2000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell how a classifier fares where the population differs."""
    from causalcxr.apps.cli.audit_jobs import Strains, stress_job
    from causalcxr.cohort.selection import Selection

    strains = Strains(do or [], share or [], dose, search or [], flip or [], by or [])
    stress_job(
        model,
        Selection(cohort, where, split, limit),
        classifier,
        out,
        strains,
        label=label,
        threshold=threshold,
        validation=validation,
        outputs=outputs,
        bootstrap=bootstrap,
        seed=seed,
        overwrite=overwrite,
    )


def evaluate(
    model: Model,
    cohort: Spec,
    out: Out,
    do: Annotated[
        Words, typer.Option("--do", metavar="NAME=VALUE", help="A question; each stands alone.")
    ] = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 48,
    reader: Reader = "",
    cycles: Annotated[
        str, typer.Option(metavar="K,K", help="Null interventions on each other, for composition.")
    ] = "1,10",
    bootstrap: Bootstrap = 2000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell how sound a model's counterfactual images are: axioms, realism, truth where known."""
    from causalcxr.apps.cli.audit_jobs import evaluate_job
    from causalcxr.cohort.selection import Selection

    evaluate_job(
        model,
        Selection(cohort, where, split, limit),
        do or [],
        out,
        reader=reader,
        cycles=cycles,
        bootstrap=bootstrap,
        seed=seed,
        overwrite=overwrite,
    )


VERBS = (pairs, audit, stress, evaluate)
