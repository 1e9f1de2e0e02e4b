"""The output of a classifier of images: one array of numbers, from any container."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalcxr.common.errors import ClassifierError

__all__ = ["as_numbers", "one_array"]

# The entry to use where a classifier returns several, by the kind of output.
_ENTRIES = {"logit": ("logits", "logit"), "probability": ("probabilities", "probability", "probs")}


def one_array(answer: Any, outputs: str, name: str) -> np.ndarray:
    """Return the array of a classifier's output: a tensor, an array, or a container of one.

    A mapping or a tuple may hold one array; a mapping may hold several, of which one has the name
    that `outputs` selects: `logits` or `probabilities`.

    Args:
        answer: The output of the classifier for a batch.
        outputs: "probability" or "logit".
        name: The classifier's name, for messages.

    Raises:
        ClassifierError: If there is no array, or it is unclear which one to use.

    Example:
        >>> one_array({"logits": np.zeros(2), "hidden": np.ones((2, 8))}, "logit", "net").tolist()
        [0.0, 0.0]
    """
    if isinstance(answer, Mapping):
        return _entry({str(k): v for k, v in answer.items() if _is_array(v)}, outputs, name)
    if isinstance(answer, list | tuple) and any(_is_array(each) and each.ndim for each in answer):
        parts = [each for each in answer if _is_array(each)]
        if len(parts) != 1:
            raise ClassifierError(
                f"classifier {name!r}: it returns {len(parts)} arrays; return one, as in "
                "lambda images: net(images)[0]"
            )
        return _as_numpy(parts[0])
    return _as_numpy(answer) if _is_array(answer) else as_numbers(answer, name)


def as_numbers(values: Any, name: str) -> np.ndarray:
    """Return values as float64; text and anything else that is not a number is refused.

    Raises:
        ClassifierError: If a value is text or not a number.

    Example:
        >>> as_numbers(["0,3"], "net")
        Traceback (most recent call last):
        causalcxr.common.errors.ClassifierError: classifier 'net': the score at position 0 is the \
text '0,3'; return numbers, such as 0.3
    """
    cells = np.asarray(values)
    # Numpy would turn the text "0.3" into a number silently.
    if cells.dtype.kind in "OUST":
        texts = [isinstance(each, str | bytes) for each in cells.astype(object).ravel()]
        if any(texts):
            row = texts.index(True)
            raise ClassifierError(
                f"classifier {name!r}: the score at position {row} is the text "
                f"{str(cells.ravel()[row])!r}; return numbers, such as 0.3"
            )
    try:
        if values is None:
            raise TypeError
        return cells.astype(np.float64)
    except (TypeError, ValueError):
        kind = type(values).__name__
        raise ClassifierError(
            f"classifier {name!r}: scores are not numbers but {kind}; return an array or a tensor"
        ) from None


def _entry(arrays: Mapping[str, Any], outputs: str, name: str) -> np.ndarray:
    """Return the only array of a mapping, or the one that `outputs` selects."""
    # Prefer the entry that the kind of output names.
    keys = [key for key in arrays if key.lower() in _ENTRIES[outputs]]
    other = next(kind for kind in _ENTRIES if kind != outputs)
    # A single entry of any other name is unambiguous, unless it names the other kind.
    if not keys and len(arrays) == 1 and next(iter(arrays)).lower() not in _ENTRIES[other]:
        keys = list(arrays)
    if len(keys) != 1:
        has = ", ".join(map(repr, arrays)) or "no array"
        swapped = any(key.lower() in _ENTRIES[other] for key in arrays)
        hint = (
            f"give outputs={other!r}" if swapped else "return one, as in lambda x: net(x)['out']"
        )
        raise ClassifierError(
            f"classifier {name!r}: it returns a mapping of {has}, but outputs={outputs!r}; {hint}"
        )
    return _as_numpy(arrays[keys[0]])


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _as_numpy(array: Any) -> np.ndarray:
    """Return a tensor or an array as numpy; bfloat16, which numpy lacks, as float32."""
    if not hasattr(array, "detach"):
        return array
    tensor = array.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
