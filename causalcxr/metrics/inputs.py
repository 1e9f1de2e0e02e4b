"""Input of metrics, checked: feature vectors, pairs of images, patients."""

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
    """Return feature vectors as an array, without a copy if it is one; refuse unusable vectors.

    Args:
        name: Their name in errors.
        vectors: Shape (n, d), floats or integers.
        least: The smallest number of vectors.
        varied: Whether to refuse vectors that are all the same.

    Raises:
        CausalCXRError: If they are not (n, d) numbers, too few, not finite, or all the same.

    Example:
        >>> read_vectors("real", np.eye(2, dtype=np.float32)).dtype
        dtype('float32')
    """
    array = _as_array(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise CausalCXRError(
            f"{name}: {array.dtype} of shape {array.shape}, not numbers (n, d); give one feature "
            "vector per image"
        )
    # Whole numbers and float16 are converted; the common types are used without a copy.
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if len(array) < least:
        raise CausalCXRError(f"{name}: {len(array)} vectors, at least {least} needed; add more")
    # Block by block, so that a memory map is not read at once.
    constant = varied and len(array) > 1
    for rows in row_blocks(len(array)):
        block = array[rows]
        finite = np.isfinite(block).all(1)
        if not finite.all():
            row = rows.start + int(finite.argmin())
            raise CausalCXRError(f"{name}: vector {row} is not finite; check its image")
        constant = constant and bool((block == array[0]).all())
    if constant:
        raise CausalCXRError(
            f"{name}: all {len(array)} vectors are the same; check the images and the extractor"
        )
    return array


def read_images(name: str, images: Array) -> np.ndarray:
    """Return images (n, 1, H, W) or (n, H, W) as an array (n, 1, H, W), and check them.

    Raises:
        CausalCXRError: If the shape is wrong, there are none, or a pixel is not finite.

    Example:
        >>> read_images("factual", np.zeros((2, 8, 8))).shape
        (2, 1, 8, 8)
    """
    array = _as_array(images)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] != 1 or array.size == 0 or array.dtype.kind != "f":
        raise CausalCXRError(
            f"{name}: {array.dtype} of shape {array.shape}, not floats (n, 1, H, W) between 0 and "
            "1; give grey images"
        )
    finite = np.isfinite(array).all((1, 2, 3))
    if not finite.all():
        row = int(finite.argmin())
        raise CausalCXRError(f"{name}: image {row} is not finite; correct it or leave it out")
    return array


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
    # 1 and "1" are different patients.
    names = sorted(range(len(distinct)), key=lambda k: _order(distinct[k]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[names] = np.arange(len(names))
    return rank[codes]


def _order(patient: object) -> tuple[bool, float, str, str]:
    number = isinstance(patient, int | float | np.number)
    return not number, float(patient) if number else 0.0, str(patient), type(patient).__name__


def same_length(**arrays: np.ndarray) -> int:
    """Return the common number of rows.

    Raises:
        CausalCXRError: If two shapes differ, with the names of both.

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
