"""Which images of a saved cohort or store are synthetic, as recorded in its manifest.

Image files also declare it themselves; this declaration is never overruled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["compact", "recorded"]

_FIELD = "synthetic"


def compact(synthetic: np.ndarray, available: np.ndarray) -> bool | list[int]:
    """Return which images are synthetic as JSON: one value for all, or positions.

    Args:
        synthetic: Shape (n,), bool.
        available: Which records have an image, shape (n,).

    Example:
        >>> everywhere = np.ones(3, dtype=bool)
        >>> compact(everywhere, everywhere), compact(np.array([False, True, False]), everywhere)
        (True, [1])
    """
    computed = synthetic & available
    if not computed.any():
        return False
    return True if (computed == available).all() else np.flatnonzero(computed).tolist()


def recorded(manifest: Mapping[str, Any], n: int) -> np.ndarray:
    """Return which images a manifest records as synthetic, shape (n,), bool.

    Args:
        manifest: The manifest of a saved cohort or a store. Version 0.1.0 recorded only the
            source, whose words determine it.
        n: Number of records.

    Raises:
        KeyError: If the manifest is damaged.
        TypeError: Likewise.

    Example:
        >>> recorded({"source": "nih, counterfactual"}, 2), recorded({"synthetic": [1]}, 2)
        (array([ True,  True]), array([False,  True]))
    """
    record: bool | Sequence[int] = manifest.get(_FIELD, None)
    if record is None:
        record = _by_source(manifest["source"])
    is_synthetic = np.full(n, record is True)
    if not isinstance(record, bool):
        rows = np.array(record, dtype=np.int64)
        if ((rows < 0) | (rows >= n)).any():
            raise KeyError(_FIELD)
        is_synthetic[rows] = True
    return is_synthetic


def _by_source(source: str) -> bool:
    return "phantom" in source or source.startswith("model") or source.endswith("counterfactual")
