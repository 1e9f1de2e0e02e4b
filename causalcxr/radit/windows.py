"""Windows: a network that sees a part of an image at a time, so that fine detail costs no more.

Training cuts one window from each image, at a random place. The velocity of a whole image is the
mean of those of overlapping windows, weighted by a tent: 1 in the middle of a window, and almost 0
at its edge, so that no edge shows.
"""

import torch
from torch import Tensor

__all__ = ["Windows"]


class Windows:
    """The windows of an image, in units of patches.

    Args:
        grid: Rows and columns of patches of the image.
        side: Patches along each side of a window.
        patch: Pixels along each side of a patch.

    Example:
        >>> windows = Windows((16, 16), side=8, patch=8)
        >>> len(windows.corners), windows.corners[1].tolist()
        (9, [0, 4])
        >>> images = torch.rand(2, 1, 128, 128)
        >>> parts = torch.cat([windows.cut(images, c.expand(2, 2)) for c in windows.corners])
        >>> torch.allclose(windows.blended(parts), images)
        True
    """

    def __init__(self, grid: tuple[int, int], side: int, patch: int) -> None:
        self.grid, self.side, self.patch = grid, side, patch
        #: The top left patch of each overlapping window, (windows, 2).
        self.corners = torch.cartesian_prod(*(self._starts(length) for length in grid))
        # The weight of a pixel in its window.
        place = torch.arange(side * patch) + 0.5
        tent = torch.minimum(place, side * patch - place)
        self.tent = tent[:, None] * tent

    def _starts(self, length: int) -> Tensor:
        last = length - self.side
        steps = -(-last // max(1, self.side // 2))
        return torch.tensor([round(k * last / steps) for k in range(steps + 1)] if steps else [0])

    def random(self, n: int, generator: torch.Generator) -> Tensor:
        """Return the top left patches of n windows, (n, 2), each place equally likely."""
        places = [
            torch.randint(
                length - self.side + 1, (n,), generator=generator, device=generator.device
            )
            for length in self.grid
        ]
        return torch.stack(places, 1)

    def tokens(self, corners: Tensor) -> Tensor:
        """Return the positions of each window's patches among those of the image, (B, N)."""
        steps = torch.arange(self.side, device=corners.device)
        rows, columns = (corners[:, k, None] + steps for k in (0, 1))
        return (rows[:, :, None] * self.grid[1] + columns[:, None]).flatten(1)

    def cut(self, images: Tensor, corners: Tensor) -> Tensor:
        """Return a window of each image (B, C, H, W), (B, C, h, w)."""
        side = self.side * self.patch
        starts = (corners * self.patch).tolist()
        pairs = zip(images, starts, strict=True)
        return torch.stack([x[:, i : i + side, j : j + side] for x, (i, j) in pairs])

    def blended(self, parts: Tensor) -> Tensor:
        """Return whole images from all overlapping windows, (windows B, C, h, w), window first."""
        parts = parts.unflatten(0, (len(self.corners), -1))
        height, width = (length * self.patch for length in self.grid)
        whole = parts.new_zeros(*parts.shape[1:3], height, width)
        weight = parts.new_zeros(height, width)
        tent, side = self.tent.to(parts), self.side * self.patch
        for part, (i, j) in zip(parts, (self.corners * self.patch).tolist(), strict=True):
            whole[..., i : i + side, j : j + side] += tent * part
            weight[i : i + side, j : j + side] += tent
        return whole / weight
