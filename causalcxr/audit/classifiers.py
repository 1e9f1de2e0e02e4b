"""Classifiers of every kind: functions of images, torch modules, estimators, tables of scores."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.classifier import Classifier, checked_scores
from causalcxr.audit.classifier_outputs import one_array
from causalcxr.audit.score_table import ScoreTable
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.alignment import aligned
from causalcxr.common.errors import ClassifierError, nearest
from causalcxr.common.progress import progress
from causalcxr.graph.arguments import names_of
from causalcxr.images.pixels import resized
from causalcxr.images.resampling import at_a_time

__all__ = [
    "Classifier",
    "FeatureClassifier",
    "ImageClassifier",
    "ScoreTable",
    "XRVClassifier",
    "as_classifier",
    "checked_scores",
]

_BATCH = 64
_XRV_SIDE = 224
_XRV_RANGE = 1024.0  # TorchXRayVision's images range from -1024 to 1024


class ImageClassifier(Classifier):
    """Score images by a function of a batch.

    Args:
        function: (B, 1, H, W) float32 between 0 and 1, an array or, for a torch module, a tensor
            on the device of its weights -> (B,) or (B, k), in any precision; or a mapping or tuple
            that holds it, see `classifier_outputs.one_array`.
        column: Column of k outputs.
        batch: Number of images at a time.
        name: Name in reports; by default the name of the function.
        target: See `Classifier`.
        outputs: See `Classifier`.

    Example:
        >>> cohort = Cohort(pd.DataFrame(index=["a", "b"]), np.array([[[0.25]], [[0.75]]]))
        >>> ImageClassifier(lambda x: x.mean((1, 2, 3)), name="mean").scores(cohort).tolist()
        [0.25, 0.75]
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        column: int | None = None,
        batch: int = _BATCH,
        name: str | None = None,
        target: str | None = None,
        outputs: str = "probability",
    ) -> None:
        default = getattr(function, "__name__", type(function).__name__)
        super().__init__(name or default, target, outputs=outputs)
        self.function, self.column, self.batch = function, column, batch

    def _raw(self, cohort: Cohort) -> np.ndarray:
        if cohort.images is None:
            raise ClassifierError(
                f"classifier {self.name!r} reads images, but the cohort has none; load it with "
                "images, or audit a classifier of features"
            )
        step = at_a_time(cohort.images.size, self.batch)
        starts = range(0, len(cohort), step)
        batches = (cohort.images[k : k + step] for k in progress(starts, "Scoring", "images"))
        if _is_module(self.function):
            from causalcxr.common.threads import map_in_order

            # Score in evaluation mode, and give the module back as it was.
            was = self.function.training
            self.function.eval()
            try:
                parts = list(map_in_order(self.function, self._scored, batches))
            finally:
                self.function.train(was)
        else:
            parts = [self._scored(self.function, images) for images in batches]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scored(self, function: Callable[[Any], Any], images: np.ndarray) -> np.ndarray:
        """Return the scores of a batch, one per image."""
        answer = one_array(self._answer(function, self._prepared(images)), self.outputs, self.name)
        scores = self._column(answer)
        if scores.ndim == 0 or len(scores) != len(images):
            raise ClassifierError(
                f"classifier {self.name!r}: scores have shape {scores.shape} for {len(images)} "
                "images; return one per image"
            )
        return scores

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        """Return images as the function expects them."""
        return images

    def _answer(self, function: Callable[[Any], Any], images: np.ndarray) -> Any:
        if not _is_module(function):
            return function(images)
        import torch

        # Quantised networks have integer weights, too; images must stay fractions.
        weights = (p for p in function.parameters() if p.is_floating_point())
        x = torch.from_numpy(images).to(next(weights, torch.zeros(())))
        with torch.no_grad():
            return function(x)

    def _column(self, answer: np.ndarray) -> np.ndarray:
        if self.column is None or answer.ndim == 1:
            return answer
        if answer.ndim != 2 or not -answer.shape[1] <= self.column < answer.shape[1]:
            raise ClassifierError(
                f"classifier {self.name!r}: there is no column {self.column} in outputs of shape "
                f"{answer.shape}"
            )
        return answer[:, self.column]


