"""Counterfactuals by inverting a diffusion model deterministically (DDIM).

    x_t = a_t x + s_t e,   a_t = cos(pi t / 2), s_t = sin(pi t / 2)
    x_r = a_r (x_t - s_t e(x_t, t; parents)) / a_t + s_r e(x_t, t; parents)

Up to t = 1 given the factual parents, down again given the others. The solver is of first order,
so the way back differs from the way there.

References:
    Denoising Diffusion Implicit Models (Song et al.), arXiv:2010.02502.
    Diffusion Causal Models for Counterfactual Estimation (Sanchez & Tsaftaris), arXiv:2202.10166:
    inversion, then generation under an intervention; there guided by a classifier, here by the
    network's own condition.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.radit.flow import hide_some

__all__ = ["DDIMEquation", "noise_loss"]

_LAST = 0.98  # at t = 1 nothing of the image is left
_CHUNK = 16


def _schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    angle = t * torch.pi / 2
    return angle.cos(), angle.sin()


def noise_loss(
    net: nn.Module, images: Tensor, columns: Columns, generator: torch.Generator
) -> Tensor:
    """Return the mean squared error of the predicted noise at one random time for each image."""
    t = torch.rand(len(images), generator=generator) * _LAST
    noise = torch.randn(images.shape, generator=generator)
    hidden = torch.rand(len(images), 1 + len(columns), generator=generator)
    a, s = (c.view(-1, 1, 1, 1) for c in _schedule(t))
    shown = hide_some(columns, 0.05, hidden)
    return (net(a * images + s * noise, t, columns=shown) - noise).square().mean()


class DDIMEquation(Equation):
    """Invert and generate by DDIM, given the parents.

    Args:
        net: Predicts the noise, from (x_t, t; parents).
        parents: Each (n,).
        steps: In each direction.
    """

    def __init__(self, net: nn.Module, parents: Columns, steps: int = 32) -> None:
        self.net, self.parents = net, parents
        self.times = torch.linspace(0, _LAST, steps + 1).tolist()

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the noise of images (n, 1, H, W), 0 to 1; this is deterministic."""
        return self._solve(2 * x.float() - 1, self.times)

    def predict(self, u: Tensor) -> Tensor:
        """Return images."""
        return (self._solve(u, self.times[::-1]).double() + 1) / 2

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return standard normal noise."""
        size = self.net.config.size
        return torch.from_numpy(draws.normal(size[0] * size[1])).view(-1, 1, *size).float()

    @torch.no_grad()
    def _solve(self, x: Tensor, times: list[float]) -> Tensor:
        parts = []
        for rows in torch.arange(len(x)).split(_CHUNK):
            state = x[rows]
            columns = {name: c[rows].float() for name, c in self.parents.items()}
            condition = self.net.embed_condition(columns, len(rows))
            for t, r in pairwise(times):
                now, then = torch.full((len(rows),), t), torch.tensor(r)
                noise = self.net(state, now, condition)
                (a, s), (b, q) = _schedule(torch.tensor(t)), _schedule(then)
                state = b * (state - s * noise) / a + q * noise
            parts.append(state)
        return torch.cat(parts)
