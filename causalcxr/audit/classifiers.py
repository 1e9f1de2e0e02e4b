"""Classifiers in: anything that gives a cohort's records scores, checked before it is believed.

A classifier is asked for one probability a record. What it returns is looked at: logits, numbers
out of range, as many as were asked for, the same for everyone.
"""

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
_XRV_RANGE = 1024.0  # torchxrayvision's images go from -1024 to 1024


class ImageClassifier(Classifier):
    """Score images by a function of a batch.

    Args:
        function: (B, 1, H, W) float32 between 0 and 1, an array or, for a torch module, a tensor
            where its weights are -> (B,) or (B, k), in any precision; or a mapping or tuple that
            holds it, see `classifier_outputs.one_array`.
        column: Which of k outputs.
        batch: Images at a time.
        name: What it is called; by default the function's own name.
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
        usual = getattr(function, "__name__", type(function).__name__)
        super().__init__(name or usual, target, outputs=outputs)
        self.function, self.column, self.batch = function, column, batch

    def _raw(self, cohort: Cohort) -> np.ndarray:
        if cohort.images is None:
            raise ClassifierError(
                f"classifier {self.name!r} reads images, and the cohort has none; load it with "
                "images, or audit a classifier of features"
            )
        starts = range(0, len(cohort), self.batch)
        batches = (
            cohort.images[k : k + self.batch] for k in progress(starts, "Scoring", "images")
        )
        if _is_module(self.function):
            from causalcxr.common.threads import asked_in_order

            was = self.function.training
            self.function.eval()
            try:
                parts = list(asked_in_order(self.function, self._scored, batches))
            finally:
                self.function.train(was)
        else:
            parts = [self._scored(self.function, images) for images in batches]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scored(self, function: Callable[[Any], Any], images: np.ndarray) -> np.ndarray:
        """Return the scores of a batch, one an image."""
        answer = one_array(self._answer(function, self._prepared(images)), self.outputs, self.name)
        found = self._column(answer)
        if found.ndim == 0 or len(found) != len(images):
            raise ClassifierError(
                f"classifier {self.name!r}: scores have shape {found.shape} for {len(images)} "
                "images; return one an image"
            )
        return found

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        """Return images as the function wants them."""
        return images

    def _answer(self, function: Callable[[Any], Any], images: np.ndarray) -> Any:
        if not _is_module(function):
            return function(images)
        import torch

        # Of quantised networks some weights are whole numbers, which no image is.
        weights = (p for p in function.parameters() if p.is_floating_point())
        x = torch.from_numpy(images).to(next(weights, torch.zeros(())))
        with torch.no_grad():
            return function(x)

    def _column(self, answer: np.ndarray) -> np.ndarray:
        if self.column is None or answer.ndim == 1:
            return answer
        if answer.ndim != 2 or not -answer.shape[1] <= self.column < answer.shape[1]:
            raise ClassifierError(
                f"classifier {self.name!r}: no column {self.column} in outputs of shape "
                f"{answer.shape}"
            )
        return answer[:, self.column]


class XRVClassifier(ImageClassifier):
    """Score images by a model of TorchXRayVision, scaled and sized as that library wants them.

    Args:
        model: A torch module with `pathologies`, the names of its outputs.
        target: One of them.
        batch: Images at a time.

    Raises:
        ClassifierError: If the model has no such output.
    """

    def __init__(self, model: Any, target: str, *, batch: int = _BATCH) -> None:
        known = [str(name) for name in model.pathologies]
        lower = [name.lower().replace("_", " ") for name in known]
        asked = {target.lower().replace("_", " "), target.lower().removeprefix("pleural ")}
        found = [k for k, name in enumerate(lower) if name and name in asked]
        if not found:
            names = ", ".join(filter(None, known))
            hint = nearest(target, filter(None, known)) or f"; they are {names}"
            raise ClassifierError(f"the model has no output {target!r}{hint}")
        super().__init__(
            model, column=found[0], batch=batch, name=type(model).__name__, target=target
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
        positive: The class whose probability is meant; the last one by default.
        name: What it is called.
        target: See `Classifier`.

    Raises:
        ClassifierError: If the estimator is not fitted, gives no probabilities, or knows no such
            class.
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
        if (classes := getattr(estimator, "classes_", None)) is None:
            raise ClassifierError(f"classifier {self.name!r} is not fitted; call fit first")
        classes = list(classes)
        if len(classes) < 2 or (positive is not None and positive not in classes):
            raise ClassifierError(
                f"classifier {self.name!r} knows the classes {classes}, not {positive!r}"
            )
        self.column = len(classes) - 1 if positive is None else classes.index(positive)
        self.estimator = estimator
        self.features = features if callable(features) else names_of(features)
        self.reads_images = callable(features)

    def _raw(self, cohort: Cohort) -> np.ndarray:
        if not len(cohort):  # every pair was refused; estimators want one row at least
            return np.empty(0)
        if callable(self.features):
            x = self.features(cohort)
            if isinstance(x, pd.DataFrame):
                what = f"classifier {self.name!r}: features"
                x = aligned(x, cohort.index, what, more=True, error=ClassifierError)
            x = np.asarray(x)
        else:
            table = cohort.table
            if absent := [name for name in self.features if name not in table]:
                raise ClassifierError(
                    f"classifier {self.name!r}: no column {absent[0]!r}"
                    f"{nearest(absent[0], table.columns)}"
                )
            x = table[list(self.features)]
        return self.estimator.predict_proba(x)[:, self.column]


def as_classifier(
    thing: Any,
    *,
    target: str | None = None,
    outputs: str | None = None,
    column: int | str | None = None,
    features: str | Sequence[str] | Callable[[Cohort], np.ndarray] | None = None,
    positive: Any = None,
    batch: int | None = None,
    name: str | None = None,
) -> Classifier:
    """Return a classifier from whatever scores records.

    Args:
        thing: A `Classifier`; a torch module or a function of image batches; a fitted
            scikit-learn estimator (with `features=`); a model of TorchXRayVision; a path of a
            .csv, or a Series of scores.
        target: The variable that it predicts.
        outputs: "probability" or "logit", of functions of images.
        column: Which of several outputs of a function of images; the column of a .csv of scores.
        features: Of an estimator: names of columns, or a function of a cohort.
        positive: Of an estimator: the class whose probability is meant.
        batch: Images at a time.
        name: What it is called in reports.

    Raises:
        ClassifierError: If it is none of these, or does not take what is given.

    Example:
        >>> as_classifier(pd.Series([0.2], index=["a"]), target="Edema")
        ScoreTable('scores' of Edema)
    """
    given = {
        "outputs": outputs, "column": column, "features": features, "positive": positive,
        "batch": batch, "name": name,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    kind, build = _kind_of(thing)
    if extra := [key for key in options if key not in _TAKEN[kind]]:
        taken = ", ".join(_TAKEN[kind]) or "no more options"
        raise ClassifierError(f"{kind} takes no {extra[0]}=; it takes {taken}")
    return build(target, options)


_TAKEN = {
    "a classifier that is ready": (),
    "a Series of scores": ("name",),
    "a .csv of scores": ("column",),
    "a model of TorchXRayVision": ("batch",),
    "an estimator": ("features", "positive", "name"),
    "a function of images": ("outputs", "column", "batch", "name"),
}


def _kind_of(thing: Any) -> tuple[str, Callable[[str | None, dict[str, Any]], Classifier]]:
    """Return what kind of classifier it is, and how it is built from target and options."""
    if isinstance(thing, Classifier):
        return "a classifier that is ready", lambda target, options: thing
    if isinstance(thing, pd.Series):
        return "a Series of scores", lambda t, options: ScoreTable(thing, target=t, **options)
    if isinstance(thing, str | Path):
        return "a .csv of scores", lambda t, options: ScoreTable.read(thing, target=t, **options)
    if hasattr(thing, "pathologies"):
        return (
            "a model of TorchXRayVision",
            lambda target, options: XRVClassifier(thing, target or "", **options),
        )
    if hasattr(thing, "predict_proba") or hasattr(thing, "decision_function"):
        return "an estimator", lambda target, options: _of_features(thing, target, options)
    if callable(thing):
        return (
            "a function of images",
            lambda target, options: ImageClassifier(thing, target=target, **options),
        )
    raise ClassifierError(
        f"{type(thing).__name__} is no classifier; give a function of images, a torch module, a "
        "scikit-learn estimator, or a .csv of scores"
    )


def _of_features(thing: Any, target: str | None, options: dict[str, Any]) -> Classifier:
    if "features" not in options:
        raise ClassifierError(
            f"classifier {type(thing).__name__!r}: say features=, names of columns or a "
            "function of a cohort, such as causalcxr.audit.image_features"
        )
    return FeatureClassifier(thing, target=target, **options)


def _is_module(thing: Any) -> bool:
    import sys

    torch = sys.modules.get("torch")  # a torch module cannot be here before torch is
    return torch is not None and isinstance(thing, torch.nn.Module)