class XRVClassifier(ImageClassifier):
    """Score images by a model of TorchXRayVision, scaled and resized as that library expects.

    Args:
        model: A torch module with `pathologies`, the names of its outputs.
        target: The name of an output.
        batch: Number of images at a time.

    Raises:
        ClassifierError: If the model has no such output.
    """

    def __init__(self, model: Any, target: str, *, batch: int = _BATCH) -> None:
        outputs = [str(name) for name in model.pathologies]
        lower = [name.lower().replace("_", " ") for name in outputs]
        names = {target.lower().replace("_", " "), target.lower().removeprefix("pleural ")}
        columns = [k for k, name in enumerate(lower) if name and name in names]
        if not columns:
            named = [name for name in outputs if name]
            hint = nearest(target, named) or f"; its outputs are {', '.join(named)}"
            raise ClassifierError(f"the model has no output {target!r}{hint}")
        super().__init__(
            model, column=columns[0], batch=batch, name=type(model).__name__, target=target
        )

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        sized = np.stack([resized(image[0], (_XRV_SIDE, _XRV_SIDE)) for image in images])
        unit = sized[:, None].astype(np.float32) / np.float32(65535)
        return (unit * 2 - 1) * np.float32(_XRV_RANGE)


class FeatureClassifier(Classifier):
    """Score records by a scikit-learn estimator on features.

    Args:
        estimator: Fitted, with `predict_proba` or `decision_function`.
        features: Names of columns of the table, or a function of a cohort -> (n, d).
        positive: The class whose probability is the score; by default the last one.
        name: Name in reports.
        target: See `Classifier`.

    Raises:
        ClassifierError: If the estimator is not fitted, has no probabilities, or no such class.
    """

    def __init__(
        self,
        estimator: Any,
        features: str | Sequence[str] | Callable[[Cohort], np.ndarray],
        *,
        positive: Any = None,
        name: str | None = None,
        target: str | None = None,
    ) -> None:
        super().__init__(name or type(estimator).__name__, target)
        if not hasattr(estimator, "predict_proba"):
            raise ClassifierError(
                f"classifier {self.name!r} has no predict_proba; calibrate it "
                "(sklearn.calibration.CalibratedClassifierCV), or give a function of images"
            )
        # The classes exist only once an estimator has been fitted.
        if (classes := getattr(estimator, "classes_", None)) is None:
            raise ClassifierError(f"classifier {self.name!r} is not fitted; call fit first")
        classes = list(classes)
        if len(classes) < 2 or (positive is not None and positive not in classes):
            raise ClassifierError(
                f"classifier {self.name!r} has the classes {classes}, not {positive!r}"
            )
        # By default the last class is the positive one, as for the classes 0 and 1.
        self.column = len(classes) - 1 if positive is None else classes.index(positive)
        self.estimator = estimator
        self.features = features if callable(features) else names_of(features)
        self.reads_images = callable(features)

    def _raw(self, cohort: Cohort) -> np.ndarray:
        if not len(cohort):  # every pair was rejected; estimators need at least one row
            return np.empty(0)
        if callable(self.features):
            x = self.features(cohort)
            if isinstance(x, pd.DataFrame):
                what = f"classifier {self.name!r}: features"
                # A table of features may hold other records, or another order.
                x = aligned(x, cohort.index, what, more=True, error=ClassifierError)
            x = np.asarray(x)
        else:
            table = cohort.table
            if absent := [name for name in self.features if name not in table]:
                raise ClassifierError(
                    f"classifier {self.name!r}: the table has no column {absent[0]!r}"
                    f"{nearest(absent[0], table.columns)}"
                )
            x = table[list(self.features)]
        return self.estimator.predict_proba(x)[:, self.column]


