"""Images of phantoms, cached in a folder until the code that renders them changes."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np

import causalcxr
from causalcxr import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.common.progress import progress

__all__ = ["phantom_images"]

_BATCH = 64


def phantom_images(
    folder: str | Path = "runs/phantom_images", **options: int
) -> tuple[Cohort, np.ndarray]:
    """Return a phantom cohort and its images, from the cache if they are there.

    Args:
        folder: The cache, one file per cohort. Its files can be deleted at any time.
        **options: Those of `Cohort.load("phantom", ...)`.

    Returns:
        The cohort, and its images in 8 bits, (n, H, W).
    """
    cohort = Cohort.load("phantom", **options)
    path = Path(folder) / f"{_key(options)}.npy"
    if path.is_file():
        return cohort, np.load(path, allow_pickle=False)
    rows, images = np.arange(len(cohort)), cohort.images
    starts = progress(range(0, len(cohort), _BATCH), f"Rendering {len(cohort):,} phantoms")
    pixels = np.concatenate([images.grey_levels(rows[k : k + _BATCH]) for k in starts])
    content = BytesIO()
    np.save(content, pixels, allow_pickle=False)
    atomic_write(path, content.getvalue())
    return cohort, pixels


def _key(options: dict[str, int]) -> str:
    """Return a hash of the options and of every source file that determines the images."""
    package = Path(causalcxr.__file__).parent
    sources = sorted((package / "sources" / "phantom").rglob("*.py"))
    sources.append(package / "common" / "random_numbers.py")
    parts = [repr(sorted(options.items())).encode(), *(source.read_bytes() for source in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
