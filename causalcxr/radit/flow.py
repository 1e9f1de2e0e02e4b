"""The rectified flow: a straight path from noise to image, and the velocity along it.

    x_t = (1 - t) u + t x,    v(x_t, t) = E[x - u | x_t, parents]

One variable changes an image in few places. A network trained on limited data changes its velocity
a little everywhere, and then a twin drifts where it should not change. A penalty can be put on the
effect of another value of one variable j, its root mean square at each place p of 4 x 4 pixels, so
that weak effects vanish:

    loss + sparse mean_p |v(x_t, t; c) - v(x_t, t; c with another c_j)|_p

References:
    Flow Straight and Fast (Liu et al.), arXiv:2209.03003.
    Flow Matching for Generative Modeling (Lipman et al.), arXiv:2210.02747.
    Logit-normal times, shifted: Scaling Rectified Flow Transformers (Esser et al.),
    arXiv:2403.03206; how far: Simple Diffusion (Hoogeboom et al.), arXiv:2301.11093.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from causalcxr.radit.windows import Windows

__all__ = ["PLACE", "BatchNoise", "hide_some", "logit_normal", "velocity_loss"]

_EVERY = 4  # the penalty is computed for one image in this many
PLACE = 4  # pixels along each side of a place

# (noise, images, columns with some hidden) -> noise in another order.
Pairing = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


def logit_normal(normal: Tensor, shift: float = 1.0) -> Tensor:
    """Return times in (0, 1) from standard normal numbers.

    The share of noise 1 - t becomes s (1 - t) / (1 + (s - 1) (1 - t)): a large image needs more
    noise than a small one until its content disappears.

    Args:
        normal: Any shape.
        shift: 1 leaves the median at 1/2; side / 64 is suitable for pixels.

    Example:
        >>> logit_normal(torch.zeros(1), shift=4.0)
        tensor([0.2000])
    """
    noise = normal.neg().sigmoid()
    return 1 - shift * noise / (1 + (shift - 1) * noise)


@dataclass(frozen=True)
class BatchNoise:
    """The random numbers of a batch: noise, times, and which variables are hidden.

    Args:
        noise: Standard normal, (B, C, H, W).
        normal: Standard normal, (B,), from which times follow.
        uniform: In [0, 1), (B, 1 + variables): of all of a patient's variables, then of each.
    """

    noise: Tensor
    normal: Tensor
    uniform: Tensor

    @classmethod
    def draw(cls, shape: torch.Size, variables: int, generator: torch.Generator) -> "BatchNoise":
        """Draw the numbers of a batch of a shape (B, C, H, W), where the generator is."""
        g, device = generator, generator.device
        noise = torch.randn(shape, generator=g, device=device)
        normal = torch.randn(shape[0], generator=g, device=device)
        uniform = torch.rand(shape[0], 1 + variables, generator=g, device=device)
        return cls(noise, normal, uniform)

    def part(self, rows: slice) -> "BatchNoise":
        """Return the numbers of some rows, such as those of one process."""
        return BatchNoise(*(x[rows] for x in self._all))

    def to(self, device: torch.device) -> "BatchNoise":
        """Return the same numbers on another device."""
        return BatchNoise(*(x.to(device) for x in self._all))

    @property
    def _all(self) -> tuple[Tensor, ...]:
        return self.noise, self.normal, self.uniform


def hide_some(columns: dict[str, Tensor], rate: float, uniform: Tensor) -> dict[str, Tensor]:
    """Set each variable to missing with probability `rate`, and all of a patient's variables too.

    So every null is trained, and any subset of the variables may be missing later.

    Args:
        columns: The parents, each (B,).
        rate: The probability for one variable, and for all of a patient's variables.
        uniform: See `BatchNoise`.
    """
    if not columns:
        return columns
    hidden = (uniform[:, 1:] < rate) | (uniform[:, :1] < rate)
    x = torch.stack(list(columns.values()))
    return dict(zip(columns, x.masked_fill(hidden.T, torch.nan), strict=True))


def velocity_loss(
    net: nn.Module,
    images: Tensor,
    columns: dict[str, Tensor],
    generator: torch.Generator,
    hide: float = 0.05,
    *,
    shift: float = 1.0,
    pairing: Pairing | None = None,
    rows: slice | None = None,
    total: int | None = None,
    sparse: float = 0.0,
    others: dict[str, Tensor] | None = None,
    windows: Windows | None = None,
) -> Tensor:
    """Return the mean squared error of the velocity at one random time per image, plus a penalty.

    Args:
        net: A `RadiT`, possibly compiled or wrapped for several processes.
        images: (B, C, H, W), about [-1, 1].
        columns: The parents, each (B,).
        generator: The source of randomness; on the CPU, the numbers are the same on every device.
        hide: Rate at which variables are hidden.
        shift: See `logit_normal`.
        pairing: The pairing of noise and images; None keeps the noise as drawn.
        rows: The rows of these images in a larger batch of `total`, for all of which numbers are
            drawn: so they do not depend on the number of processes that share a batch.
        total: The size of that batch.
        sparse: Weight of the penalty on the effects of single variables; 0 for none.
        others: Parents of other patients, each (B,), which give the other values.
        windows: The windows of the network, if it sees one of each image.
    """
    more = {}
    if windows is not None:
        corners = windows.random(total or len(images), generator)
        more["corners"] = (corners if rows is None else corners[rows]).to(images.device)
        images = windows.cut(images, more["corners"])
    # Draw for the whole batch and take this part: the numbers do not depend on the division.
    shape = torch.Size([total or len(images), *images.shape[1:]])
    numbers = BatchNoise.draw(shape, len(columns), generator)
    numbers = (numbers if rows is None else numbers.part(rows)).to(images.device)
    # Hide variables, then pair noise and images by what the network sees.
    seen = hide_some(columns, hide, numbers.uniform)
    noise = numbers.noise if pairing is None else pairing(numbers.noise, images, seen)
    t = logit_normal(numbers.normal, shift)
    # The state on the straight path between noise and image.
    s = t.view(-1, 1, 1, 1)
    x, seen, penalised = (1 - s) * noise + s * images, dict(seen), slice(0, 0)
    # Every fourth image of the batch, counted from its first row and not from this part's.
    if sparse and others:
        penalised = slice(-(0 if rows is None else rows.start) % _EVERY, None, _EVERY)
        other = _one_other(seen, others, numbers.uniform, penalised)
        seen = {name: torch.cat([c, other[name]]) for name, c in seen.items()}
        x, t = torch.cat([x, x[penalised]]), torch.cat([t, t[penalised]])
        more = {name: torch.cat([c, c[penalised]]) for name, c in more.items()}
    # One call of the network, as wrappers for several processes need.
    velocity = net(x, t, columns=seen, **more).float()
    v, under_other = velocity[: len(images)], velocity[len(images) :]
    # The velocity of a straight path is the difference of its ends.
    loss = (v - (images - noise)).square().mean()
    if not len(under_other):
        return loss
    # The penalty: the root mean square effect at each place, smoothed at zero for its gradient.
    place = min(PLACE, *v.shape[-2:])
    squares = avg_pool2d((v[penalised] - under_other).square().mean(1, keepdim=True), place)
    effects = (squares + 1e-8).sqrt().flatten(1).mean(1)
    # Scaled up, as one image in `_EVERY` stands for all.
    return loss + sparse * effects.sum() * _EVERY / len(images)


def _one_other(
    columns: dict[str, Tensor], others: dict[str, Tensor], uniform: Tensor, rows: slice
) -> dict[str, Tensor]:
    """Return some patients' variables with one of them, chosen for each, taken from another."""
    x = torch.stack(list(columns.values()))[:, rows]
    y = torch.stack([others[name] for name in columns])[:, rows]
    which = uniform[rows, 1:].argmax(1)  # the largest number, so never a hidden variable
    is_chosen = torch.arange(len(x), device=x.device)[:, None] == which
    return dict(zip(columns, torch.where(is_chosen, y, x), strict=True))