def as_classifier(
    classifier: Any,
    *,
    target: str | None = None,
    outputs: str | None = None,
    column: int | str | None = None,
    features: str | Sequence[str] | Callable[[Cohort], np.ndarray] | None = None,
    positive: Any = None,
    batch: int | None = None,
    name: str | None = None,
) -> Classifier:
    """Return a `Classifier` from any object that scores records.

    Args:
        classifier: A `Classifier`; a torch module or a function of image batches; a fitted
            scikit-learn estimator (with `features=`); a model of TorchXRayVision; the path of
            a .csv, or a Series of scores.
        target: The variable that it predicts.
        outputs: "probability" or "logit", for functions of images.
        column: Column of several outputs of a function of images, or of a .csv of scores.
        features: For an estimator: names of columns, or a function of a cohort.
        positive: For an estimator: the class whose probability is the score.
        batch: Number of images at a time.
        name: Name in reports.

    Raises:
        ClassifierError: If it is none of these, or an option does not fit.

    Example:
        >>> as_classifier(pd.Series([0.2], index=["a"]), target="Edema")
        ScoreTable('scores' of Edema)
    """
    given = {
        "outputs": outputs, "column": column, "features": features, "positive": positive,
        "batch": batch, "name": name,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    kind, build = _kind_of(classifier)
    if extra := [key for key in options if key not in _OPTIONS[kind]]:
        accepted = ", ".join(_OPTIONS[kind]) or "no options"
        raise ClassifierError(f"{kind} does not accept {extra[0]}=; it accepts {accepted}")
    return build(target, options)


_OPTIONS = {
    "a Classifier": (),
    "a Series of scores": ("name",),
    "a .csv of scores": ("column",),
    "a model of TorchXRayVision": ("batch",),
    "an estimator": ("features", "positive", "name"),
    "a function of images": ("outputs", "column", "batch", "name"),
}


def _kind_of(classifier: Any) -> tuple[str, Callable[[str | None, dict[str, Any]], Classifier]]:
    """Return the kind of a classifier, and a function that builds it from target and options."""
    # From the most specific kind to the least: models of TorchXRayVision are callable, too.
    if isinstance(classifier, Classifier):
        return "a Classifier", lambda target, options: classifier
    if isinstance(classifier, pd.Series):
        return "a Series of scores", lambda t, options: ScoreTable(classifier, target=t, **options)
    if isinstance(classifier, str | Path):
        return "a .csv of scores", lambda t, options: ScoreTable.read(
            classifier, target=t, **options
        )
    if hasattr(classifier, "pathologies"):
        return (
            "a model of TorchXRayVision",
            lambda target, options: XRVClassifier(classifier, target or "", **options),
        )
    if hasattr(classifier, "predict_proba") or hasattr(classifier, "decision_function"):
        return "an estimator", lambda target, options: _of_features(classifier, target, options)
    if callable(classifier):
        return (
            "a function of images",
            lambda target, options: ImageClassifier(classifier, target=target, **options),
        )
    raise ClassifierError(
        f"{type(classifier).__name__} is not a classifier; give a function of images, a torch "
        "module, a scikit-learn estimator, or a .csv of scores"
    )


def _of_features(estimator: Any, target: str | None, options: dict[str, Any]) -> Classifier:
    if "features" not in options:
        raise ClassifierError(
            f"classifier {type(estimator).__name__!r}: give features=, names of columns or a "
            "function of a cohort, such as causalcxr.audit.image_features"
        )
    return FeatureClassifier(estimator, target=target, **options)


def _is_module(function: Any) -> bool:
    import sys

    torch = sys.modules.get("torch")  # without torch imported it cannot be a torch module
    return torch is not None and isinstance(function, torch.nn.Module)
