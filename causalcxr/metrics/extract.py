"""Feature vectors of images, batch by batch, by any encoder, with named preprocessing."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from causalcxr.common.errors import CausalCXRError, nearest
from causalcxr.common.threads import map_in_order
from causalcxr.images.images import Images, as_images
from causalcxr.metrics.inputs import row_blocks
from causalcxr.radit.features import load_features

__all__ = ["PREPROCESSING", "Extractor", "chexgenbench", "extract", "feature_batches"]

#: Takes images (n, 1, H, W) between 0 and 1, returns vectors (n, d).
Extractor = Callable[[Tensor], Tensor]
#: Called with the number of images done, and of all images.
Progress = Callable[[int, int], None]


def chexgenbench(images: Tensor) -> Tensor:
    """Return images as CheXGenBench gives them to an encoder: 299 x 299 pixels, 256 grey levels.

    Its features are the pooler output of Rad-DINO, which `load_raddino(folder)` gives. The filter
    of the resizing is not published; this one is bilinear, antialiased where it reduces.

    References:
        CheXGenBench, arXiv:2505.10496.

    Args:
        images: Shape (n, 1, H, W), between 0 and 1.

    Example:
        >>> x = chexgenbench(torch.rand(2, 1, 64, 48))
        >>> tuple(x.shape), bool(torch.equal((x * 255).round() / 255, x))
        ((2, 1, 299, 299), True)
    """
    resized = interpolate(images, (299, 299), mode="bilinear", antialias=True)
    return (resized.clamp(0, 1) * 255).round() / 255


def _as_they_are(images: Tensor) -> Tensor:
    return images


#: Name -> the preprocessing of images for an encoder.
PREPROCESSING: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"none": _as_they_are, "chexgenbench": chexgenbench}
)


def feature_batches(
    images: Images | np.ndarray,
    extractor: Extractor | None = None,
    *,
    preprocessing: str = "none",
    batch: int = 64,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Iterator[np.ndarray]:
    """Yield the features of images, (b, d) float32, with one batch per thread in memory.

    Args:
        images: Every record must have one. An array has shape (n, 1, H, W) or (n, H, W).
        extractor: By default the bundled encoder.
        preprocessing: One of `PREPROCESSING`.
        batch: Images at a time.
        progress: Called after each batch with the images done and all of them.
        device: The device of the batches; a module is moved there, too.

    Raises:
        CausalCXRError: If there are no images, the name is unknown, or features are not (b, d)
            and finite.

    Example:
        >>> batches = feature_batches(np.random.default_rng(0).random((3, 32, 32)), batch=2)
        >>> [part.shape for part in batches]
        [(2, 192), (1, 192)]
    """
    if preprocessing not in PREPROCESSING:
        hint = nearest(preprocessing, PREPROCESSING)
        raise CausalCXRError(
            f"preprocessing {preprocessing!r} is none of {', '.join(PREPROCESSING)}{hint}"
        )
    # Checked here and not at the first batch: a generator would fail late.
    checked = as_images(images, len(images))
    if checked is None or not len(checked) or batch < 1:
        raise CausalCXRError(f"{len(images)} images in batches of {batch}; give at least one")
    prepare, encoder = PREPROCESSING[preprocessing], extractor or load_features()
    if isinstance(encoder, nn.Module):
        encoder = encoder.to(device).eval()
    return _batches(checked, encoder, prepare, batch, progress, device)


def extract(
    images: Images | np.ndarray,
    extractor: Extractor | None = None,
    *,
    preprocessing: str = "none",
    batch: int = 64,
    progress: Progress | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Return the features of images, (n, d) float32; see `feature_batches`.

    50,000 vectors of 768 features take 154 MB; their images are never in memory together.

    Example:
        >>> extract(np.random.default_rng(0).random((3, 32, 32)), lambda x: x.mean((2, 3))).shape
        (3, 1)
    """
    total, out, done = len(images), None, 0
    for part in feature_batches(
        images,
        extractor,
        preprocessing=preprocessing,
        batch=batch,
        progress=progress,
        device=device,
    ):
        # The width is known from the first batch.
        if out is None:
            out = np.empty((total, part.shape[1]), dtype=np.float32)
        out[done : done + len(part)] = part
        done += len(part)
    return out


def _batches(
    images: Images,
    encoder: Extractor,
    prepare: Callable[[Tensor], Tensor],
    batch: int,
    progress: Progress | None,
    device: str,
) -> Iterator[np.ndarray]:
    @torch.no_grad()
    def encode(encoder: Extractor, pixels: np.ndarray) -> Tensor:
        return encoder(prepare(torch.from_numpy(pixels).to(device)))

    blocks = list(row_blocks(len(images), batch))
    pixels = (images[rows] for rows in blocks)
    # A module's batches are shared out over threads; any other function may not allow it.
    if isinstance(encoder, nn.Module):
        answers = map_in_order(encoder, encode, pixels)
    else:
        answers = (encode(encoder, part) for part in pixels)
    # Check every batch: an encoder may return anything.
    for rows, vectors in zip(blocks, answers, strict=True):
        count = rows.stop - rows.start
        if vectors.ndim != 2 or len(vectors) != count:
            raise CausalCXRError(
                f"extractor: it returned {tuple(vectors.shape)} for {count} images; it must "
                "return one vector per image, (n, d)"
            )
        part = vectors.float().cpu().numpy()
        if not np.isfinite(part).all():
            row = rows.start + int(np.isfinite(part).all(1).argmin())
            raise CausalCXRError(f"features of image {row} are not finite; check the image")
        yield part
        if progress is not None:
            progress(rows.stop, len(images))
