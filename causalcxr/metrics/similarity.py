"""Similarity of images: L1, RMSE, PSNR, SSIM, and a distance of learned features."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, normalize, pad

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.inputs import Array, read_images, row_blocks, same_length
from causalcxr.radit.features import load_features
from causalcxr.radit.perceptual import FeatureMaps

__all__ = ["SIMILARITIES", "feature_distance", "l1", "psnr", "rmse", "ssim"]

_BATCH = 128
_SIGMA, _REACH = 1.5, 5  # a window of 11 x 11
_C1, _C2 = 0.01**2, 0.03**2  # of a range of 1


def l1(images: Array, others: Array) -> np.ndarray:
    """Return mean |x - y| of each pair, (n,).

    Args:
        images: Shape (n, 1, H, W), between 0 and 1.
        others: Likewise.

    Raises:
        CausalCXRError: If shapes differ or a pixel is not finite.

    Example:
        >>> l1(np.zeros((1, 2, 2)), np.full((1, 2, 2), 0.25)).tolist()
        [0.25]
    """
    return _each(images, others, lambda x, y: (x - y).abs().mean((1, 2, 3)))


def rmse(images: Array, others: Array) -> np.ndarray:
    """Return (mean (x - y)^2)^1/2 of each pair, (n,); see `l1`.

    Example:
        >>> rmse(np.zeros((1, 1, 2)), np.array([[[0.6, 0.8]]])).round(6).tolist()
        [0.707107]
    """
    return _each(images, others, lambda x, y: (x - y).square().mean((1, 2, 3)).sqrt())


def psnr(images: Array, others: Array) -> np.ndarray:
    """Return -10 log10 mean (x - y)^2 of each pair in dB, (n,); infinite for equal images.

    The range of grey levels is 1; see `l1`.

    Example:
        >>> psnr(np.zeros((1, 1, 1)), np.array([[[0.1]]])).round(6).tolist()
        [20.0]
    """
    return _each(images, others, lambda x, y: -10 * (x - y).square().mean((1, 2, 3)).log10())


def ssim(images: Array, others: Array) -> np.ndarray:
    """Return the structural similarity of each pair, (n,): 1 for equal images.

    (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)), means and
    (co)variances under a Gaussian window of 11 x 11 and standard deviation 1.5, averaged over the
    image, which is mirrored at its borders as in torchmetrics; c1 = .01^2 and c2 = .03^2.

    References:
        Image quality assessment: from error visibility to structural similarity (Wang et al.),
        doi:10.1109/TIP.2003.819861.

    Args:
        images: Shape (n, 1, H, W), between 0 and 1, of 6 x 6 pixels or more.
        others: Likewise.

    Raises:
        CausalCXRError: If shapes differ, a pixel is not finite, or images are smaller.

    Example:
        >>> ssim(np.zeros((1, 11, 11)), np.ones((1, 11, 11))).round(8).tolist()
        [9.999e-05]
    """
    height, width = np.shape(images)[-2:] if np.ndim(images) > 2 else (0, 0)
    if min(height, width) <= _REACH:
        raise CausalCXRError(
            f"SSIM: images of {height} x {width} pixels are smaller than 6 x 6, too small for its "
            "window of 11 x 11; give larger images"
        )
    return _each(images, others, _ssim)


def feature_distance(
    images: Array,
    others: Array,
    network: FeatureMaps | Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    """Return the distance of feature maps of each pair, (n,): 0 for equal images.

    At each layer and place the vectors of both are scaled to length one and subtracted; squared
    lengths are averaged over places, then over layers. Unlike in LPIPS, there are no weights
    learned from human judgement.

    References:
        The Unreasonable Effectiveness of Deep Features (Zhang et al.), arXiv:1801.03924.

    Args:
        images: Shape (n, 1, H, W), between 0 and 1.
        others: Likewise.
        network: By default the bundled encoder. A network without maps gives its vectors, (B, d).

    Raises:
        CausalCXRError: If shapes differ or a pixel is not finite.

    Example:
        >>> x = np.random.default_rng(0).random((2, 32, 32))
        >>> near, far = feature_distance(np.stack([x[0]] * 2), x)
        >>> float(near), bool(far > 0.01)
        (0.0, True)
    """
    encoder = network or load_features()
    # A network that returns vectors counts as one map of one pixel.
    maps = getattr(encoder, "maps", None) or (lambda x: [encoder(x)[:, :, None, None]])

    def apart(x: Tensor, y: Tensor) -> Tensor:
        # Scale each place's vector to length one: its direction counts, not its size.
        parts = [
            (normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1).mean((1, 2))
            for a, b in zip(maps(x.float()), maps(y.float()), strict=True)
        ]
        return torch.stack(parts).mean(0)

    return _each(images, others, apart)


#: Name -> a function of pairs of images, (n,).
SIMILARITIES: Mapping[str, Callable[[Array, Array], np.ndarray]] = MappingProxyType(
    {"L1": l1, "RMSE": rmse, "PSNR": psnr, "SSIM": ssim, "features": feature_distance}
)


def _each(
    images: Array,
    others: Array,
    measure: Callable[[Tensor, Tensor], Tensor],
    batch: int = _BATCH,
) -> np.ndarray:
    """Return a figure of each pair in float64, a batch at a time."""
    x, y = read_images("images", images), read_images("others", others)
    out = np.empty(same_length(images=x, others=y))
    for rows in row_blocks(len(x), batch):
        # In float64, as the rounding of float32 would show between nearly equal images.
        pair = (torch.from_numpy(np.ascontiguousarray(z[rows])).double() for z in (x, y))
        with torch.no_grad():
            out[rows] = measure(*pair).numpy()
    return out


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    # A Gaussian window, separable: two narrow convolutions instead of a square one.
    place = torch.arange(-_REACH, _REACH + 1, dtype=x.dtype)
    window = (-place.square() / (2 * _SIGMA**2)).exp()
    window = (window / window.sum()).reshape(1, 1, -1, 1)

    def mean(z: Tensor) -> Tensor:
        # Mirrored at the edge, so that the figure has the size of the image.
        mirrored = pad(z, (_REACH,) * 4, mode="reflect")
        return conv2d(conv2d(mirrored, window), window.mT)

    mx, my = mean(x), mean(y)
    # Rounding may make a variance slightly negative.
    spread = (mean(x * x) - mx * mx).clamp(min=0) + (mean(y * y) - my * my).clamp(min=0)
    joint = mean(x * y) - mx * my
    top = (2 * mx * my + _C1) * (2 * joint + _C2)
    return (top / ((mx * mx + my * my + _C1) * (spread + _C2))).mean((1, 2, 3))
