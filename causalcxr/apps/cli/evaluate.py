"""`causalcxr evaluate`: how sound a model's counterfactual images are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from causalcxr.apps.cli.classifier import Bootstrap
from causalcxr.apps.cli.options import Limit, ModelFolder, OutputOptions, RecordOptions, Seed
from causalcxr.apps.cli.pairs import ReaderOptions, fit_reader, show_quality

__all__ = ["EvaluateOptions", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(RecordOptions, ReaderOptions, OutputOptions):
    """Which model, on which records, under which interventions."""

    model: ModelFolder
    do: Annotated[
        Sequence[str],
        typer.Option(
            "--do", metavar="NAME=VALUE", help="An intervention; each is evaluated alone."
        ),
    ] = ()
    limit: Limit = 48
    cycles: Annotated[
        str,
        typer.Option(
            metavar="K,K", help="Null interventions after each other, to test composition."
        ),
    ] = "1,10"
    bootstrap: Bootstrap = 2000
    seed: Seed = 0

    @property
    def numbers_of_cycles(self) -> tuple[int, ...]:
        """The numbers of null interventions after each other.

        Raises:
            AuditError: If they are no whole numbers.
        """
        from causalcxr.common.errors import AuditError

        try:
            return tuple(int(word) for word in self.cycles.split(","))
        except ValueError:
            raise AuditError(
                f"cycles {self.cycles!r}: write whole numbers, such as 1,10"
            ) from None


def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a model's counterfactual images: axioms, realism, truth where it is known."""
    from causalcxr.apps.cli.answer_screen import (
        console,
        print_couplings,
        rounded_rows,
        show,
        show_calibration,
    )
    from causalcxr.audit.cross_fitted_reader import CrossFittedReader
    from causalcxr.audit.model_evaluation import evaluate as evaluate_model
    from causalcxr.audit.model_evaluation_result import evaluation_folder
    from causalcxr.cohort.selection import load_cohort
    from causalcxr.common.progress import Progress
    from causalcxr.graph.interventions import parse
    from causalcxr.scm.scm import SCM

    # Refuse a folder of something else before the long work.
    evaluation_folder(options.out).check_foreign()
    cycles, reader, features = options.numbers_of_cycles, None, None
    model, actions = SCM.load(options.model), [parse([word]) for word in options.do]
    with Progress("Evaluating"):
        # The reader learns from a cohort of its own.
        if options.reader:
            training = load_cohort(options.reader).with_images_only()
            reader = fit_reader(training, model, options)
        if options.features:
            features = options.load_features().everyone
        result = evaluate_model(
            model,
            options.records.load(),
            actions,
            reader=reader,
            features=features,
            cycles=cycles,
            draws=options.bootstrap,
            seed=options.seed,
        )
        result.save(options.out, overwrite=options.overwrite)
    if isinstance(reader, CrossFittedReader):
        show_quality(reader.table)
    show("Axioms, realism, truth", rounded_rows(result.table))
    if calibration := result.about.get("calibration"):
        # A number in the graph takes precedence over a calibrated weight.
        show_calibration(calibration, is_used="guidance calibrated" in result.about["solver"])
    print_couplings(result.about["coupling"])
    files = "evaluation.csv, evaluation.png, one sheet for each intervention"
    console().print(f"{options.out}: {files}", markup=False)
