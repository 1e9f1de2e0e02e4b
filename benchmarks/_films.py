"""Films of phantoms, kept in a folder while the sources that make them stay as they are."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np

import causalcxr
from causalcxr import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.common.progress import progress

__all__ = ["filmed"]

_BATCH = 64


def filmed(folder: str | Path = "runs/films", **options: int) -> tuple[Cohort, np.ndarray]:
    """Return a phantom cohort and its films, read from a folder where they are there.

    Args:
        folder: Where films are kept, one file a cohort. Older ones may be deleted at will.
        **options: As `Cohort.load("phantom", ...)` takes them.

    Returns:
        The cohort, and its films in 8 bits, (n, H, W).
    """
    cohort = Cohort.load("phantom", **options)
    path = Path(folder) / f"{_key(options)}.npy"
    if path.is_file():
        return cohort, np.load(path, allow_pickle=False)
    rows, images = np.arange(len(cohort)), cohort.images
    starts = progress(range(0, len(cohort), _BATCH), f"Filming {len(cohort):,} phantoms")
    films = np.concatenate([images.grey_levels(rows[k : k + _BATCH]) for k in starts])
    content = BytesIO()
    np.save(content, films, allow_pickle=False)
    atomic_write(path, content.getvalue())
    return cohort, films


def _key(options: dict[str, int]) -> str:
    """Return a hash of the options and of every source that the films come from."""
    package = Path(causalcxr.__file__).parent
    sources = [*sorted((package / "sources" / "phantom").rglob("*.py")), package / "noise.py"]
    told = [repr(sorted(options.items())).encode(), *(source.read_bytes() for source in sources)]
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:16]
