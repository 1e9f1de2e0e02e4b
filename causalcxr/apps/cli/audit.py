"""`causalcxr audit`: how a classifier scores pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalcxr.apps.cli.classifier import ClassifierName, ClassifierOptions, Label, Threshold
from causalcxr.apps.cli.options import OutputOptions, Seed

if TYPE_CHECKING:
    from causalcxr.audit.audit_result import Audit

__all__ = ["AuditOptions", "By", "audit"]

By = Annotated[
    Sequence[str],
    typer.Option(help="A column whose levels are groups; may be given several times."),
]


@dataclass(frozen=True, kw_only=True)
class AuditOptions(ClassifierOptions, OutputOptions):
    """Which pairs, which classifier, which groups and hypotheses."""

    pairs: Annotated[Path, typer.Argument(help="A folder of pairs.", show_default=False)]
    classifier: ClassifierName
    label: Label = ""
    threshold: Threshold = ""
    by: By = ()
    primary: Annotated[
        Sequence[str],
        typer.Option(
            help="A declared hypothesis, such as 'effect: all'; may be given several times."
        ),
    ] = ()
    seed: Seed = 0


def audit(options: AuditOptions) -> None:
    """Audit a classifier on pairs: a report to read, tables as .csv, all of it as JSON."""
    from causalcxr.audit.audit_result import audit_folder
    from causalcxr.audit.auditing import audit_pairs
    from causalcxr.audit.pairs import Pairs
    from causalcxr.common.progress import Progress

    # Refuse a folder of something else before the long work.
    audit_folder(options.out).check_foreign()
    pairs = Pairs.load(options.pairs)
    classifier, validation = options.load_classifier(), options.load_validation()
    primaries: dict[str, Any] = {"primaries": options.primary} if options.primary else {}
    with Progress("Auditing"):
        result = audit_pairs(
            classifier,
            pairs,
            label=options.label or None,
            by=options.by,
            threshold=options.threshold or None,
            validation=validation,
            bootstrap=options.bootstrap,
            seed=options.seed,
            **primaries,
        )
        result.save(options.out, overwrite=options.overwrite)
    _show(result, options.out)


def _show(result: "Audit", out: Path) -> None:
    """Show the effects on the score, the conclusions, and the files."""
    from causalcxr.apps.cli.answer_screen import console, rounded_rows, show

    columns = ["group", "kind", "mean", "low", "high", "p"]
    show("Effects on the score", rounded_rows(result.effects[columns]))
    for sentence in result.sentences:
        console().print(sentence, markup=False, highlight=False)
    report = out / "report.html"
    console().print(f"{report}: the report; tables and audit.json beside it", markup=False)
