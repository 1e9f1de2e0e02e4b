"""What metrics take: feature vectors, pairs of images, patients; each checked in one line."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from causalcxr.cohort.ids import patient_numbers
from causalcxr.common.errors import CausalCXRError

__all__ = ["Array", "read_images", "read_patients", "read_vectors", "row_blocks", "same_length"]

Array = np.ndarray | Tensor
_ROWS = 4096


def row_blocks(n: int, rows: int = _ROWS) -> Iterator[slice]:
    """Yield slices that cover n rows.

    Example:
        >>> list(row_blocks(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def read_vectors(name: str, vectors: Array, least: int = 2, *, varied: bool = True) -> np.ndarray:
    """Return feature vectors as an array, uncopied where it is one, refusing what has no distance.

    Args:
        name: How an error calls them.
        vectors: Shape (n, d), floats or integers.
        least: The fewest vectors that will do.
        varied: Whether vectors that are all the same are refused.

    Raises:
        CausalCXRError: If they are no table of numbers, too few, not finite, or all the same.

    Example:
        >>> read_vectors("real", np.eye(2, dtype=np.float32)).dtype
        dtype('float32')
    """
    found = _as_array(vectors)
    if found.ndim != 2 or found.shape[1] == 0 or found.dtype.kind not in "fiu":
        raise CausalCXRError(
            f"{name}: {found.dtype} of shape {found.shape}, not numbers (n, d); give one vector "
            "of features an image"
        )
    if found.dtype not in (np.float32, np.float64):
        found = found.astype(np.float64)
    if len(found) < least:
        raise CausalCXRError(
            f"{name}: {len(found)} vectors, at least {least} are needed; add more"
        )
    alike = varied and len(found) > 1
    for rows in row_blocks(len(found)):
        block = found[rows]
        finite = np.isfinite(block).all(1)
        if not finite.all():
            row = rows.start + int(finite.argmin())
            raise CausalCXRError(f"{name}: vector {row} is not finite; look at its image")
        alike = alike and bool((block == found[0]).all())
    if alike:
        raise CausalCXRError(
            f"{name}: all {len(found)} vectors are the same, so nothing can be told from them; "
            "look at the images and at the extractor"
        )
    return found


def read_images(name: str, images: Array) -> np.ndarray:
    """Return images (n, 1, H, W) as an array, (n, H, W) included, refusing what is not finite.

    Raises:
        CausalCXRError: If the shape is another, there are none, or a pixel is not finite.

    Example:
        >>> read_images("factual", np.zeros((2, 8, 8))).shape
        (2, 1, 8, 8)
    """
    found = _as_array(images)
    if found.ndim == 3:
        found = found[:, None]
    if found.ndim != 4 or found.shape[1] != 1 or found.size == 0 or found.dtype.kind != "f":
        raise CausalCXRError(
            f"{name}: {found.dtype} of shape {found.shape}, not floats (n, 1, H, W) between 0 and "
            "1; give grey images"
        )
    finite = np.isfinite(found).all((1, 2, 3))
    if not finite.all():
        row = int(finite.argmin())
        raise CausalCXRError(f"{name}: image {row} is not finite; look at what made it")
    return found


def read_patients(patients: Array | Sequence[object] | None, n: int) -> np.ndarray:
    """Return the number of each row's patient, (n,); by default every row is a patient.

    Example:
        >>> read_patients(["b", "a", "b"], 3).tolist()
        [1, 0, 1]
    """
    codes, distinct = patient_numbers(patients, n)
    if patients is None:
        return codes
    # In the order of their names, so that draws of patients do not depend on the order of rows;
    # 1 and "1" are two patients.
    names = sorted(range(len(distinct)), key=lambda k: _order(distinct[k]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[names] = np.arange(len(names))
    return rank[codes]


def _order(patient: object) -> tuple[bool, float, str, str]:
    number = isinstance(patient, int | float | np.number)
    return not number, float(patient) if number else 0.0, str(patient), type(patient).__name__


def same_length(**arrays: np.ndarray) -> int:
    """Return how many rows all have.

    Raises:
        CausalCXRError: Naming two that differ.

    Example:
        >>> same_length(twin=np.zeros(2), factual=np.zeros(2))
        2
    """
    names = list(arrays)
    for name in names[1:]:
        one, two = arrays[names[0]].shape, arrays[name].shape
        if one != two:
            raise CausalCXRError(
                f"{name}: shape {two} beside {names[0]} of {one}; give the same rows of both"
            )
    return len(arrays[names[0]])


def _as_array(values: Array) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
