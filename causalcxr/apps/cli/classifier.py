"""A classifier on the command line: its options, and how it is loaded."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from causalcxr.audit.classifiers import Classifier
    from causalcxr.cohort.cohort import Cohort

__all__ = [
    "Bootstrap",
    "ClassifierName",
    "ClassifierOptions",
    "Label",
    "Threshold",
    "load_classifier",
]

ClassifierName = Annotated[
    str,
    typer.Argument(
        metavar="CLASSIFIER",
        show_default=False,
        help="A .csv of scores (record, score; world tells twins apart), or MODULE:NAME "
        "or FILE.py:NAME of a function of images (n, 1, H, W), a torch module or an estimator.",
    ),
]
Label = Annotated[str, typer.Option(help="The variable that the classifier predicts.")]
Threshold = Annotated[
    str, typer.Option(help="A number, youden, sensitivity=.9, specificity=.9 or fpr=.1.")
]
Bootstrap = Annotated[int, typer.Option(help="Bootstrap draws of patients.")]


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """A classifier, its outputs, and its threshold."""

    classifier: ClassifierName
    label: Label
    outputs: Annotated[
        str, typer.Option(metavar="probability|logit", help="What the classifier returns.")
    ] = "probability"
    threshold: Threshold
    validation: Annotated[
        str,
        typer.Option(metavar="COHORT", help="Other patients, on whom the threshold is chosen."),
    ] = ""
    bootstrap: Bootstrap = 2000

    def load_classifier(self) -> "Classifier":
        """Return the classifier.

        Raises:
            ClassifierError: If there is none.
        """
        return load_classifier(self.classifier, target=self.label or None, outputs=self.outputs)

    def load_validation(self) -> "Cohort | None":
        """Return the patients on whom the threshold is chosen, if they were given."""
        from causalcxr.cohort.selection import load_cohort

        return load_cohort(self.validation) if self.validation else None


def load_classifier(
    name: str, *, target: str | None = None, outputs: str = "probability"
) -> "Classifier":
    """Return a classifier as the command line names it.

    Args:
        name: A .csv of scores, or `MODULE:NAME` or `FILE.py:NAME`.
        target: The variable that it predicts.
        outputs: `probability` or `logit`.

    Raises:
        ClassifierError: If there is none.
    """
    from causalcxr.audit.classifiers import Classifier, as_classifier
    from causalcxr.common.errors import ClassifierError

    if name.lower().endswith(".csv"):
        return as_classifier(name, target=target)
    # The last colon, as a path on Windows has one after the drive.
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise ClassifierError(
            f"classifier {name!r}: write FILE.csv, or MODULE:NAME or FILE.py:NAME of a function"
        )
    module = _module(place)
    if not hasattr(module, attribute):
        raise ClassifierError(f"classifier {name!r}: {place} has no {attribute!r}")
    classifier = getattr(module, attribute)
    # A classifier of this package states its own target and outputs.
    if isinstance(classifier, Classifier):
        return classifier
    return as_classifier(classifier, target=target, outputs=outputs)


def _module(place: str) -> ModuleType:
    from causalcxr.common.errors import ClassifierError

    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise ClassifierError(f"classifier: no file {place}")
        name = f"causalcxr_classifier_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        # Registered before it runs, as dataclasses and pickle look modules up by name.
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ClassifierError(f"classifier: {place} cannot be imported ({error})") from None
    return module
